package ipvlan

import (
	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	roles.MasterKeys `key:"master" doc:"the interface that it is made on; left out: the single interface of prevResult, or that of the default route, of IPv4 or else of IPv6"`
	Mode             string        `json:"mode" enum:"l2,l3,l3s" default:"l2" doc:"'l2': a switch; 'l3': a router without broadcasts; 'l3s': the same, with the host's packet filter and connection tracking. All ipvlans of a master have the mode of the last one made"`
	Flag             string        `json:"flag" enum:"bridge,private,vepa" default:"bridge" doc:"'bridge': ipvlans of one master reach each other; 'private': they do not; 'vepa': through a switch that sends frames back"`
	MTU              int           `json:"mtu" min:"68" max:"65535" also:"0" default:"0" doc:"bytes, at most the master's; 0 is the master's; IPv6 needs 1280"`
	DNS              types.DNS     `json:"dns" doc:"replaces what ipam says"`
	IPAM             roles.IPAMKey `json:"ipam" plugin:"ipam" doc:"any ipam plugin; left out: the addresses of prevResult, which the result then is in place of, or layer 2 only if there is none"`

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
