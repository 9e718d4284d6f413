package eval

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// This file is what rules learn of connections. Numbers are those of linux/netfilter/nf_conntrack_common.h.

const (
	stateInvalid     = 1
	stateEstablished = 2
	stateNew         = 8
	stateUntracked   = 64

	statusSeenReply = 1 << 1
	statusConfirmed = 1 << 3
	statusSNAT      = 1 << 4
	statusDNAT      = 1 << 5
	statusSNATDone  = 1 << 7
	statusDNATDone  = 1 << 8
)

func (p *Packet) state() uint32 {
	switch {
	case p.NoTrack:
		return stateUntracked
	case p.Conn == nil:
		return stateInvalid
	case p.Reply || p.Follows:
		return stateEstablished
	}
	return stateNew
}

func (p *Packet) status() (n uint32) {
	c := p.Conn
	if c.SourceNAT {
		n |= statusSNAT
	}
	if c.DestNAT {
		n |= statusDNAT
	}
	if p.Reply || p.Follows {
		return n | statusSeenReply | statusConfirmed | statusDNATDone | statusSNATDone
	}
	if p.Received || p.In.Index != 0 || p.Out.Index != 0 {
		n |= statusDNATDone
	}
	return n
}

// ct loads what is known of the connection, or sets its mark.
func (m *machine) ct(data []byte, soFar answer) answer {
	key, reg := uint32At(data, unix.NFTA_CT_KEY), uint32At(data, unix.NFTA_CT_DREG)
	p := m.p
	if sreg := uint32At(data, unix.NFTA_CT_SREG); sreg != 0 {
		return m.setCt(key, sreg, soFar)
	}
	if key == unix.NFT_CT_STATE {
		return m.load(reg, certain(native32(p.state())), "ct state", kindState)
	}
	c := p.Conn
	if c == nil || p.NoTrack {
		return no
	}
	switch key {
	case unix.NFT_CT_DIRECTION:
		return m.load(reg, certain([]byte{choose(p.Reply, 1, 0)}), "ct direction", kindDir)
	case unix.NFT_CT_STATUS:
		return m.load(reg, certain(native32(p.status())), "ct status", kindStatus)
	case unix.NFT_CT_MARK:
		if c.NoMark {
			return m.load(reg, value{}.unknown(4), "ct mark", kindMark)
		}
		return m.load(reg, certain(native32(c.Mark)), "ct mark", kindMark)
	case unix.NFT_CT_L3PROTOCOL:
		return m.load(reg, certain([]byte{p.family()}), "ct l3proto", kindFamily)
	case unix.NFT_CT_PROTOCOL:
		return m.load(reg, certain([]byte{p.Proto}), "ct protocol", kindProtocol)
	}
	direction := rawnl.Find(data, unix.NFTA_CT_DIRECTION)
	return m.ctTuple(key, reg, len(direction) > 0 && direction[len(direction)-1] == 1)
}

// ctTuple loads an address or a port of one of the connection's directions.
func (m *machine) ctTuple(key, reg uint32, reply bool) answer {
	c, words := m.p.Conn, "ct original "
	t := c.First
	if reply {
		words, t = "ct reply ", c.Now.Reversed()
	}
	address := func(a netip.Addr, what string) answer {
		k := kindIPv4
		if a.Is6() {
			k = kindIPv6
		}
		return m.load(reg, certain(a.AsSlice()), words+what, k)
	}
	port := func(n uint16, what string) answer {
		v := certain(be16(n))
		if n == 0 {
			v = value{}.unknown(2)
		}
		return m.load(reg, v, words+what, kindPort)
	}
	switch key {
	case unix.NFT_CT_SRC, unix.NFT_CT_SRC_IP, unix.NFT_CT_SRC_IP6:
		return address(t.Src, "saddr")
	case unix.NFT_CT_DST, unix.NFT_CT_DST_IP, unix.NFT_CT_DST_IP6:
		return address(t.Dst, "daddr")
	case unix.NFT_CT_PROTO_SRC:
		return port(t.SrcPort, "proto-src")
	case unix.NFT_CT_PROTO_DST:
		return port(t.DstPort, "proto-dst")
	}
	return m.load(reg, value{}.unknown(16), "ct "+number(key), kindInteger)
}

// Reversed is the other direction.
func (t Tuple) Reversed() Tuple { return Tuple{t.Dst, t.Src, t.DstPort, t.SrcPort} }

// setCt sets the connection's mark.
func (m *machine) setCt(key, sreg uint32, soFar answer) answer {
	if key != unix.NFT_CT_MARK || m.p.Conn == nil {
		return yes
	}
	v, ok := m.regs.get(sreg, 4)
	if !ok || !v.certain() || soFar != yes {
		m.p.Conn.NoMark = true
		return yes
	}
	m.p.Conn.Mark, m.p.Conn.NoMark = binary.NativeEndian.Uint32(v.data), false
	m.say("ct mark set", kindMark.format(v.data))
	return yes
}
