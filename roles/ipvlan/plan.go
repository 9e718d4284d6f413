package ipvlan

import (
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rtnl"
	"github.com/cnibox/cnibox/roles"
)

// plan is the container's link. The master is nil in CHECK. The link has its master's MAC address; in the modes l3 and l3s the kernel
// announces nothing, and neither does cnibox.
func (c *conf) plan(master *rtnl.Link) *roles.Inside {
	x := &roles.Inside{
		Link:     netutil.Link{Kind: netutil.IPvlan, MTU: c.MTU, Child: rtnl.Child{Mode: c.mode, Flags: c.flag}},
		Announce: true, DNS: c.DNS, Adopt: true,
	}
	c.PlanOn(&x.Link, master)
	return x
}
