package netutil

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nft"
)

// The kernel decides where a flow goes by its first packet and remembers that in the connection's conntrack entry. A UDP flow lasts as
// long as packets keep coming, so a client that does not pause never notices that a mapping has come or gone: its entry must be deleted.

// EndStaleFlows deletes the UDP flows to mapped ports of the host that go elsewhere than the mapping says. It is called once the
// mappings stand. Other protocols have an end of their own, and are left alone.
func EndStaleFlows(n *Namespace, ports []nft.PortEntry) error {
	local := localAddrs(n)
	return endFlows(n, ports, func(p *nft.PortEntry, f *flow) bool {
		// The same port of another host is none of the mapping's business: a pod's queries to a name server, say.
		return !answeredBy(f, p) && leads(p, f) && local(f.to.Addr())
	})
}

// EndFlows deletes the UDP flows that went through mappings that are gone.
func EndFlows(n *Namespace, ports []nft.PortEntry) error {
	return endFlows(n, ports, func(p *nft.PortEntry, f *flow) bool { return answeredBy(f, p) })
}

// endFlows deletes the UDP flows to the ports' host side that also match.
func endFlows(n *Namespace, ports []nft.PortEntry, match func(*nft.PortEntry, *flow) bool) error {
	byFamily := map[int][]*nft.PortEntry{}
	for i := range ports {
		if p := &ports[i]; p.Protocol == unix.IPPROTO_UDP {
			byFamily[family(p.Addr)] = append(byFamily[family(p.Addr)], p)
		}
	}
	var errs []error
	for fam, list := range byFamily {
		errs = append(errs, deleteFlows(n, fam, onlyPort(list), func(f *flow) bool {
			for _, p := range list {
				if sentTo(f, p) && match(p, f) {
					return true
				}
			}
			return false
		}))
	}
	return errors.Join(errs...)
}

// onlyPort is the host port of all mappings, 0 if they have several.
func onlyPort(list []*nft.PortEntry) uint16 {
	for _, p := range list {
		if p.HostPort != list[0].HostPort {
			return 0
		}
	}
	return list[0].HostPort
}

// sentTo tells whether a flow was sent to the mapping's host port.
func sentTo(f *flow, p *nft.PortEntry) bool {
	return f.to.Port() == p.HostPort && (!p.HostIP.IsValid() || f.to.Addr() == p.HostIP)
}

// answeredBy tells whether it is the mapping's pod that answers a flow.
func answeredBy(f *flow, p *nft.PortEntry) bool {
	return f.answer == netip.AddrPortFrom(p.Addr, p.Port)
}

// leads tells whether a mapping's conditions let the flow through, as far as a flow shows: its input interface and mark are not known.
func leads(p *nft.PortEntry, f *flow) bool {
	for _, c := range p.Conditions {
		addr := f.from.Addr()
		switch c.Key {
		case "saddr":
		case "daddr":
			addr = f.to.Addr()
		default:
			continue
		}
		prefix, err := netip.ParsePrefix(c.Value)
		if err == nil && prefix.Contains(addr) == c.Negate {
			return false
		}
	}
	return true
}

// localAddrs tells the namespace's own addresses from others. It asks the kernel once for each.
func localAddrs(n *Namespace) func(netip.Addr) bool {
	known := map[netip.Addr]bool{}
	return func(addr netip.Addr) bool {
		is, asked := known[addr]
		if !asked {
			is = isLocal(n, addr)
			known[addr] = is
		}
		return is
	}
}

func isLocal(n *Namespace, addr netip.Addr) bool {
	r, err := routeTo(n, addr)
	return err == nil && r != nil && r.Type == unix.RTN_LOCAL
}
