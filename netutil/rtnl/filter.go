package rtnl

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// Filter is a filter of kind u32 (linux/pkt_cls.h) of one key: an address, or none.
type Filter struct {
	Link   int
	Parent uint32       // IngressQdisc or RootQdisc
	Addr   netip.Prefix // the zero Prefix: every packet
	Source bool         // Addr is the packet's source, not its destination
	Class  uint32       // where the packet goes
	To     int          // the link that it is sent out of instead; 0: none
}

// What linux/pkt_cls.h and linux/tc_act/tc_mirred.h have beyond package unix.
const (
	u32Class      = 1  // TCA_U32_CLASSID
	u32Selector   = 5  // TCA_U32_SEL
	u32Action     = 7  // TCA_U32_ACT
	actionKind    = 1  // TCA_ACT_KIND
	actionOptions = 2  // TCA_ACT_OPTIONS
	mirredParms   = 2  // TCA_MIRRED_PARMS
	stolen        = 4  // TC_ACT_STOLEN
	egressRedir   = 1  // TCA_EGRESS_REDIR
	sizeOfSel     = 16 // struct tc_u32_sel
	sizeOfKey     = 16 // struct tc_u32_key
	sizeOfMirred  = 28 // struct tc_mirred
)

// protocol is the EtherType of the filter's packets, in whose order filters stand: those of one rank have one protocol.
func (f *Filter) protocol() (etherType uint16, rank uint32) {
	switch {
	case !f.Addr.IsValid():
		return unix.ETH_P_ALL, 1
	case f.Addr.Addr().Is4():
		return unix.ETH_P_IP, 2
	}
	return unix.ETH_P_IPV6, 3
}

// NewFilter adds a filter.
func NewFilter(f Filter) rawnl.Message {
	protocol, rank := f.protocol()
	info := rank<<16 | uint32(swap(protocol))
	return traffic(unix.RTM_NEWTFILTER, createNew, f.Link, 0, f.Parent, info, "u32", func(a *rawnl.Attrs) {
		a.Uint32(u32Class, f.Class)
		a.Bytes(u32Selector, f.selector())
		if f.To == 0 {
			return
		}
		a.Nested(u32Action, func(a *rawnl.Attrs) {
			a.Nested(1, func(a *rawnl.Attrs) {
				a.Text(actionKind, "mirred")
				a.Nested(actionOptions, func(a *rawnl.Attrs) {
					var parms []byte
					for _, n := range []uint32{0, 0, stolen, 0, 0, egressRedir, uint32(f.To)} {
						parms = binary.NativeEndian.AppendUint32(parms, n)
					}
					a.Bytes(mirredParms, parms)
				})
			})
		})
	})
}

// swap is a number in the network's byte order.
func swap(n uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n)) }

// selector is a struct tc_u32_sel with its keys: 32 bits of the packet each, compared under a mask.
func (f *Filter) selector() []byte {
	const terminal = 1 // TC_U32_TERMINAL
	var keys []byte
	count := 0
	addr := f.Addr.Addr().AsSlice()
	offset := f.offset()
	for i := 0; i < max(len(addr), 4); i += 4 {
		var mask, value uint32
		if bits := f.Addr.Bits() - i*8; f.Addr.IsValid() && bits > 0 {
			mask = ^uint32(0) << (32 - min(bits, 32))
			value = binary.BigEndian.Uint32(addr[i:]) & mask
		} else if i > 0 {
			break
		}
		keys = binary.BigEndian.AppendUint32(keys, mask)
		keys = binary.BigEndian.AppendUint32(keys, value)
		keys = binary.NativeEndian.AppendUint32(keys, uint32(offset+i))
		keys = binary.NativeEndian.AppendUint32(keys, 0)
		count++
	}
	sel := make([]byte, sizeOfSel)
	sel[0], sel[2] = terminal, byte(count)
	return append(sel, keys...)
}

// offset is where the address stands in the packet.
func (f *Filter) offset() int {
	switch {
	case !f.Addr.IsValid():
		return 0
	case f.Addr.Addr().Is4() && f.Source:
		return 12 // RFC 791, section 3.1
	case f.Addr.Addr().Is4():
		return 16
	case f.Source:
		return 8 // RFC 8200, section 3
	}
	return 24
}

// GetFilters asks for a link's filters below a discipline.
func GetFilters(link int, parent uint32) rawnl.Message {
	return traffic(unix.RTM_GETTFILTER, unix.NLM_F_DUMP, link, 0, parent, 0, "", nil)
}

// ParseFilter reads one of the answers to GetFilters; ok is false if it is none of those that NewFilter makes.
func ParseFilter(b []byte) (f Filter, ok bool) {
	if len(b) < headerOfTraffic {
		return f, false
	}
	f.Link, f.Parent = int(binary.NativeEndian.Uint32(b[4:])), binary.NativeEndian.Uint32(b[12:])
	protocol := swap(uint16(binary.NativeEndian.Uint32(b[16:])))
	options := rawnl.Find(b[headerOfTraffic:], traOptions)
	sel := rawnl.Find(options, u32Selector)
	if rawnl.String(rawnl.Find(b[headerOfTraffic:], traKind)) != "u32" || len(sel) < sizeOfSel || len(sel) < sizeOfSel+int(sel[2])*sizeOfKey {
		return f, false
	}
	f.Class = number(rawnl.Find(options, u32Class))
	action := rawnl.Find(rawnl.Find(rawnl.Find(options, u32Action), 1), actionOptions)
	if parms := rawnl.Find(action, mirredParms); len(parms) >= sizeOfMirred {
		f.To = int(binary.NativeEndian.Uint32(parms[sizeOfMirred-4:]))
	}
	if sel[2] > 0 && (protocol == unix.ETH_P_IP || protocol == unix.ETH_P_IPV6) {
		f.parseKeys(sel[sizeOfSel:], int(sel[2]), protocol == unix.ETH_P_IP)
	}
	return f, true
}

func (f *Filter) parseKeys(keys []byte, count int, v4 bool) {
	var addr [16]byte
	bits := 0
	size := map[bool]int{true: 4, false: 16}[v4]
	first := binary.NativeEndian.Uint32(keys[8:])
	f.Source = first == 12 || first == 8
	for i := range min(count, size/4) {
		key := keys[i*sizeOfKey:]
		for mask := binary.BigEndian.Uint32(key); mask != 0; mask <<= 1 {
			bits++
		}
		copy(addr[i*4:], key[4:8])
	}
	a, _ := netip.AddrFromSlice(addr[:size])
	f.Addr = netip.PrefixFrom(a, bits)
}
