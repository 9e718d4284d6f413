package vlan

import (
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	roles.MasterKeys
	VLANID   int       `json:"vlanId"`
	Protocol string    `json:"protocol"`
	MTU      int       `json:"mtu"`
	DNS      types.DNS `json:"dns"`

	protocol uint16
}

// load reads and checks the configuration.
func load(r *roles.Request) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	if c.Master == "" {
		return nil, errcode.Errorf(errcode.InvalidConfig, "master: missing")
	}
	if err := c.CheckMaster(); err != nil {
		return nil, err
	}
	const most = 4094 // IEEE 802.1Q, table 9-2: 0 is the tag of a frame that has only a priority, 4095 is reserved
	if c.VLANID < 0 || c.VLANID > most {
		return nil, errcode.Errorf(errcode.InvalidConfig, "vlanId: %d is not within 0 and %d", c.VLANID, most)
	}
	switch strings.ToLower(c.Protocol) {
	case "", "802.1q":
		c.protocol = unix.ETH_P_8021Q
	case "802.1ad":
		c.protocol = unix.ETH_P_8021AD
	default:
		return nil, errcode.Errorf(errcode.InvalidConfig, "protocol: %q is neither 802.1Q nor 802.1ad", c.Protocol)
	}
	return c, roles.CheckMTU(c.MTU)
}
