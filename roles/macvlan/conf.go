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
	roles.MACWishes
	Mode       string    `json:"mode"`
	MTU        int       `json:"mtu"`
	MAC        string    `json:"mac"`
	BCQueueLen int64     `json:"bcqueuelen"`
	DNS        types.DNS `json:"dns"`

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
