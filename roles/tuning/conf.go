package tuning

import (
	"bytes"
	"encoding/json"
	"path/filepath"
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
	Sysctl   sysctls `json:"sysctl"`
	MAC      string  `json:"mac"`
	Promisc  *bool   `json:"promisc"`
	MTU      *int    `json:"mtu"`
	AllMulti *bool   `json:"allmulti"`
	TxQLen   *int    `json:"txQLen"`
}

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	settings
	DataDir string `json:"dataDir"`
	Args    struct {
		CNI settings `json:"cni"`
	} `json:"args"`
	RuntimeConfig struct {
		MAC string `json:"mac"`
	} `json:"runtimeConfig"`

	sysctl []netutil.Sysctl // in the order of the configuration
	link   netutil.Settings
}

// sysctls is an object whose keys keep their order: one sysctl may bring another about.
type sysctls []sysctl

type sysctl struct{ key, value string }

// UnmarshalJSON also refuses a key that is there twice, of which one would be passed over.
func (s *sysctls) UnmarshalJSON(text []byte) error {
	*s = nil
	values := map[string]string{}
	if err := json.Unmarshal(text, &values); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		token, err := d.Token()
		if err != nil {
			break // the end: all of it has been read before
		}
		key, ok := token.(string)
		if !ok {
			continue
		}
		if value, err := d.Token(); err != nil || value != any(values[key]) {
			return errcode.Errorf(errcode.InvalidConfig, "sysctl: %s is there twice", key)
		}
		if s.has(key) {
			return errcode.Errorf(errcode.InvalidConfig, "sysctl: %s is there twice", key)
		}
		*s = append(*s, sysctl{key, values[key]})
	}
	return nil
}

func (s *sysctls) has(key string) bool {
	for _, have := range *s {
		if have.key == key {
			return true
		}
	}
	return false
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
	c.merge()
	if err := c.checkSysctls(r.Owner.IfName); err != nil {
		return nil, err
	}
	if err := c.checkLink(); err != nil {
		return nil, err
	}
	if _, err := c.folder(); err != nil {
		return nil, err
	}
	return c, c.chooseMAC(r.Args)
}

// merge puts what args.cni asks for in place of the configuration's.
func (c *conf) merge() {
	asked := &c.Args.CNI
	for _, s := range asked.Sysctl {
		c.Sysctl.set(s)
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

func (c *conf) checkSysctls(ifName string) error {
	for _, s := range c.Sysctl {
		path, err := pathOf(s.key, ifName)
		if err != nil {
			return err
		}
		c.sysctl = append(c.sysctl, netutil.Sysctl{Place: netutil.Sandbox, Path: path, Value: s.value})
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
			return nil, errcode.Errorf(errcode.InvalidConfig, "sysctl: %q is no name of a sysctl", key)
		}
	}
	if path[0] != "net" || len(path) < 2 {
		return nil, errcode.Errorf(errcode.InvalidConfig, "sysctl: %q is not one of the network's (net.*)", key)
	}
	return path, nil
}

func (c *conf) checkLink() error {
	if c.MTU != nil {
		if err := roles.CheckMTU(*c.MTU); err != nil {
			return err
		}
		c.link.MTU = *c.MTU
	}
	const mostPackets = 1<<31 - 1
	if c.TxQLen != nil && (*c.TxQLen < 0 || *c.TxQLen > mostPackets) {
		return errcode.Errorf(errcode.InvalidConfig, "txQLen: %d is not within 0 and %d", *c.TxQLen, mostPackets)
	}
	c.link.TxQLen, c.link.AllMulti = c.TxQLen, c.AllMulti
	if c.Promisc != nil && *c.Promisc { // false is the default of a key that once had no other
		c.link.Promisc = c.Promisc
	}
	return nil
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

// folder is where the records are.
func (c *conf) folder() (record.Folder, error) {
	switch {
	case c.DataDir == "":
		return defaultDataDir, nil
	case !filepath.IsAbs(c.DataDir):
		return "", errcode.Errorf(errcode.InvalidConfig, "dataDir: %q is no absolute path", c.DataDir)
	}
	return record.Folder(c.DataDir), nil
}
