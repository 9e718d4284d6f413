package vlan

import (
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rtnl"
	"github.com/cnibox/cnibox/roles"
)

// plan is the container's link. The master is nil in CHECK.
func (c *conf) plan(master *rtnl.Link) *roles.Inside {
	x := &roles.Inside{
		Link:     netutil.Link{Kind: netutil.VLANLink, MTU: c.MTU, Child: rtnl.Child{ID: uint16(c.VLANID), Protocol: c.protocol}},
		Announce: true, DNS: c.DNS,
	}
	c.PlanOn(&x.Link, master)
	return x
}
