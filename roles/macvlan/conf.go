package macvlan

import (
	"net"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	roles.MasterKeys
	Mode       string        `json:"mode" enum:"bridge,private,vepa,passthru" default:"bridge" doc:"'bridge': macvlans of one master reach each other; 'private': they do not; 'vepa': through a switch that sends frames back; 'passthru': one macvlan, which has the master to itself, MAC address included"`
	MTU        int           `json:"mtu" min:"68" max:"65535" also:"0" default:"0" doc:"bytes, at most the master's; 0 is the master's; IPv6 needs 1280"`
	MAC        string        `json:"mac" doc:"MAC address"`
	BCQueueLen int64         `json:"bcqueuelen" min:"0" max:"4294967295" default:"0" doc:"how many broadcasts may wait to be handed on to the other macvlans; 0 is the kernel's default, 1000"`
	DNS        types.DNS     `json:"dns" doc:"replaces what ipam says"`
	IPAM       roles.IPAMKey `json:"ipam" plugin:"ipam" doc:"any ipam plugin; left out: layer 2 only"`
	roles.MACWishes

	mode uint32
	mac  net.HardwareAddr // nil: nobody asked for one
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
	if c.BCQueueLen < 0 || c.BCQueueLen > 1<<32-1 {
		return nil, errcode.Errorf(errcode.InvalidConfig, "bcqueuelen: %d is not within 0 and %d", c.BCQueueLen, uint32(1<<32-1))
	}
	var err error
	if c.mode, err = parseMode(c.Mode); err != nil {
		return nil, err
	}
	if c.mac, err = c.ChooseMAC(r.Args); err != nil || c.mac != nil || c.MAC == "" {
		return c, err
	}
	c.mac, err = roles.ParseMAC("mac", c.MAC)
	return c, err
}

func parseMode(name string) (uint32, error) {
	switch name {
	case "", "bridge":
		return rtnl.MacvlanBridge, nil
	case "private":
		return rtnl.MacvlanPrivate, nil
	case "vepa":
		return rtnl.MacvlanVEPA, nil
	case "passthru":
		return rtnl.MacvlanPassthru, nil
	}
	return 0, errcode.Errorf(errcode.InvalidConfig, "mode: %q is none of bridge, private, vepa and passthru", name)
}
