// Command floor is the yardstick "near the kernel's own limit": one process that does the kernel work of an ADD or a DEL of bridge and ptp,
// with and without masquerade, in as few and as cheap steps as are known, and nothing that makes a plugin safe to use. It checks nothing,
// undoes nothing, takes its address from a counter, and knows one network. The benchmark makes its table of the packet filter.
package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
)

// call is what the runtime asks for.
type call struct {
	role, netns, ifName string
	hostIf              string
	dataDir             string
	masquerade, ipv6    bool
	address             string // of the previous result
}

func main() {
	conf, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = run(os.Getenv("CNI_COMMAND"), newCall(string(conf)))
	}
	if err != nil {
		_, _ = os.Stdout.WriteString(`{"code": 999, "msg": "floor: ` + err.Error() + `"}`)
		os.Exit(1)
	}
}

// newCall finds the few keys that it needs without decoding the configuration, which is as the benchmark writes it.
func newCall(conf string) call {
	return call{
		role:       filepath.Base(os.Args[0]),
		netns:      os.Getenv("CNI_NETNS"),
		ifName:     os.Getenv("CNI_IFNAME"),
		hostIf:     hostName(os.Getenv("CNI_CONTAINERID")),
		dataDir:    value(conf, "dataDir"),
		masquerade: strings.Contains(conf, `"ipMasq":true`),
		ipv6:       strings.Contains(conf, `"subnet":"fd`),
		address:    value(conf, "address"),
	}
}

// value is the text that stands behind the first key of that name.
func value(conf, key string) string {
	_, rest, _ := strings.Cut(conf, `"`+key+`":"`)
	text, _, _ := strings.Cut(rest, `"`)
	return text
}

// hostName is FNV-1a over the container ID, in hexadecimal digits.
func hostName(id string) string {
	hash := uint64(14695981039346656037)
	for i := range len(id) {
		hash = (hash ^ uint64(id[i])) * 1099511628211
	}
	name := []byte("floor0000000000")
	for i := 5; i < len(name); i++ {
		name[i] = "0123456789abcdef"[hash&15]
		hash >>= 4
	}
	return string(name)
}

func run(verb string, c call) error {
	switch verb {
	case "ADD":
		return c.add()
	case "DEL":
		return c.del()
	default:
		_, err := os.Stdout.WriteString(`{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}`)
		return err
	}
}
