package explain

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nft/eval"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

func nativeUint32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

// question is what the routing tables are asked.
type question struct {
	to, from netip.Addr // from: the zero Addr if it is yet to be chosen
	in       *link      // nil: the namespace sends itself
	out      int        // index of the only link that may be used; 0: any
	p        *eval.Packet
	entry    bool // which entry decides, not what becomes of it
}

// message is RTM_GETROUTE (rtnetlink(7)).
func (q question) message() rawnl.Message {
	m := rtnl.GetRoute(q.to)
	if q.entry {
		m = rtnl.GetEntry(q.to)
	}
	var a rawnl.Attrs
	if q.from.IsValid() {
		a.Bytes(unix.RTA_SRC, q.from.AsSlice())
		m.Body[2] = byte(q.from.BitLen())
	}
	if q.in != nil {
		a.Uint32(unix.RTA_IIF, uint32(q.in.Index))
	}
	if q.out != 0 {
		a.Uint32(unix.RTA_OIF, uint32(q.out))
	}
	if q.p != nil {
		if q.p.Mark != 0 {
			a.Uint32(unix.RTA_MARK, q.p.Mark)
		}
		if p := q.p.Proto; p == unix.IPPROTO_TCP || p == unix.IPPROTO_UDP {
			a.Uint8(unix.RTA_IP_PROTO, p)
			a.Bytes(unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, q.p.DstPort))
			if q.p.SrcPort != 0 {
				a.Bytes(unix.RTA_SPORT, binary.BigEndian.AppendUint16(nil, q.p.SrcPort))
			}
		}
	}
	m.Body = append(m.Body, a...)
	return m
}

// route is an answer.
type route struct {
	rtnl.Route
	failed unix.Errno // 0: there is a route
}

// lookUp asks for a route.
func (s *space) lookUp(q question) (r route, err error) {
	body, failed, err := s.ask(q.message())
	if err != nil || failed != 0 {
		return route{failed: failed}, err
	}
	ways := rtnl.ParseRoute(body)
	if len(ways) == 0 {
		return route{failed: unix.ENETUNREACH}, nil
	}
	r.Route = ways[0]
	if len(body) < unix.SizeofRtMsg {
		return r, nil
	}
	if via := rawnl.Find(body[unix.SizeofRtMsg:], unix.RTA_VIA); len(via) > 2 { // a gateway of the other family
		r.Gateway, _ = netip.AddrFromSlice(via[2:])
	}
	return r, nil
}

// words tell of the entry that a route comes of: "0.0.0.0/0 via 10.1.0.1 dev eth0".
func (s *space) words(q question, r route) string {
	entry := r
	q.entry = true
	if found, err := s.lookUp(q); err == nil && found.failed == 0 {
		entry = found
	}
	text := entry.Dst.String()
	if r.Gateway.IsValid() {
		text += " via " + r.Gateway.String()
	}
	if l := s.links[r.Link]; l != nil {
		text += " dev " + l.Name
	}
	if t := entry.Table; t != unix.RT_TABLE_MAIN && t != unix.RT_TABLE_LOCAL && t != 0 {
		text += " table " + strconv.Itoa(t)
	}
	return text
}

// nextHop is whose MAC address the frame bears.
func (r route) nextHop(to netip.Addr) netip.Addr {
	if r.Gateway.IsValid() {
		return r.Gateway
	}
	return to
}

// typeName is what people call a kind of route (RTN_).
func typeName(t uint8) string {
	switch t {
	case unix.RTN_BLACKHOLE:
		return "blackhole"
	case unix.RTN_UNREACHABLE:
		return "unreachable"
	case unix.RTN_PROHIBIT:
		return "prohibit"
	case unix.RTN_THROW:
		return "throw"
	}
	return "type " + strconv.Itoa(int(t))
}

// env answers what rules ask of a space, while a packet is about to take a way.
type env struct {
	*space
	nextHop netip.Addr
}

func (e env) Element(s *eval.Set, key []byte) (*eval.Element, error) {
	return eval.Exchange(e.exchange).Element(s, key)
}

func (e env) Elements(s *eval.Set) ([]*eval.Element, error) {
	return eval.Exchange(e.exchange).Elements(s)
}

func (e env) Fib(to netip.Addr, mark uint32, via int) (kind uint8, out eval.Device, ok bool) {
	r, err := e.lookUp(question{to: to, p: &eval.Packet{Mark: mark}, entry: true})
	switch {
	case err != nil:
		return 0, out, false
	case r.failed != 0 && to.Is4():
		return unix.RTN_UNICAST, out, true
	case r.failed != 0:
		return unix.RTN_UNREACHABLE, out, true
	}
	kind, out = r.Type, e.links[r.Link].device()
	if to.Is4() && (kind == unix.RTN_BLACKHOLE || kind == unix.RTN_UNREACHABLE || kind == unix.RTN_PROHIBIT || kind == unix.RTN_THROW) {
		return unix.RTN_UNICAST, eval.Device{}, true // of IPv4 the kernel tells only what the table of its own addresses has (inet_addr_type)
	}
	if via != 0 && out.Index != via {
		if kind == unix.RTN_LOCAL || kind == unix.RTN_BROADCAST { // it is another link's
			return unix.RTN_UNICAST, eval.Device{}, true
		}
		return kind, eval.Device{}, true
	}
	return kind, out, true
}

// AddrOf chooses as the kernel does: an address of the subnet that the next hop is in, else the link's first, else any.
func (e env) AddrOf(index int, to netip.Addr) netip.Addr {
	var first, other netip.Addr
	for _, a := range e.addrs {
		addr := a.Prefix.Addr()
		if addr.Is4() != to.Is4() || addr.IsLinkLocalUnicast() || addr.IsLoopback() {
			continue
		}
		if a.Link != index {
			if !other.IsValid() {
				other = addr
			}
			continue
		}
		if e.nextHop.IsValid() && a.Prefix.Contains(e.nextHop) {
			return addr
		}
		if !first.IsValid() {
			first = addr
		}
	}
	if first.IsValid() {
		return first
	}
	return other
}
