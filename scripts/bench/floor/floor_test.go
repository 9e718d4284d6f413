package main

import (
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// The yardstick does the work that it is a yardstick for: what it attaches is reachable, and DEL removes it.
func TestFloor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, role := range []string{"bridge", "ptp"} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, role), ".")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	const v4, v6 = "10.100.0.0/16", "fd00:100::/64"
	const far4, far6 = "198.51.100.1", "2001:db8::1"
	for _, test := range []struct{ role, subnet, gateway, far string }{
		{"bridge", v4, "10.100.0.1", far4},
		{"bridge", v6, "fd00:100::1", far6},
		{"ptp", v4, "10.100.0.1", far4},
		{"ptp", v6, "fd00:100::1", far6},
	} {
		t.Run(test.role+" "+test.subnet, func(t *testing.T) {
			t.Parallel()
			host, pod := nstest.New(t, "host"), nstest.New(t, "pod")
			masq := test.subnet == v4
			if masq {
				host.Run("nft", "table ip floor { set pods { type ipv4_addr; }; }")
			}
			conf := map[string]any{"ipMasq": masq, "ipam": map[string]any{"dataDir": t.TempDir(), "subnet": test.subnet}}
			call := func(verb string) []byte {
				return callPlugin(t, host, filepath.Join(dir, test.role), verb, pod.Path, conf)
			}
			var result struct {
				IPs []struct{ Address netip.Prefix }
			}
			if err := json.Unmarshal(call("ADD"), &result); err != nil {
				t.Fatal(err)
			}
			addr := result.IPs[0].Address
			if netip.MustParsePrefix(test.subnet) != addr.Masked() {
				t.Errorf("the address is %s", addr)
			}
			pod.Run("ping", "-c1", "-W2", test.gateway)
			host.Run("ping", "-c1", "-W2", addr.Addr().String())
			if routes := pod.Run("ip", "-o", "route", "get", test.far); !strings.Contains(routes, "via "+test.gateway) {
				t.Errorf("no default route: %s", routes)
			}
			if masq && !strings.Contains(host.Run("nft", "list", "table", "ip", "floor"), addr.Addr().String()) {
				t.Error("the pod is not masqueraded")
			}
			conf["prevResult"] = json.RawMessage(`{"ips":[{"address":"` + addr.String() + `"}]}`)
			call("DEL")
			nothingLeft(t, host, masq)
		})
	}
}

func callPlugin(t *testing.T, host *nstest.NS, path, verb, netns string, conf map[string]any) []byte {
	t.Helper()
	stdin, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	err = host.Do(func() (err error) {
		cmd := exec.Command(path)
		cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID=x", "CNI_IFNAME=eth0", "CNI_NETNS="+netns)
		cmd.Stdin = strings.NewReader(string(stdin))
		out, err = cmd.Output()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v: %s", verb, err, out)
	}
	return out
}

func nothingLeft(t *testing.T, host *nstest.NS, masq bool) {
	t.Helper()
	var links []net.Interface
	err := host.Do(func() (err error) {
		links, err = net.Interfaces()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name, "floor") {
			t.Errorf("link %s is left", l.Name)
		}
	}
	if masq && strings.Contains(host.Run("nft", "list", "table", "ip", "floor"), "elements") {
		t.Error("the element is left")
	}
}
