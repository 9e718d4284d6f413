package roles

import (
	"context"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
)

// Routed is how a container is connected to the host's routing.
type Routed struct {
	MTU        int // bytes; 0: the kernel's choice
	Masquerade bool
}

// PlanRouted is the whole kernel state of an attachment by a pair, of which the host side has the gateway's address. All that the
// container sends, to its own subnet as well, goes through the host; the host has a route to each container.
func PlanRouted(o owner.Owner, mac net.HardwareAddr, c Routed, ips []IP, routes []*types.Route) (*netutil.Plan, error) {
	if err := CheckMTUFor(ips, c.MTU); err != nil {
		return nil, err
	}
	p := &netutil.Plan{
		Owner: o,
		Links: []netutil.Link{{
			Name: o.LinkName(), Kind: netutil.Veth, MTU: c.MTU, MAC: o.MAC(), Up: true, Carrier: true, OwnerTag: true,
			Peer: &netutil.Link{Place: netutil.Sandbox, Name: o.IfName, MTU: c.MTU, MAC: mac, Up: true},
		}},
		Sysctls: append(
			PlanIPv6(netutil.Sandbox, o.IfName, ips, false),
			PlanIPv6(netutil.Host, o.LinkName(), ips, false)...,
		),
	}
	given := map[netip.Prefix]bool{}
	for _, ip := range ips {
		p.Addrs = append(p.Addrs, netutil.Addr{Place: netutil.Sandbox, Link: o.IfName, Prefix: ip.Prefix, NoPrefixRoute: true})
		if gateway := full(ip.Gateway); !given[gateway] {
			given[gateway] = true
			p.Addrs = append(p.Addrs, netutil.Addr{Link: o.LinkName(), Prefix: gateway})
		}
		p.Routes = append(p.Routes,
			netutil.Route{Place: netutil.Sandbox, Link: o.IfName, Dst: full(ip.Gateway), Source: ip.Prefix.Addr(), Scope: unix.RT_SCOPE_LINK},
			netutil.Route{Place: netutil.Sandbox, Link: o.IfName, Dst: ip.Subnet(), Gateway: ip.Gateway, Source: ip.Prefix.Addr()},
			netutil.Route{Link: o.LinkName(), Dst: full(ip.Prefix.Addr()), Scope: unix.RT_SCOPE_LINK},
		)
		if c.Masquerade {
			p.Filter = append(p.Filter, nft.MasqueradeEntry{Addr: ip.Prefix.Addr(), Subnet: ip.Subnet()})
		}
	}
	p.Sysctls = append(p.Sysctls, PlanForwarding(ips)...)
	more, err := PlanRoutes(o.IfName, routes, ips)
	p.Routes = append(p.Routes, more...)
	return p, err
}

// AddRouted is ADD of a role that connects a container so.
func AddRouted(ctx context.Context, r *Request, c Routed, dns types.DNS) (*types100.Result, error) {
	res := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	var ips []IP
	var mac net.HardwareAddr
	made, err := Attach(ctx, r, res, func(given []IP) (p *netutil.Plan, err error) {
		if ips, err = WithGateways(given); err != nil {
			return nil, err
		}
		if mac == nil {
			mac = PodMAC(r.Owner, ips)
		}
		return PlanRouted(r.Owner, mac, c, ips, res.Routes)
	})
	if err != nil {
		return nil, err
	}
	hostMAC, mtu := made.Link(netutil.Host, r.Owner.LinkName())
	res.Interfaces = []*types100.Interface{
		{Name: r.Owner.LinkName(), Mac: hostMAC.String(), Mtu: mtu},
		{Name: r.Owner.IfName, Mac: mac.String(), Mtu: mtu, Sandbox: r.NetNS},
	}
	return Answer(r, res, ips, dns), nil
}

// CheckRouted is CHECK of such a role.
func CheckRouted(ctx context.Context, r *Request, c Routed) error {
	ips, mac, err := Expected(ctx, r)
	if err != nil {
		return err
	}
	if ips, err = WithGateways(ips); err != nil {
		return err
	}
	p, err := PlanRouted(r.Owner, mac, c, ips, OwnRoutes(r, ips))
	if err != nil {
		return err
	}
	return Verify(ctx, r, p)
}

// full is an address as a prefix of full length.
func full(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
