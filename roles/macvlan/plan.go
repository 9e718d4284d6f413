package macvlan

import (
	"net/netip"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
	"github.com/cnibox/cnibox/roles"
)

// plan is the container's link. The master is nil in CHECK.
//
// The segment is shared with strangers, whose addresses cnibox does not know, so the MAC address follows the owner and not the IP address: two
// nodes that give one IP address by mistake are then seen by duplicate address detection. In passthru mode the link has its master's.
func (c *conf) plan(o owner.Owner, master *rtnl.Link) *roles.Inside {
	mac := c.mac
	if mac == nil && c.mode != rtnl.MacvlanPassthru {
		mac = o.PodMAC(netip.Addr{})
	}
	x := &roles.Inside{
		Link: netutil.Link{
			Kind: netutil.Macvlan, MTU: c.MTU, MAC: mac, Child: rtnl.Child{Mode: c.mode, BCQueueLen: uint32(c.BCQueueLen)},
		},
		Announce: true, DNS: c.DNS,
	}
	c.PlanOn(&x.Link, master)
	return x
}
