package vrf

import (
	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// plan is what CHECK wants of the interface: that it follows the VRF, and still has its addresses and routes.
func (c *conf) plan(o owner.Owner, ips []roles.IP, routes []*types.Route) (*netutil.Plan, error) {
	p := &netutil.Plan{
		Owner: o,
		Links: []netutil.Link{{Place: netutil.Sandbox, Name: o.IfName, Kind: netutil.Existing, Master: c.VRFName}},
	}
	for _, ip := range ips {
		p.Addrs = append(p.Addrs, netutil.Addr{Place: netutil.Sandbox, Link: o.IfName, Prefix: ip.Prefix})
	}
	var err error
	p.Routes, err = roles.PlanRoutes(o.IfName, routes, ips)
	return p, err
}
