package roles

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
)

// This file is what the roles that make an interface in the container share: addresses in, plan entries out.

// IP is an address of a container with its gateway.
type IP struct {
	Prefix  netip.Prefix // the address itself, with the length of its subnet
	Gateway netip.Addr   // the zero Addr: none
}

// Subnet is the network that the address is in.
func (ip IP) Subnet() netip.Prefix { return ip.Prefix.Masked() }

// Is6 tells the family.
func (ip IP) Is6() bool { return ip.Prefix.Addr().Is6() }

// IPsOf reads the addresses of a result, as an ipam plugin gives it.
func IPsOf(configs []*types100.IPConfig) ([]IP, error) {
	out := make([]IP, 0, len(configs))
	for _, c := range configs {
		if c == nil {
			return nil, errcode.Errorf(errcode.DelegateFailed, "ips: an entry is null")
		}
		p, ok := netutil.Prefix(c.Address)
		if !ok {
			return nil, errcode.Errorf(errcode.DelegateFailed, "ips: %q is no address with a prefix length", c.Address.String())
		}
		ip := IP{Prefix: p}
		if c.Gateway != nil {
			if ip.Gateway, ok = addrOf(c.Gateway); !ok || ip.Gateway.Is4() != p.Addr().Is4() {
				return nil, errcode.Errorf(errcode.DelegateFailed, "ips: %q is no gateway for %s", c.Gateway.String(), p)
			}
		}
		out = append(out, ip)
	}
	return out, nil
}

func addrOf(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}

// WithGateways gives each address that has no gateway the first of its subnet as one, for roles of which the host is the gateway. It
// refuses what could not work: a gateway that is a container's address too, and a subnet that has no room for one.
func WithGateways(ips []IP) ([]IP, error) {
	for i := range ips {
		subnet := ips[i].Subnet()
		if ips[i].Gateway.IsValid() {
			continue
		}
		if ips[i].Gateway = subnet.Addr().Next(); !subnet.Contains(ips[i].Gateway) {
			return nil, errcode.Errorf(errcode.InvalidConfig, "ipam: %s has no gateway, and its subnet no address left for one; it must be named",
				ips[i].Prefix)
		}
	}
	for _, ip := range ips {
		if slices.ContainsFunc(ips, func(other IP) bool { return other.Prefix.Addr() == ip.Gateway }) {
			return nil, errcode.Errorf(errcode.InvalidConfig, "ipam: the gateway of %s, %s, is an address of the container too", ip.Prefix, ip.Gateway)
		}
	}
	return ips, nil
}

// WithDefault makes sure that each family that has an address has a default route, through its first gateway.
func WithDefault(routes []*types.Route, ips []IP) []*types.Route {
	done := map[bool]bool{}
	for _, r := range routes {
		if ones, _ := r.Dst.Mask.Size(); ones == 0 && r.Table == nil {
			done[r.Dst.IP.To4() == nil] = true
		}
	}
	for _, ip := range ips {
		if done[ip.Is6()] || !ip.Gateway.IsValid() {
			continue
		}
		done[ip.Is6()] = true
		zero := make(net.IP, ip.Prefix.Addr().BitLen()/8)
		dst := net.IPNet{IP: zero, Mask: net.IPMask(zero)}
		routes = append(routes, &types.Route{Dst: dst, GW: ip.Gateway.AsSlice()})
	}
	return routes
}

// PlanRoutes turns the routes of a result into those of a plan. A route without a gateway goes through that of the first
// address of its family; without that, or if its scope is the link or the host, it is directly connected.
func PlanRoutes(link string, routes []*types.Route, ips []IP) ([]netutil.Route, error) {
	out := make([]netutil.Route, 0, len(routes))
	for _, r := range routes {
		dst, ok := netutil.Prefix(r.Dst)
		if !ok {
			return nil, errcode.Errorf(errcode.InvalidConfig, "routes: dst %q is no prefix", r.Dst.String())
		}
		planned := netutil.Route{
			Place: netutil.Sandbox, Link: link, Dst: dst.Masked(),
			MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority,
		}
		switch {
		case r.GW != nil:
			if planned.Gateway, ok = addrOf(r.GW); !ok || planned.Gateway.Is4() != dst.Addr().Is4() {
				return nil, errcode.Errorf(errcode.InvalidConfig, "routes: gw %q does not fit dst %s", r.GW.String(), dst)
			}
		case r.Scope == nil || *r.Scope < unix.RT_SCOPE_LINK:
			planned.Gateway = gatewayFor(dst.Addr().Is6(), ips)
		}
		if !planned.Gateway.IsValid() {
			planned.Scope = unix.RT_SCOPE_LINK
		}
		if r.Scope != nil {
			planned.Scope = *r.Scope
		}
		if r.Table != nil {
			planned.Table = *r.Table
		}
		out = append(out, planned)
	}
	return out, nil
}

func gatewayFor(is6 bool, ips []IP) netip.Addr {
	for _, ip := range ips {
		if ip.Is6() == is6 && ip.Gateway.IsValid() {
			return ip.Gateway
		}
	}
	return netip.Addr{}
}

// PlanIPv6 are the sysctls of an interface that is to have IPv6 addresses. Runtimes like to disable IPv6 in new namespaces, and some hosts
// in new interfaces. Duplicate address detection keeps the link-local address unusable for a second or two; on the host's side that is
// the one which it looks for the container with (RFC 4861, section 7.2.2), so nothing could be forwarded in that time.
func PlanIPv6(place netutil.Place, link string, ips []IP, dad bool) []netutil.Sysctl {
	if !slices.ContainsFunc(ips, IP.Is6) {
		return nil
	}
	conf := func(key, value string) netutil.Sysctl {
		return netutil.Sysctl{Place: place, Path: []string{"net", "ipv6", "conf", link, key}, Value: value}
	}
	var out []netutil.Sysctl
	if !dad { // before the kernel gives the interface a first address
		out = append(out, conf("accept_dad", "0"))
	}
	return append(out, conf("disable_ipv6", "0"))
}

// PlanForwarding are the sysctls that let the host route for the families of the addresses.
func PlanForwarding(ips []IP) []netutil.Sysctl {
	var v4, v6 bool
	for _, ip := range ips {
		v4, v6 = v4 || !ip.Is6(), v6 || ip.Is6()
	}
	var out []netutil.Sysctl
	if v4 {
		out = append(out, netutil.Sysctl{Path: []string{"net", "ipv4", "ip_forward"}, Value: "1"})
	}
	if v6 {
		out = append(out, netutil.Sysctl{Path: []string{"net", "ipv6", "conf", "all", "forwarding"}, Value: "1"})
	}
	return out
}

// Apply makes a plan so, in the request's namespaces, and records the inverses in its undo list.
func Apply(ctx context.Context, r *Request, p *netutil.Plan) (*netutil.Applied, error) {
	return netutil.Apply(ctx, p, netutil.Kernel{Host: r.Host, Sandbox: r.Sandbox}, r.Undo)
}

// Addresses asks the ipam plugin for addresses, and takes its routes and name servers over into the result. It does not ask for an
// attachment that stands: the inverse, DEL, would give back the addresses that this one has.
func Addresses(ctx context.Context, r *Request, into *types100.Result) ([]IP, error) {
	if err := netutil.RefuseLink(r.Host, netutil.Host, r.Owner.LinkName()); err != nil {
		return nil, errcode.Errorf(errcode.AlreadyExists, "%s: %w", r.Owner, err)
	}
	if err := refuseInterface(r); err != nil {
		return nil, err
	}
	return askIPAM(ctx, r, into)
}

// refuseInterface is an error if the container has an interface of the name that is asked for.
func refuseInterface(r *Request) error {
	if err := netutil.RefuseLink(r.Sandbox, netutil.Sandbox, r.Owner.IfName); err != nil {
		return errcode.Errorf(errcode.AlreadyExists, "%s: %w", r.Owner, err)
	}
	return nil
}

func askIPAM(ctx context.Context, r *Request, into *types100.Result) ([]IP, error) {
	got, err := r.IPAM.Add(ctx)
	if err != nil {
		return nil, err
	}
	if len(got.IPs) == 0 {
		return nil, errcode.Errorf(errcode.DelegateFailed, "ipam.type: the plugin gave no address")
	}
	into.DNS, into.Routes = got.DNS, got.Routes
	return IPsOf(got.IPs)
}

// Attach is what ADD of a role with a host side does: it asks for addresses if there is an ipam plugin, and makes the plan that plan returns
// for them and their routes. Where the link must be there first, plan is called before without any.
func Attach(ctx context.Context, r *Request, res *types100.Result, plan func([]IP) (*netutil.Plan, error)) (*netutil.Applied, error) {
	if r.IPAM.NeedsLink() {
		return LinkFirst(ctx, r, res, plan)
	}
	var ips []IP
	if r.IPAM != nil {
		var err error
		if ips, err = Addresses(ctx, r, res); err != nil {
			return nil, err
		}
	}
	p, err := plan(ips)
	if err != nil {
		return nil, err
	}
	return Apply(ctx, r, p)
}

// LinkFirst makes the link, asks the ipam plugin for addresses, and then makes what is missing of the whole plan (Delegate.NeedsLink).
func LinkFirst(ctx context.Context, r *Request, res *types100.Result, plan func([]IP) (*netutil.Plan, error)) (*netutil.Applied, error) {
	p, err := plan(nil)
	if err != nil {
		return nil, err
	}
	p.Filter = nil // it comes with the addresses, once
	p.Sysctls = append(p.Sysctls, linkIPv6(r)...)
	made, err := Apply(ctx, r, p)
	if err != nil {
		return nil, err
	}
	ips, err := askIPAM(ctx, r, res)
	if err != nil {
		return nil, err
	}
	if p, err = plan(ips); err != nil {
		return nil, err
	}
	_, err = Apply(ctx, r, p.Standing())
	return made, err
}

// PodMAC is the MAC address of a container's interface where nobody asked for one.
func PodMAC(o owner.Owner, ips []IP) net.HardwareAddr {
	var first netip.Addr
	if len(ips) > 0 {
		first = ips[0].Prefix.Addr()
	}
	return o.PodMAC(first)
}
