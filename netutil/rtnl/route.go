package rtnl

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// Addr is an address of a link as the kernel tells of it.
type Addr struct {
	Prefix netip.Prefix
	Link   int
	Flags  uint32 // IFA_F_
}

func addrBody(a netip.Addr, bits, link int, attrs rawnl.Attrs) []byte {
	b := make([]byte, headerOfAddress, headerOfAddress+len(attrs))
	b[0], b[1] = family(a), byte(bits)
	binary.NativeEndian.PutUint32(b[4:], uint32(link))
	return append(b, attrs...)
}

func (a Addr) attrs() (out rawnl.Attrs) {
	addr := a.Prefix.Addr()
	out.Bytes(unix.IFA_LOCAL, addr.AsSlice())
	out.Bytes(unix.IFA_ADDRESS, addr.AsSlice())
	if a.Flags != 0 {
		out.Uint32(unix.IFA_FLAGS, a.Flags)
	}
	return out
}

// broadcast is the last address of an IPv4 subnet that has one (RFC 3021: a subnet of two addresses has none).
func broadcast(p netip.Prefix) []byte {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return nil
	}
	ip := p.Addr().As4()
	binary.BigEndian.PutUint32(ip[:], binary.BigEndian.Uint32(ip[:])|^uint32(0)>>p.Bits())
	return ip[:]
}

// NewAddr adds an address. The kernel answers unix.EEXIST if the link has it.
func NewAddr(a Addr) rawnl.Message {
	attrs := a.attrs()
	if b := broadcast(a.Prefix); b != nil {
		attrs.Bytes(unix.IFA_BROADCAST, b)
	}
	return rawnl.Message{
		Type: unix.RTM_NEWADDR, Flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL,
		Body: addrBody(a.Prefix.Addr(), a.Prefix.Bits(), a.Link, attrs),
	}
}

// DelAddr removes an address. The kernel answers unix.EADDRNOTAVAIL if the link does not have it.
func DelAddr(a Addr) rawnl.Message {
	return rawnl.Message{Type: unix.RTM_DELADDR, Body: addrBody(a.Prefix.Addr(), a.Prefix.Bits(), a.Link, a.attrs())}
}

// GetAddrs asks for a link's addresses of the family of like. Kernels before 4.20 answer with those of all links.
func GetAddrs(link int, like netip.Addr) rawnl.Message {
	return rawnl.Message{Type: unix.RTM_GETADDR, Flags: unix.NLM_F_DUMP, Body: addrBody(like, 0, link, nil)}
}

// GetAllAddrs asks for the addresses of all links, of both families.
func GetAllAddrs() rawnl.Message {
	return rawnl.Message{Type: unix.RTM_GETADDR, Flags: unix.NLM_F_DUMP, Body: make([]byte, headerOfAddress)}
}

// ParseAddr reads an answer to GetAddrs; ok is false if it is none.
func ParseAddr(b []byte) (a Addr, ok bool) {
	if len(b) < headerOfAddress {
		return a, false
	}
	a.Link, a.Flags = int(binary.NativeEndian.Uint32(b[4:])), uint32(b[2])
	var addr, local []byte
	rawnl.Each(b[headerOfAddress:], func(kind uint16, v []byte) {
		switch kind {
		case unix.IFA_ADDRESS:
			addr = v
		case unix.IFA_LOCAL:
			local = v
		case unix.IFA_FLAGS:
			a.Flags = number(v)
		}
	})
	if local != nil { // of a point-to-point link, where IFA_ADDRESS is the other side's
		addr = local
	}
	ip, ok := netip.AddrFromSlice(addr)
	a.Prefix = netip.PrefixFrom(ip, int(b[1]))
	return a, ok && a.Prefix.IsValid()
}

// Route is a route.
type Route struct {
	Link     int
	Dst      netip.Prefix
	Gateway  netip.Addr // the zero Addr: directly connected
	Source   netip.Addr // the zero Addr: the kernel's choice
	Scope    int        // RT_SCOPE_
	Table    int        // 0: main
	Priority int        // 0: the kernel's choice
	MTU      int        // bytes; 0: the link's
	AdvMSS   int        // bytes; 0: derived from the MTU
	Type     uint8      // RTN_, of what the kernel tells
	Protocol uint8      // RTPROT_, who made it; 0: RTPROT_BOOT, as of a program that runs once
	OnLink   bool       // the gateway is reached over the link, whatever other routes say
}

// What linux/rtnetlink.h has beyond package unix.
const (
	metricMTU    = 2 // RTAX_MTU
	metricAdvMSS = 8 // RTAX_ADVMSS
)

// NewRoute adds a route. Unless it is exclusive, one to the same destination by another way does not stand against it, and the kernel keeps
// both. The kernel answers unix.EEXIST if it has it.
func NewRoute(r Route, exclusive bool) rawnl.Message {
	var a rawnl.Attrs
	a.Bytes(unix.RTA_DST, r.Dst.Addr().AsSlice())
	if r.Gateway.IsValid() {
		a.Bytes(unix.RTA_GATEWAY, r.Gateway.AsSlice())
	}
	if r.Source.IsValid() {
		a.Bytes(unix.RTA_PREFSRC, r.Source.AsSlice())
	}
	if r.Link != 0 {
		a.Uint32(unix.RTA_OIF, uint32(r.Link))
	}
	if r.Priority != 0 {
		a.Uint32(unix.RTA_PRIORITY, uint32(r.Priority))
	}
	if r.MTU != 0 || r.AdvMSS != 0 {
		a.Nested(unix.RTA_METRICS, r.metrics)
	}
	table := r.Table
	if table == 0 {
		table = unix.RT_TABLE_MAIN
	}
	a.Uint32(unix.RTA_TABLE, uint32(table))
	flags := uint16(unix.NLM_F_CREATE)
	if exclusive {
		flags |= unix.NLM_F_EXCL
	}
	b := make([]byte, headerOfRoute, headerOfRoute+len(a))
	b[0], b[1] = family(r.Dst.Addr()), byte(r.Dst.Bits())
	b[4], b[5], b[6], b[7] = unix.RT_TABLE_UNSPEC, unix.RTPROT_BOOT, byte(r.Scope), unix.RTN_UNICAST
	if r.Protocol != 0 {
		b[5] = r.Protocol
	}
	if r.OnLink {
		binary.NativeEndian.PutUint32(b[8:], unix.RTNH_F_ONLINK)
	}
	return rawnl.Message{Type: unix.RTM_NEWROUTE, Flags: flags, Body: append(b, a...)}
}

// SetRoute adds a route, or puts it in the place of the one to the same destination with the same priority.
func SetRoute(r Route) rawnl.Message {
	m := NewRoute(r, false)
	m.Flags |= unix.NLM_F_REPLACE
	return m
}

// DelRoute removes a route of the link and protocol. The kernel answers unix.ESRCH if there is none.
func DelRoute(r Route) rawnl.Message {
	m := NewRoute(r, false)
	m.Type, m.Flags = unix.RTM_DELROUTE, 0
	return m
}

func (r Route) metrics(a *rawnl.Attrs) {
	if r.MTU != 0 {
		a.Uint32(metricMTU, uint32(r.MTU))
	}
	if r.AdvMSS != 0 {
		a.Uint32(metricAdvMSS, uint32(r.AdvMSS))
	}
}

// GetRoutes asks for the routes of all tables, of the family of like.
func GetRoutes(like netip.Addr) rawnl.Message {
	b := make([]byte, headerOfRoute)
	b[0] = family(like)
	return rawnl.Message{Type: unix.RTM_GETROUTE, Flags: unix.NLM_F_DUMP, Body: b}
}

// GetRoute asks for the route that a packet to an address would take.
func GetRoute(to netip.Addr) rawnl.Message {
	var a rawnl.Attrs
	a.Bytes(unix.RTA_DST, to.AsSlice())
	b := make([]byte, headerOfRoute, headerOfRoute+len(a))
	b[0], b[1] = family(to), byte(to.BitLen())
	return rawnl.Message{Type: unix.RTM_GETROUTE, Body: append(b, a...)}
}

// GetEntry asks for the entry of the routing tables that decides about an address, and not for what becomes of it.
func GetEntry(to netip.Addr) rawnl.Message {
	m := GetRoute(to)
	binary.NativeEndian.PutUint32(m.Body[8:], unix.RTM_F_FIB_MATCH)
	return m
}

// MadeBy tells of an answer to GetRoutes whether the route has the protocol (RTPROT_), at less cost than ParseRoute.
func MadeBy(b []byte, protocol uint8) bool { return len(b) >= headerOfRoute && b[5] == protocol }

// ParseRoute reads an answer to GetEntry, GetRoute or GetRoutes: one route for each of its ways.
func ParseRoute(b []byte) (out []Route) {
	if len(b) < headerOfRoute {
		return nil
	}
	r := Route{Table: int(b[4]), Protocol: b[5], Scope: int(b[6]), Type: b[7], OnLink: binary.NativeEndian.Uint32(b[8:])&unix.RTNH_F_ONLINK != 0}
	dst := netip.IPv6Unspecified()
	if b[0] == unix.AF_INET {
		dst = netip.IPv4Unspecified()
	}
	var ways []byte
	rawnl.Each(b[headerOfRoute:], func(kind uint16, v []byte) {
		switch kind {
		case unix.RTA_DST:
			dst = addr(v, dst)
		case unix.RTA_GATEWAY:
			r.Gateway = addr(v, r.Gateway)
		case unix.RTA_PREFSRC:
			r.Source = addr(v, r.Source)
		case unix.RTA_OIF:
			r.Link = int(number(v))
		case unix.RTA_PRIORITY:
			r.Priority = int(number(v))
		case unix.RTA_TABLE:
			r.Table = int(number(v))
		case unix.RTA_METRICS:
			r.MTU, r.AdvMSS = int(number(rawnl.Find(v, metricMTU))), int(number(rawnl.Find(v, metricAdvMSS)))
		case unix.RTA_MULTIPATH:
			ways = v
		}
	})
	r.Dst = netip.PrefixFrom(dst, int(b[1]))
	if ways == nil {
		return []Route{r}
	}
	return r.each(ways)
}

// each is the route by each of its ways (struct rtnexthop, each with attributes).
func (r Route) each(ways []byte) (out []Route) {
	const header = unix.SizeofRtNexthop
	for len(ways) >= header {
		size := int(binary.NativeEndian.Uint16(ways))
		if size < header || size > len(ways) {
			break
		}
		way := r
		way.Link = int(binary.NativeEndian.Uint32(ways[4:]))
		way.Gateway = addr(rawnl.Find(ways[header:size], unix.RTA_GATEWAY), way.Gateway)
		out = append(out, way)
		ways = ways[min((size+3)&^3, len(ways)):]
	}
	return out
}

func addr(b []byte, otherwise netip.Addr) netip.Addr {
	if a, ok := netip.AddrFromSlice(b); ok {
		return a
	}
	return otherwise
}
