package daemon

import (
	"net"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// modifiers put what the configuration wishes into a message, and the client identifier, which is the reference's.
func (w *Wishes) modifiers(clientID string, cniArgs map[string]string) []dhcpv4.Modifier {
	set := func(code uint8, value []byte) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.GenericOptionCode(code), Value: dhcpv4.OptionGeneric{Data: value}})
	}
	const ofNoHardware = 0 // RFC 2132, section 9.14: the identifier is no hardware address
	out := []dhcpv4.Modifier{set(61, append([]byte{ofNoHardware}, clientID...))}
	var asked []byte
	byDefault := true
	for _, r := range w.Request {
		byDefault = byDefault && !r.SkipDefault
		if code, err := optionCode(r.Option); err == nil {
			asked = append(asked, code)
		}
	}
	if byDefault {
		asked = append(asked, 1, 3, 6, 12, 15, 26, 33, 42, 51, 54, 119, 121)
	}
	if len(asked) > 0 {
		out = append(out, set(55, asked))
	}
	for _, p := range w.Provide {
		code, err := optionCode(p.Option)
		if err != nil {
			continue
		}
		value, ok := cniArgs[p.FromArg]
		if !ok || p.FromArg == "" {
			value = p.Value
		}
		if value != "" && len(value) <= mostValue {
			out = append(out, set(code, []byte(value)))
		}
	}
	return out
}

// inherit fills in what a server says in its first acknowledgement and not again when the lease is renewed, as some do.
func inherit(ack, from *dhcpv4.DHCPv4) {
	for code, value := range from.Options {
		switch dhcpv4.GenericOptionCode(code) {
		case 51, 58, 59: // the times are those of this message
			continue
		}
		if _, ok := ack.Options[code]; !ok {
			ack.Options[code] = value
		}
	}
}

// defaultLease is how long a lease lasts of which the server does not say (option 51, which it must).
const defaultLease = time.Hour

// shortest is the least time between two renewals, whatever a server says: a lease of no time at all must not keep a processor busy.
const shortest = 500 * time.Millisecond

// times are when a lease is to be renewed, to be asked for from anybody, and over (RFC 2131, section 4.4.5).
func times(ack *dhcpv4.DHCPv4, now time.Time) (t1, t2, end time.Time) {
	lasts := ack.IPAddressLeaseTime(defaultLease)
	first := ack.IPAddressRenewalTime(lasts / 2)
	second := ack.IPAddressRebindingTime(lasts / 8 * 7) // a lease for ever times seven is too much
	return inOrder(now, first, second, lasts)
}

// inOrder are the times, none after the next.
func inOrder(now time.Time, first, second, lasts time.Duration) (t1, t2, end time.Time) {
	second = min(second, lasts)
	first = max(min(first, second), shortest)
	second, lasts = max(first, second), max(first, lasts)
	return now.Add(first), now.Add(second), now.Add(lasts)
}

// address is what the lease is for.
func address(ack *dhcpv4.DHCPv4) net.IPNet {
	mask := ack.SubnetMask()
	if mask == nil {
		mask = ack.YourIPAddr.DefaultMask() // a server must tell it if it is asked, but for networks of classes
	}
	return net.IPNet{IP: ack.YourIPAddr.To4(), Mask: mask}
}

// result is what the plugin answers.
func (w *Wishes) result(ack *dhcpv4.DHCPv4) *types100.Result {
	res := &types100.Result{
		IPs: []*types100.IPConfig{{Address: address(ack), Gateway: gateway(ack)}},
		DNS: dnsOf(ack),
	}
	mtu := mtuOf(ack)
	for _, r := range routesOf(ack) {
		r.Priority, r.MTU = w.Priority, mtu
		res.Routes = append(res.Routes, r)
	}
	return res
}

func gateway(ack *dhcpv4.DHCPv4) net.IP {
	if routers := ack.Router(); len(routers) > 0 && !routers[0].IsUnspecified() {
		return routers[0].To4()
	}
	return nil
}

// routesOf are the classless routes, in place of all others (RFC 3442), or the static ones and the default.
func routesOf(ack *dhcpv4.DHCPv4) (out []*types.Route) {
	if classless := ack.ClasslessStaticRoute(); len(classless) > 0 {
		for _, r := range classless {
			route := &types.Route{Dst: *r.Dest, GW: r.Router}
			if r.Router.IsUnspecified() {
				onLink := unix.RT_SCOPE_LINK
				route.GW, route.Scope = nil, &onLink
			}
			out = append(out, route)
		}
		return out
	}
	const pair = 8 // RFC 2132, section 5.8: the destination, and the router
	for static := ack.Options.Get(dhcpv4.OptionStaticRoutingTable); len(static) >= pair; static = static[pair:] {
		dst := net.IP(static[:4])
		if mask := dst.DefaultMask(); mask != nil && !dst.IsUnspecified() {
			out = append(out, &types.Route{Dst: net.IPNet{IP: dst.Mask(mask), Mask: mask}, GW: net.IP(static[4:pair])})
		}
	}
	if gw := gateway(ack); gw != nil {
		out = append(out, &types.Route{Dst: net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, GW: gw})
	}
	return out
}

// mtuOf is the link's MTU as the server has it (option 26); 0 if it does not say. A result of an ipam plugin has it in its routes.
func mtuOf(ack *dhcpv4.DHCPv4) int {
	const least = 68 // RFC 2132, section 5.1
	text := ack.Options.Get(dhcpv4.OptionInterfaceMTU)
	if len(text) != 2 {
		return 0
	}
	if mtu := int(text[0])<<8 | int(text[1]); mtu >= least {
		return mtu
	}
	return 0
}

func dnsOf(ack *dhcpv4.DHCPv4) types.DNS {
	dns := types.DNS{Domain: ack.DomainName()}
	for _, ip := range ack.DNS() {
		dns.Nameservers = append(dns.Nameservers, ip.String())
	}
	if search := ack.DomainSearch(); search != nil {
		dns.Search = search.Labels
	}
	return dns
}
