package rtnl

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// What linux/fib_rules.h has beyond package unix. Its struct fib_rule_hdr is as long as struct rtmsg, and has the family in the same place.
const (
	ruleSource   = 2  // FRA_SRC
	ruleTable    = 15 // FRA_TABLE
	ruleProtocol = 21 // FRA_PROTOCOL
	toTable      = 1  // FR_ACT_TO_TBL
)

// RuleProtocol marks the rules that cnibox makes (linux/rtnetlink.h, RTPROT_: numbers from 192 are nobody's).
const RuleProtocol = 203

// Rule is a routing rule for what is sent from an address.
type Rule struct {
	Source   netip.Prefix // the zero Prefix: any
	Table    uint32       // 0: the rule leads to none
	Protocol uint8        // who made it
}

// GetRules asks for the routing rules of the family of like.
func GetRules(like netip.Addr) rawnl.Message {
	b := make([]byte, headerOfRoute)
	b[0] = family(like)
	return rawnl.Message{Type: unix.RTM_GETRULE, Flags: unix.NLM_F_DUMP, Body: b}
}

// ParseRule reads an answer to GetRules.
func ParseRule(b []byte) (r Rule) {
	if len(b) < headerOfRoute {
		return r
	}
	r.Table = uint32(b[4])
	rawnl.Each(b[headerOfRoute:], func(kind uint16, v []byte) {
		switch kind {
		case ruleTable:
			r.Table = number(v)
		case ruleProtocol:
			r.Protocol = byteOf(v)
		case ruleSource:
			if a, ok := netip.AddrFromSlice(v); ok {
				r.Source = netip.PrefixFrom(a, int(b[2]))
			}
		}
	})
	return r
}

func (r Rule) body() []byte {
	var a rawnl.Attrs
	a.Bytes(ruleSource, r.Source.Addr().AsSlice())
	a.Uint32(ruleTable, r.Table)
	if r.Protocol != 0 {
		a.Uint8(ruleProtocol, r.Protocol)
	}
	b := make([]byte, headerOfRoute, headerOfRoute+len(a))
	b[0], b[2], b[7] = family(r.Source.Addr()), byte(r.Source.Bits()), toTable
	return append(b, a...)
}

// NewRule adds a rule. The kernel answers unix.EEXIST if there is one like it.
func NewRule(r Rule) rawnl.Message {
	return rawnl.Message{Type: unix.RTM_NEWRULE, Flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, Body: r.body()}
}

// DelRule removes the first rule that is like it. The kernel answers unix.ENOENT if there is none.
func DelRule(r Rule) rawnl.Message { return rawnl.Message{Type: unix.RTM_DELRULE, Body: r.body()} }

// MarkRoute notes in a request of NewRoute that cnibox has made the route by itself, IsMarked tells that of an answer to GetRoutes.
func MarkRoute(m rawnl.Message) { m.Body[5] = RuleProtocol }

// IsMarked tells whether MarkRoute has noted that.
func IsMarked(b []byte) bool { return len(b) >= headerOfRoute && b[5] == RuleProtocol }

// NewRouteByAll adds a route that goes by each of the gateways, which share its load.
func NewRouteByAll(r Route, gateways []netip.Addr) rawnl.Message {
	link := r.Link
	r.Gateway, r.Link = netip.Addr{}, 0
	m := NewRoute(r, false)
	var a rawnl.Attrs
	var ways []byte
	for _, g := range gateways {
		var way rawnl.Attrs
		way.Bytes(unix.RTA_GATEWAY, g.AsSlice())
		ways = binary.NativeEndian.AppendUint16(ways, uint16(unix.SizeofRtNexthop+len(way)))
		ways = binary.NativeEndian.AppendUint32(append(ways, 0, 0), uint32(link))
		ways = append(ways, way...)
	}
	a.Bytes(unix.RTA_MULTIPATH, ways)
	m.Body = append(m.Body, a...)
	return m
}
