package eval

import (
	"encoding/binary"
	"strings"

	"github.com/cnibox/cnibox/netutil/nft"

	"golang.org/x/sys/unix"
)

// This file is what expressions load into registers.

func (m *machine) load(reg uint32, v value, words string, k kind) answer {
	return is(m.regs.set(reg, v, operand{words: words, kind: k}))
}

// payload loads a part of the packet, or writes one, which we do not follow.
func (m *machine) payload(data []byte) answer {
	base, at, n := uint32At(data, unix.NFTA_PAYLOAD_BASE), uint32At(data, unix.NFTA_PAYLOAD_OFFSET), uint32At(data, unix.NFTA_PAYLOAD_LEN)
	reg := uint32At(data, unix.NFTA_PAYLOAD_DREG)
	if reg == 0 {
		m.say("payload set")
		return yes
	}
	const furthest = 1 << 16 // of a packet, in bytes
	if at > furthest || n == 0 || n > maxData {
		return maybe
	}
	header, ok := m.p.header(base)
	if !ok {
		return no
	}
	words, k := field(base, at, n, m.p.Is6(), m.p.Proto)
	v := header.part(int(at), int(n))
	return is(m.regs.set(reg, v, operand{words: words, kind: k, chosen: k == kindPort && !v.certain()}))
}

// field is what nft(8) calls a part of the packet.
func field(base, at, n uint32, six bool, proto uint8) (string, kind) {
	switch base {
	case unix.NFT_PAYLOAD_LL_HEADER:
		switch at {
		case 0:
			return "ether daddr", kindEther
		case 6:
			return "ether saddr", kindEther
		case 12:
			return "ether type", kindEtherTyp
		}
	case unix.NFT_PAYLOAD_NETWORK_HEADER:
		return networkField(at, n, six)
	case unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		switch {
		case n == 2 && at == 0 && hasPorts(proto):
			return nft.ProtocolName(proto) + " sport", kindPort
		case n == 2 && at == 2 && hasPorts(proto):
			return nft.ProtocolName(proto) + " dport", kindPort
		case n == 1 && at == 0:
			return nft.ProtocolName(proto) + " type", kindInteger
		case n == 1 && at == 13:
			return "tcp flags", kindInteger
		}
	}
	return "@" + []string{"ll", "nh", "th", "ih"}[min(base, 3)] + "," + number(at*8) + "," + number(n*8), kindInteger
}

func networkField(at, n uint32, six bool) (string, kind) {
	if six {
		switch {
		case at == 6:
			return "ip6 nexthdr", kindProtocol
		case at == 8 && n <= 16:
			return "ip6 saddr", kindIPv6
		case at == 24 && n <= 16:
			return "ip6 daddr", kindIPv6
		}
	} else {
		switch {
		case at == 9:
			return "ip protocol", kindProtocol
		case at == 12 && n <= 4:
			return "ip saddr", kindIPv4
		case at == 16 && n <= 4:
			return "ip daddr", kindIPv4
		}
	}
	return "@nh," + number(at*8) + "," + number(n*8), kindInteger
}

func number(n uint32) string { return kindNumber.format(native32(n)) }

func hasPorts(proto uint8) bool {
	return proto == unix.IPPROTO_TCP || proto == unix.IPPROTO_UDP || proto == unix.IPPROTO_SCTP
}

// meta loads what the kernel knows of the packet, or sets its mark.
func (m *machine) meta(data []byte, soFar answer) answer {
	key := uint32At(data, unix.NFTA_META_KEY)
	if sreg := uint32At(data, unix.NFTA_META_SREG); sreg != 0 {
		return m.setMeta(key, sreg, soFar)
	}
	reg := uint32At(data, unix.NFTA_META_DREG)
	p := m.p
	switch key {
	case unix.NFT_META_PROTOCOL:
		return m.load(reg, certain(be16(p.etherType())), "meta protocol", kindEtherTyp)
	case unix.NFT_META_NFPROTO:
		family := p.family()
		if m.table.Family == unix.NFPROTO_BRIDGE || m.table.Family == unix.NFPROTO_NETDEV {
			family = m.table.Family
		}
		return m.load(reg, certain([]byte{family}), "meta nfproto", kindFamily)
	case unix.NFT_META_L4PROTO:
		return m.load(reg, certain([]byte{p.Proto}), "meta l4proto", kindProtocol)
	case unix.NFT_META_MARK:
		if p.NoMark {
			return m.load(reg, value{}.unknown(4), "meta mark", kindMark)
		}
		return m.load(reg, certain(native32(p.Mark)), "meta mark", kindMark)
	case unix.NFT_META_PKTTYPE:
		return m.load(reg, value{}.unknown(1), "pkttype", kindInteger)
	}
	if a, ok := m.device(key, reg); ok {
		return a
	}
	return m.load(reg, value{}.unknown(16), "meta "+number(key), kindInteger)
}

// Keys of meta beyond package unix (linux/netfilter/nf_tables.h).
const (
	metaIIFKind = 26 // NFT_META_IIFKIND
	metaOIFKind = 27 // NFT_META_OIFKIND
)

// device loads what is asked of the link that the packet came in by, or goes out by. A name matches nothing where there is no link, but is empty.
func (m *machine) device(key, reg uint32) (a answer, ok bool) {
	d, side := m.p.In, "i"
	switch key {
	case unix.NFT_META_OIF, unix.NFT_META_OIFNAME, unix.NFT_META_OIFTYPE, unix.NFT_META_OIFGROUP, metaOIFKind:
		d, side = m.p.Out, "o"
	}
	switch key {
	case unix.NFT_META_IIF, unix.NFT_META_OIF:
		return m.load(reg, certain(native32(uint32(d.Index))), side+"if", kindIndex), true
	case unix.NFT_META_IIFNAME, unix.NFT_META_OIFNAME:
		return m.load(reg, certain(nameKey(d.Name)), side+"ifname", kindName), true
	case metaIIFKind, metaOIFKind:
		if d.Index == 0 {
			return no, true
		}
		return m.load(reg, certain(nameKey(d.Kind)), "meta "+side+"ifkind", kindName), true
	case unix.NFT_META_IIFTYPE, unix.NFT_META_OIFTYPE:
		if d.Index == 0 {
			return no, true
		}
		return m.load(reg, value{}.unknown(2), side+"iftype", kindNumber), true
	case unix.NFT_META_IIFGROUP, unix.NFT_META_OIFGROUP:
		if d.Index == 0 {
			return no, true
		}
		return m.load(reg, certain(native32(d.Group)), side+"ifgroup", kindNumber), true
	}
	return no, false
}

func nameKey(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// setMeta sets the packet's mark; other things that rules set change nothing here.
func (m *machine) setMeta(key, sreg uint32, soFar answer) answer {
	if key != unix.NFT_META_MARK {
		return yes
	}
	v, ok := m.regs.get(sreg, 4)
	m.setMark(v, ok, soFar)
	return yes
}

func (m *machine) setMark(v value, ok bool, soFar answer) {
	if !ok || !v.certain() || soFar != yes {
		m.p.NoMark = true
		m.say("meta mark set ...")
		m.effect = "mark is set"
		return
	}
	m.p.Mark, m.p.NoMark = binary.NativeEndian.Uint32(v.data), false
	m.effect = "mark becomes " + kindMark.format(v.data)
	m.say("meta mark set", kindMark.format(v.data))
}

// fib asks the routing tables.
func (m *machine) fib(data []byte) answer {
	flags, result, reg := uint32At(data, unix.NFTA_FIB_FLAGS), uint32At(data, unix.NFTA_FIB_RESULT), uint32At(data, unix.NFTA_FIB_DREG)
	words := []string{"fib"}
	to := m.p.Dst
	if flags&unix.NFTA_FIB_F_SADDR != 0 {
		to = m.p.Src
		words = append(words, "saddr")
	} else {
		words = append(words, "daddr")
	}
	via := 0
	switch {
	case flags&unix.NFTA_FIB_F_IIF != 0:
		via = m.p.In.Index
		words = append(words, ". iif")
	case flags&unix.NFTA_FIB_F_OIF != 0:
		via = m.p.Out.Index
		words = append(words, ". oif")
	}
	mark := uint32(0)
	if flags&unix.NFTA_FIB_F_MARK != 0 {
		mark = m.p.Mark
	}
	kind, link, ok := m.env.Fib(to, mark, via)
	if m.p.In.Name == "lo" && result != unix.NFT_FIB_RESULT_ADDRTYPE {
		link, kind = m.p.In, unix.RTN_UNICAST // what one sends to oneself is always well
	}
	if kind != unix.RTN_UNICAST && result != unix.NFT_FIB_RESULT_ADDRTYPE {
		link = Device{}
	}
	return m.loadFib(reg, result, flags&unix.NFTA_FIB_F_PRESENT != 0, ok, fibAnswer{kind, link, strings.Join(words, " ")})
}

type fibAnswer struct {
	kind  uint8
	link  Device
	words string
}

func (m *machine) loadFib(reg, result uint32, present, ok bool, a fibAnswer) answer {
	hide := func(v value) value {
		if ok {
			return v
		}
		return value{}.unknown(len(v.data))
	}
	switch {
	case result == unix.NFT_FIB_RESULT_ADDRTYPE:
		return m.load(reg, hide(certain(native32(uint32(a.kind)))), a.words+" type", kindAddrType)
	case present:
		b := byte(0)
		if a.link.Index != 0 {
			b = 1
		}
		return m.load(reg, hide(certain([]byte{b})), a.words+" check", kindNumber)
	case result == unix.NFT_FIB_RESULT_OIFNAME:
		return m.load(reg, hide(certain(nameKey(a.link.Name))), a.words+" oifname", kindName)
	}
	return m.load(reg, hide(certain(native32(uint32(a.link.Index)))), a.words+" oif", kindIndex)
}
