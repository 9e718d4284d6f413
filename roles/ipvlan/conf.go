package ipvlan

import (
	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	roles.MasterKeys
	Mode string    `json:"mode"`
	Flag string    `json:"flag"`
	MTU  int       `json:"mtu"`
	DNS  types.DNS `json:"dns"`

	mode uint32
	flag uint16
}

// load reads and checks the configuration.
func load(r *roles.Request) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	if err := c.CheckMaster(); err != nil {
		return nil, err
	}
	if err := roles.CheckMTU(c.MTU); err != nil {
		return nil, err
	}
	var err error
	if c.mode, err = parseMode(c.Mode); err != nil {
		return nil, err
	}
	c.flag, err = parseFlag(c.Flag)
	return c, err
}

func parseMode(name string) (uint32, error) {
	switch name {
	case "", "l2":
		return rtnl.IPvlanL2, nil
	case "l3":
		return rtnl.IPvlanL3, nil
	case "l3s":
		return rtnl.IPvlanL3S, nil
	}
	return 0, errcode.Errorf(errcode.InvalidConfig, "mode: %q is none of l2, l3 and l3s", name)
}

func parseFlag(name string) (uint16, error) {
	switch name {
	case "", "bridge":
		return 0, nil
	case "private":
		return rtnl.IPvlanPrivate, nil
	case "vepa":
		return rtnl.IPvlanVEPA, nil
	}
	return 0, errcode.Errorf(errcode.InvalidConfig, "flag: %q is none of bridge, private and vepa", name)
}

// takeOver makes the single interface of a prevResult the master, where nobody names one.
func (c *conf) takeOver(r *roles.Request) error {
	if c.Master != "" || r.Prev == nil {
		return nil
	}
	if len(r.Prev.Interfaces) != 1 || r.Prev.Interfaces[0].Name == "" {
		return errcode.Errorf(errcode.InvalidConfig, "master: missing, and prevResult has not just one interface that could serve")
	}
	c.Master = r.Prev.Interfaces[0].Name
	return c.CheckMaster()
}
