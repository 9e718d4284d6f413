package roles

import (
	"context"
	"errors"
	"net"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
)

// This file is the CHECK of roles that make an interface in the container: what prevResult says is compared with the kernel.

// Expected is what CHECK starts from: the addresses and the MAC address that ADD, or a plugin after it in the list, left in
// prevResult. The ipam plugin has been asked to check its part.
func Expected(ctx context.Context, r *Request) (ips []IP, mac net.HardwareAddr, err error) {
	if r.IPAM != nil {
		if err := r.IPAM.Check(ctx); err != nil {
			return nil, nil, err
		}
	}
	iface, ips, err := Attached(r)
	if err != nil {
		return nil, nil, err
	}
	if iface.Mac == "" {
		return ips, PodMAC(r.Owner, ips), nil
	}
	mac, err = ParseMAC("prevResult.interfaces", iface.Mac)
	return ips, mac, err
}

// OwnRoutes are those routes of prevResult that CHECK wants on the attachment's interface. A result does not tell whose a route is. So
// where other interfaces have addresses too, because the role is not the first of its list, these are the ones whose gateway the
// attachment's own subnets or gateways tell.
func OwnRoutes(r *Request, ips []IP) []*types.Route {
	if len(ips) == 0 {
		return nil // layer 2 only: any route is another's
	}
	if len(ips) == len(r.Prev.IPs) {
		return r.Prev.Routes
	}
	var own []*types.Route
	for _, route := range r.Prev.Routes {
		gateway, ok := addrOf(route.GW)
		if ok && slices.ContainsFunc(ips, func(ip IP) bool { return ip.Gateway == gateway || ip.Subnet().Contains(gateway) }) {
			own = append(own, route)
		}
	}
	return own
}

// Verify compares the plan that CHECK has made of prevResult with the kernel. What the reference plugins have made in its place will do.
func Verify(ctx context.Context, r *Request, p *netutil.Plan) error {
	for i := range p.Routes {
		// Results of older versions have the routes, but not their tables.
		p.Routes[i].AnyTable = p.Routes[i].Place == netutil.Sandbox && !atLeast(r.CNIVersion, "1.1.0")
	}
	kernel := netutil.Kernel{Host: r.Host, Sandbox: r.Sandbox}
	differs := netutil.Verify(ctx, p, kernel)
	if errcode.Of(differs) != errcode.Differs {
		return differs
	}
	foreign, err := madeByReference(r, p)
	if foreign == nil || err != nil {
		return errors.Join(differs, err)
	}
	return netutil.Verify(ctx, foreign, kernel)
}
