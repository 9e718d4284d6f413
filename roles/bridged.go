package roles

import (
	"context"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
)

// Bridged is how a container is connected to others on a bridge.
type Bridged struct {
	MTU       int            // bytes; 0: the kernel's choice
	Links     []netutil.Link // the pair, and what it needs
	Gateway   string         // the host's link that has the gateway's address; empty: none
	Exclusive bool           // that link has no other address of the family in the subnet
	Force     bool           // and loses the one that it has
	DAD       bool           // IPv6 addresses are used only when nobody else has them (RFC 4862)

	Masquerade        bool
	CheckMAC, CheckIP bool // what the container sends carries its own addresses
}

// PlanBridged is the whole kernel state of such an attachment.
func PlanBridged(o owner.Owner, mac net.HardwareAddr, b *Bridged, ips []IP, routes []*types.Route) (*netutil.Plan, error) {
	if err := CheckMTUFor(ips, b.MTU); err != nil {
		return nil, err
	}
	p := &netutil.Plan{Owner: o, Links: b.Links}
	var addrs []netip.Addr
	for _, ip := range ips {
		addrs = append(addrs, ip.Prefix.Addr())
		p.Addrs = append(p.Addrs, netutil.Addr{Place: netutil.Sandbox, Link: o.IfName, Prefix: ip.Prefix, DAD: b.DAD})
		if b.Masquerade {
			p.Filter = append(p.Filter, nft.MasqueradeEntry{Addr: ip.Prefix.Addr(), Subnet: ip.Subnet()})
		}
	}
	p.Sysctls = PlanIPv6(netutil.Sandbox, o.IfName, ips, b.DAD)
	if b.Gateway != "" {
		b.planGateway(p, ips)
	}
	if b.CheckMAC || b.CheckIP {
		p.Filter = append(p.Filter, nft.SpoofCheckEntry{Port: o.LinkName(), MAC: mac})
	}
	if b.CheckIP {
		p.Filter = append(p.Filter, nft.AddressChecks(o, mac, addrs)...)
	}
	var err error
	p.Routes, err = PlanRoutes(o.IfName, routes, ips)
	return p, err
}

func (b *Bridged) planGateway(p *netutil.Plan, ips []IP) {
	done := map[netip.Prefix]bool{}
	for _, ip := range ips {
		addr := netip.PrefixFrom(ip.Gateway, ip.Prefix.Bits())
		if done[addr] {
			continue
		}
		done[addr] = true
		p.Addrs = append(p.Addrs, netutil.Addr{Link: b.Gateway, Prefix: addr, Shared: true, Exclusive: b.Exclusive, Force: b.Force})
	}
	p.Sysctls = append(p.Sysctls, PlanIPv6(netutil.Host, b.Gateway, ips, b.DAD)...)
	p.Sysctls = append(p.Sysctls, PlanForwarding(ips)...)
}

// BridgedPlan is what ADD and CHECK of a role know of such an attachment.
type BridgedPlan struct {
	Bridge   string           // for the result
	MAC      net.HardwareAddr // of the container's side; nil: PodMAC
	Default  bool             // a default route by each gateway
	Gateways bool             // the bridge is to be the gateway, so each address needs one
	Plan     func(o owner.Owner, mac net.HardwareAddr, ips []IP, routes []*types.Route) (*netutil.Plan, error)
}

// WithGateways gives each address its gateway if the bridge is to be it.
func (b *BridgedPlan) WithGateways(ips []IP) ([]IP, error) {
	if !b.Gateways {
		return ips, nil
	}
	return WithGateways(ips)
}

// AddBridged is ADD of a role that connects a container so.
func AddBridged(ctx context.Context, r *Request, b *BridgedPlan, dns types.DNS) (*types100.Result, []IP, error) {
	res := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	var ips []IP
	mac := b.MAC
	made, err := Attach(ctx, r, res, func(given []IP) (p *netutil.Plan, err error) {
		if ips, err = b.WithGateways(given); err != nil {
			return nil, err
		}
		if b.Default {
			res.Routes = WithDefault(res.Routes, ips)
		}
		if mac == nil {
			mac = PodMAC(r.Owner, ips)
		}
		return b.Plan(r.Owner, mac, ips, res.Routes)
	})
	if err != nil {
		return nil, nil, err
	}
	res.Interfaces = bridgedInterfaces(r, made, b.Bridge, mac)
	return Answer(r, res, ips, dns), ips, nil
}

// CheckBridged is CHECK of such a role.
func CheckBridged(ctx context.Context, r *Request, b *BridgedPlan) error {
	ips, mac, err := Expected(ctx, r)
	if err != nil {
		return err
	}
	if ips, err = b.WithGateways(ips); err != nil {
		return err
	}
	p, err := b.Plan(r.Owner, mac, ips, OwnRoutes(r, ips))
	if err != nil {
		return err
	}
	return Verify(ctx, r, p)
}

// bridgedInterfaces are the interfaces of the result: the bridge, and the two ends of the pair.
func bridgedInterfaces(r *Request, made *netutil.Applied, bridge string, mac net.HardwareAddr) []*types100.Interface {
	bridgeMAC, bridgeMTU := made.Link(netutil.Host, bridge)
	hostMAC, mtu := made.Link(netutil.Host, r.Owner.LinkName())
	return []*types100.Interface{
		{Name: bridge, Mac: bridgeMAC.String(), Mtu: bridgeMTU},
		{Name: r.Owner.LinkName(), Mac: hostMAC.String(), Mtu: mtu},
		{Name: r.Owner.IfName, Mac: mac.String(), Mtu: mtu, Sandbox: r.NetNS},
	}
}
