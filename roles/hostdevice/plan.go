package hostdevice

import (
	"net"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// plan is what a device gets in the sandbox. Its MAC address and MTU (bytes) stay as they are; CHECK compares them, ADD does not know them
// better. A card takes a moment to find its other end, and what it announces before that nobody hears.
func plan(o owner.Owner, mac net.HardwareAddr, mtu int, ips []roles.IP, routes []*types.Route) (*netutil.Plan, error) {
	p := &netutil.Plan{
		Owner:   o,
		Links:   []netutil.Link{{Place: netutil.Sandbox, Name: o.IfName, Kind: netutil.Existing, MAC: mac, MTU: mtu, Up: true, Carrier: len(ips) > 0}},
		Sysctls: roles.PlanIPv6(netutil.Sandbox, o.IfName, ips, false),
	}
	for _, ip := range ips {
		p.Addrs = append(p.Addrs, netutil.Addr{Place: netutil.Sandbox, Link: o.IfName, Prefix: ip.Prefix, Announce: true})
	}
	var err error
	p.Routes, err = roles.PlanRoutes(o.IfName, routes, ips)
	return p, err
}
