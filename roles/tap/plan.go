package tap

import (
	"net"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// device is the tap device itself, which is made before the plan is applied.
func (c *conf) device(o owner.Owner, mac net.HardwareAddr) *netutil.Tap {
	return &netutil.Tap{
		Name: o.IfName, MTU: c.MTU, MAC: mac, MultiQueue: c.MultiQueue, Owner: c.Owner, Group: c.Group, SELinuxContext: c.SELinuxContext,
	}
}

// plan is what the device gets.
func (c *conf) plan(o owner.Owner, mac net.HardwareAddr, ips []roles.IP, routes []*types.Route) (*netutil.Plan, error) {
	if err := roles.CheckMTUFor(ips, c.MTU); err != nil {
		return nil, err
	}
	p := &netutil.Plan{
		Owner: o,
		Links: []netutil.Link{{
			Place: netutil.Sandbox, Name: o.IfName, Kind: netutil.Existing, MAC: mac, MTU: c.MTU, Master: c.Bridge, Up: true, OwnerTag: true,
		}},
		Sysctls: roles.PlanIPv6(netutil.Sandbox, o.IfName, ips, false),
	}
	for _, ip := range ips {
		p.Addrs = append(p.Addrs, netutil.Addr{Place: netutil.Sandbox, Link: o.IfName, Prefix: ip.Prefix})
	}
	var err error
	p.Routes, err = roles.PlanRoutes(o.IfName, routes, ips)
	return p, err
}
