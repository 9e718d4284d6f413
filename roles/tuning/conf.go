package tuning

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/record"
	"github.com/cnibox/cnibox/roles"
)

// defaultDataDir is where records are kept; what they put back is gone after a reboot, and so are they.
const defaultDataDir = "/run/cni/tuning"

// settings are the keys that the configuration has, and args.cni as well.
type settings struct {
	Sysctl   json.RawMessage `json:"sysctl" type:"object" doc:"names and values, set in their order. Only 'net.*', with dots or slashes; whichever comes first separates, so 'net/ipv4/conf/eth0.7/forwarding' is possible. 'IFNAME' stands for the interface's name"` // an object whose order counts
	MAC      string          `json:"mac" doc:"MAC address"`
	MTU      *int            `json:"mtu" min:"68" max:"65535" also:"0" doc:"bytes; IPv6 needs 1280"`
	Promisc  *bool           `json:"promisc" default:"false" doc:"receive all frames; false leaves the interface as it is"`
	AllMulti *bool           `json:"allmulti" doc:"receive all multicast frames, or not"`
	TxQLen   *int            `json:"txQLen" min:"0" max:"2147483647" doc:"packets that may wait to be sent"`

	sysctls sysctls // of the key sysctl
}

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	settings
	DataDir string `json:"dataDir" default:"/run/cni/tuning" doc:"folder for the records; an absolute path"`
	Args    struct {
		CNI settings `json:"cni" doc:"'sysctl', 'mac', 'mtu', 'promisc', 'allmulti' and 'txQLen' in place of the configuration's"`
	} `json:"args"`
	RuntimeConfig struct {
		MAC string `json:"mac" doc:"capability 'mac': MAC address"`
	} `json:"runtimeConfig"`

	sysctl []netutil.Sysctl // in the order of the configuration
	link   netutil.Settings
}

// sysctls are in the order of the configuration: one may bring another about.
type sysctls []sysctl

type sysctl struct{ key, value string }

// parseSysctls reads the key sysctl. A name that is there twice is refused, since one of its values would be passed over.
func parseSysctls(object json.RawMessage) (out sysctls, err error) {
	if len(object) == 0 || string(object) == "null" {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(object))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return nil, invalid("sysctl: it is no object")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, invalid("sysctl: %w", err)
		}
		one := sysctl{key: fmt.Sprint(name)}
		var value any
		if err := d.Decode(&value); err != nil {
			return nil, invalid("sysctl: %w", err)
		}
		isString := false
		if one.value, isString = value.(string); !isString {
			return nil, invalid("sysctl: the value of %s is no string", one.key)
		}
		if slices.ContainsFunc(out, func(have sysctl) bool { return have.key == one.key }) {
			return nil, invalid("sysctl: %s is there twice", one.key)
		}
		out = append(out, one)
	}
	return out, nil
}

func invalid(format string, args ...any) error {
	return errcode.Errorf(errcode.InvalidConfig, format, args...)
}

// set adds a sysctl, or replaces its value.
func (s *sysctls) set(one sysctl) {
	for i := range *s {
		if (*s)[i].key == one.key {
			(*s)[i] = one
			return
		}
	}
	*s = append(*s, one)
}

// load reads and checks the configuration.
func load(r *roles.Request) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	if err := c.check(r.Owner.IfName); err != nil {
		return nil, err
	}
	if err := c.Args.CNI.check(r.Owner.IfName); err != nil {
		return nil, fmt.Errorf("args.cni.%w", err)
	}
	c.merge()
	if err := c.plan(r.Owner.IfName); err != nil {
		return nil, err
	}
	if c.DataDir != "" && !filepath.IsAbs(c.DataDir) {
		return nil, invalid("dataDir: %q is no absolute path", c.DataDir)
	}
	return c, c.chooseMAC(r.Args)
}

// check reads the sysctls, and refuses what no interface can have.
func (s *settings) check(ifName string) (err error) {
	if s.sysctls, err = parseSysctls(s.Sysctl); err != nil {
		return err
	}
	for _, one := range s.sysctls {
		if _, err := pathOf(one.key, ifName); err != nil {
			return err
		}
	}
	if s.MTU != nil {
		if err := roles.CheckMTU(*s.MTU); err != nil {
			return err
		}
	}
	const mostPackets = 1<<31 - 1
	if s.TxQLen != nil && (*s.TxQLen < 0 || *s.TxQLen > mostPackets) {
		return invalid("txQLen: %d is not within 0 and %d", *s.TxQLen, mostPackets)
	}
	return nil
}

// merge puts what args.cni asks for in place of the configuration's.
func (c *conf) merge() {
	asked := &c.Args.CNI
	for _, s := range asked.sysctls {
		c.sysctls.set(s)
	}
	if asked.Promisc != nil {
		c.Promisc = asked.Promisc
	}
	if asked.MTU != nil {
		c.MTU = asked.MTU
	}
	if asked.AllMulti != nil {
		c.AllMulti = asked.AllMulti
	}
	if asked.TxQLen != nil {
		c.TxQLen = asked.TxQLen
	}
}

// plan is what is to be set, but for the MAC address.
func (c *conf) plan(ifName string) error {
	for _, s := range c.sysctls {
		path, err := pathOf(s.key, ifName)
		if err != nil {
			return err
		}
		c.sysctl = append(c.sysctl, netutil.Sysctl{Place: netutil.Sandbox, Path: path, Value: s.value})
	}
	if c.MTU != nil {
		c.link.MTU = *c.MTU
	}
	c.link.TxQLen, c.link.AllMulti = c.TxQLen, c.AllMulti
	if c.Promisc != nil && *c.Promisc { // false is the default of a key that once had no other
		c.link.Promisc = c.Promisc
	}
	return nil
}

// pathOf takes a sysctl's name apart. As with sysctl(8), the separator that comes first counts, so that an interface's name may have dots.
// Only what belongs to the network namespace can be changed.
func pathOf(key, ifName string) ([]string, error) {
	separator := "."
	if i := strings.IndexAny(key, "./"); i >= 0 {
		separator = key[i : i+1]
	}
	path := strings.Split(key, separator)
	for i, part := range path {
		path[i] = strings.Replace(part, "IFNAME", ifName, 1)
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "/\x00") {
			return nil, invalid("sysctl: %q is no name of a sysctl", key)
		}
	}
	if path[0] != "net" || len(path) < 2 {
		return nil, invalid("sysctl: %q is not one of the network's (net.*)", key)
	}
	return path, nil
}

// chooseMAC is in the order of the reference: args.cni.mac, runtimeConfig.mac, MAC in CNI_ARGS, mac.
func (c *conf) chooseMAC(cniArgs string) error {
	wishes := roles.MACWishes{}
	wishes.RuntimeConfig.MAC = c.RuntimeConfig.MAC
	var err error
	switch {
	case c.Args.CNI.MAC != "":
		c.link.MAC, err = roles.ParseMAC("args.cni.mac", c.Args.CNI.MAC)
	default:
		c.link.MAC, err = wishes.ChooseMAC(cniArgs)
	}
	if err == nil && c.link.MAC == nil && c.MAC != "" {
		c.link.MAC, err = roles.ParseMAC("mac", c.MAC)
	}
	return err
}

// folder is where the records are. DEL and GC may have another path than ADD takes: then there can be records in the default's place only.
func (c *conf) folder() record.Folder {
	if !filepath.IsAbs(c.DataDir) {
		return defaultDataDir
	}
	return record.Folder(c.DataDir)
}
