package explain

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rtnl"
)

// found is what is known of a neighbour.
type found struct {
	mac   net.HardwareAddr
	entry bool // the kernel has it
	open  bool // somebody may answer whom we cannot see
}

const (
	neighborFailed = 0x20 // NUD_FAILED
	neighborUnsure = 0x01 // NUD_INCOMPLETE
)

// neighbor finds the MAC address of an address on a link: as the kernel has it, or as it would be answered.
func (w *world) neighbor(l *link, addr netip.Addr) found {
	body, failed, err := l.space.ask(rtnl.GetNeighbor(l.Index, addr))
	if err == nil && failed == 0 {
		if n, ok := rtnl.ParseNeighbor(body); ok && n.State&(neighborFailed|neighborUnsure) == 0 && len(n.MAC) == 6 {
			return found{mac: n.MAC, entry: true}
		}
	}
	return w.answers(l, addr, 0)
}

// deepest bounds how many bridges behind one another are looked at.
const deepest = 8

// answers asks, as it were, behind a link.
func (w *world) answers(l *link, addr netip.Addr, depth int) found {
	if depth > deepest || !l.Up() {
		return found{}
	}
	switch l.Kind {
	case "bridge":
		return w.answersAtPorts(l, nil, addr, depth)
	case "veth":
		return w.answersAtPeer(l, addr, depth)
	case "vxlan":
		return found{open: l.Master != 0}
	case "macvlan", "ipvlan":
		return w.answersOfSiblings(l, addr, depth)
	case "vlan":
		if parent := w.peer(l); parent != nil {
			return w.answers(parent, addr, depth+1)
		}
	}
	return found{open: true}
}

func (w *world) answersAtPeer(l *link, addr netip.Addr, depth int) found {
	peer := w.peer(l)
	switch {
	case peer == nil:
		return found{open: true} // in a namespace that cannot be found
	case !peer.Up():
		return found{}
	}
	if bridge := peer.space.links[peer.Master]; bridge != nil && bridge.Kind == "bridge" {
		if peer.space.answersFor(bridge, addr) {
			return found{mac: bridge.MAC}
		}
		return w.answersAtPorts(bridge, peer, addr, depth)
	}
	if peer.space.answersFor(peer, addr) {
		return found{mac: peer.MAC}
	}
	for _, child := range w.children(peer) {
		if child.Up() && child.space.answersFor(child, addr) {
			return found{mac: child.MAC}
		}
	}
	return found{}
}

func (w *world) answersAtPorts(bridge, from *link, addr netip.Addr, depth int) (out found) {
	for _, p := range bridge.space.ports(bridge) {
		if p == from {
			continue
		}
		f := w.answers(p, addr, depth+1)
		if f.mac != nil {
			return f
		}
		out.open = out.open || f.open
	}
	return out
}

// answersOfSiblings looks at links that are made on the same one, and behind that.
func (w *world) answersOfSiblings(l *link, addr netip.Addr, depth int) found {
	for _, other := range w.siblings(l) {
		if other.Up() && other.space.answersFor(other, addr) {
			return found{mac: other.MAC}
		}
	}
	if parent := w.peer(l); parent != nil {
		return w.answers(parent, addr, depth+1)
	}
	return found{open: true}
}

// answersFor tells whether a space answers on a link for an address: of IPv4 for all of its own, of IPv6 for that link's (unless it is told otherwise).
func (s *space) answersFor(l *link, addr netip.Addr) bool {
	own, ok := s.at(addr)
	if ok && addr.Is4() {
		return own == l || s.conf(false, l.Name, "arp_ignore") == "0" && s.conf(false, "all", "arp_ignore") == "0"
	}
	if addr.Is6() {
		for _, a := range s.addrs {
			if a.Link == l.Index && a.Prefix.Addr() == addr.WithZone("") {
				return true
			}
		}
		return false
	}
	if s.conf(false, l.Name, "proxy_arp") == "1" || s.conf(false, "all", "proxy_arp") == "1" {
		r, err := s.lookUp(question{to: addr})
		return err == nil && r.failed == 0 && r.Type == unix.RTN_UNICAST && r.Link != l.Index
	}
	return false
}
