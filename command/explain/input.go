package explain

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// input is a packet that came in by a link, from IP on. seen: the hook prerouting has seen it already, as frames of a bridge.
func (w *walker) input(s *space, in *link, seen bool) hop {
	return func() (hop, error) {
		if w.p.Is6() && s.conf(true, in.Name, "disable_ipv6") == "1" {
			return w.drop(w.step(s, "link", "receives %s on %s", describe(w.p), in.Name), "IPv6 is switched off there (net.ipv6.conf."+in.Name+".disable_ipv6 = 1)")
		}
		if !seen {
			if ok, err := w.filter(s, false, unix.NF_INET_PRE_ROUTING, w.p.Src); !ok || err != nil {
				return nil, err
			}
		}
		return w.route(s, in)
	}
}

// route decides whether a packet is for the space itself, or is to be forwarded.
func (w *walker) route(s *space, in *link) (hop, error) {
	p := w.p
	q := question{to: p.Dst, from: p.Src, in: in, p: p}
	if in.Flags&unix.IFF_LOOPBACK != 0 {
		return w.local(s, in)
	}
	r, err := s.lookUp(q)
	if err != nil {
		return nil, err
	}
	if r.failed != 0 {
		step := w.step(s, "route", "receives %s on %s", describe(p), in.Name)
		w.hint(step, s, p.Dst)
		return w.drop(step, s.whyNotIn(q, r))
	}
	switch r.Type {
	case unix.RTN_LOCAL, unix.RTN_ANYCAST, unix.RTN_BROADCAST:
		return w.local(s, in)
	case unix.RTN_UNICAST:
	default:
		step := w.step(s, "route", "receives %s on %s: route %s", describe(p), in.Name, s.words(q, r))
		return w.drop(step, "the route's type is "+typeName(r.Type))
	}
	step := w.step(s, "route", "forwards %s: route %s", describe(p), s.words(q, r))
	if why := s.forwardsNot(p.Is6(), in); why != "" {
		return w.drop(step, why)
	}
	out := s.links[r.Link]
	p.Out = out.device()
	if ok, err := w.filter(s, false, unix.NF_INET_FORWARD, r.nextHop(p.Dst)); !ok || err != nil {
		return nil, err
	}
	return w.leave(s, r)
}

// hint notes a link that is down, and with it the route there.
func (w *walker) hint(step *Step, s *space, to netip.Addr) {
	if l := w.world.downTo(s, to); l != nil {
		step.note("%s leads to who has %s, but %s", l.Name, to, l.broken())
	}
}

// forwardsNot is why a space forwards nothing that comes in by a link; empty if it does. Of IPv4 the kernel says so when it is asked for the route.
func (s *space) forwardsNot(six bool, in *link) string {
	if six && s.conf(true, "all", "forwarding") == "0" && s.conf(true, in.Name, "force_forwarding") != "1" {
		return "IPv6 forwarding is off (net.ipv6.conf.all.forwarding = 0)"
	}
	if !six && s.conf(false, in.Name, "forwarding") == "0" {
		return fmt.Sprintf("IPv4 forwarding is off (net.ipv4.conf.%s.forwarding = 0, net.ipv4.ip_forward = %s)", in.Name, s.sysctl("ipv4", "ip_forward"))
	}
	return ""
}

// whyNoRoute says what a failed look-up means.
func (s *space) whyNoRoute(q question, r route) string {
	q.entry, q.in = true, nil
	if entry, err := s.lookUp(q); err == nil && entry.failed == 0 && entry.Type != unix.RTN_UNICAST && entry.Type != unix.RTN_LOCAL {
		return fmt.Sprintf("the route to %s is of type %s", entry.Dst, typeName(entry.Type))
	}
	switch r.failed {
	case unix.ENETUNREACH:
		return "there is no route to " + q.to.String()
	case unix.EINVAL:
		return "the route's type is blackhole, or " + q.from.String() + " is no address to send from"
	case unix.EACCES:
		return "the route's type is prohibit"
	case unix.EHOSTUNREACH:
		return "the route's type is unreachable"
	}
	return fmt.Sprintf("there is no route to %s (%v)", q.to, r.failed)
}

// whyNotIn says why a packet that came in by a link is not taken: the kernel tells of it in few words.
func (s *space) whyNotIn(q question, r route) string {
	in := q.in.Name
	if _, own := s.at(q.from); own && s.conf(false, in, "accept_local") != "1" {
		return q.from.String() + " is this namespace's own address, and cannot come from outside (martian source)"
	}
	if (q.from.IsLoopback() || q.to.IsLoopback()) && s.conf(false, in, "route_localnet") != "1" && s.conf(false, "all", "route_localnet") != "1" {
		return "loopback addresses cannot come from outside (net.ipv4.conf." + in + ".route_localnet = 0)"
	}
	if r.failed == unix.EXDEV || r.failed == unix.EINVAL {
		if why := s.reversePath(q); why != "" {
			return why
		}
	}
	if why := s.forwardsNot(q.to.Is6(), q.in); why != "" && r.failed == unix.EHOSTUNREACH {
		return why
	}
	return s.whyNoRoute(q, r)
}

// reversePath says whether the kernel expects the source by another link (RFC 3704).
func (s *space) reversePath(q question) string {
	filter := max(s.conf(false, q.in.Name, "rp_filter"), s.conf(false, "all", "rp_filter"))
	if filter == "0" || filter == "" {
		return ""
	}
	back, err := s.lookUp(question{to: q.from, entry: true})
	if err != nil || back.failed != 0 {
		return fmt.Sprintf("there is no route back to %s (rp_filter = %s on %s)", q.from, filter, q.in.Name)
	}
	by := s.links[back.Link]
	if filter == "1" && by != nil && by != q.in {
		return fmt.Sprintf("the way back to %s is by %s, not by %s (rp_filter = 1)", q.from, by.Name, q.in.Name)
	}
	return ""
}

// local takes a packet that is for the space itself.
func (w *walker) local(s *space, in *link) (hop, error) {
	if ok, err := w.filter(s, false, unix.NF_INET_LOCAL_IN, w.p.Src); !ok || err != nil {
		return nil, err
	}
	if w.p.Proto == unix.IPPROTO_UDP && len(w.outer) > 0 {
		return w.decapsulate(s)
	}
	w.step(s, "local", "%s is for %s", describe(w.p), s.name)
	listens := s.listens(w.p)
	text := "arrives at " + s.name
	if !strings.Contains(s.name, w.p.Dst.String()) {
		text += " (" + w.p.Dst.String() + ")"
	}
	if listens != "" {
		text += ": " + listens
	}
	w.at = s
	w.end(Arrives, s.name, text)
	return nil, nil
}

// receive is a frame that comes in by a link.
func (w *walker) receive(l *link) hop {
	return func() (hop, error) {
		s := l.space
		w.enter(s, l)
		if ok, err := w.filterAt(l, false); !ok || err != nil {
			return nil, err
		}
		if bridge := s.links[l.Master]; bridge != nil && bridge.Kind == "bridge" {
			return w.bridgeIn(bridge, l)
		}
		if child, why := w.world.childFor(l, w.p, w.tag); child != nil {
			w.step(s, "link", "%s -> %s: %s", l.Name, child.space.name, child.Name)
			w.tag = 0
			w.crossed(s, child.space)
			if why := child.broken(); why != "" {
				return w.drop(w.last(), child.Name+": "+why)
			}
			return w.receive(child), nil
		} else if why != "" {
			return w.drop(w.last(), why)
		}
		if mac := w.p.DstMAC; len(mac) == 6 && len(l.MAC) == 6 && !bytes.Equal(mac, l.MAC) && l.Flags&unix.IFF_NOARP == 0 {
			return w.drop(w.last(), fmt.Sprintf("the frame is for %s, but %s has %s: the sender's neighbour entry is old", mac, l.Name, l.MAC))
		}
		in := l
		if vrf := s.links[l.Master]; vrf != nil && vrf.Kind == "vrf" {
			in = vrf
			w.p.In = vrf.device()
		}
		return w.input(s, in, false), nil
	}
}
