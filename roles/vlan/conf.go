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
	roles.MasterKeys `key:"master" required:"true" doc:"the interface that it is made on"`
	VLANID           int           `json:"vlanId" min:"0" max:"4094" default:"0" doc:"0 to 4094; 0 is the tag of frames that have only a priority"`
	Protocol         string        `json:"protocol" enum:"802.1Q,802.1ad" default:"802.1Q" doc:"'802.1ad' for the outer tag of a provider's network; in any letter case"`
	MTU              int           `json:"mtu" min:"68" max:"65535" also:"0" default:"0" doc:"bytes, at most the master's; 0 is the master's; IPv6 needs 1280"`
	DNS              types.DNS     `json:"dns" doc:"replaces what ipam says"`
	IPAM             roles.IPAMKey `json:"ipam" plugin:"ipam" doc:"any ipam plugin; left out: layer 2 only"`

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
