package eval

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// translation is what a rule makes of a packet's addresses.
type translation struct {
	dest bool
	addr netip.Addr // the zero Addr: it stays
	port uint16     // 0: it stays
}

func (t translation) String() string {
	words := "snat to "
	if t.dest {
		words = "dnat to "
	}
	switch {
	case !t.addr.IsValid() && t.port == 0:
		return words + "itself"
	case !t.addr.IsValid():
		return words + ":" + strconv.Itoa(int(t.port))
	case t.port == 0:
		return words + t.addr.String()
	}
	return words + netip.AddrPortFrom(t.addr, t.port).String()
}

// natByRegisters is snat or dnat to what is loaded.
func (m *machine) natByRegisters(data []byte) answer {
	t := translation{dest: uint32At(data, unix.NFTA_NAT_TYPE) == unix.NFT_NAT_DNAT}
	all := yes
	if reg := uint32At(data, unix.NFTA_NAT_REG_ADDR_MIN); reg != 0 {
		v, ok := m.regs.get(reg, len(m.p.Dst.AsSlice()))
		if ok && v.certain() {
			t.addr, _ = netip.AddrFromSlice(v.data)
		} else {
			all = maybe
		}
	}
	if reg := uint32At(data, unix.NFTA_NAT_REG_PROTO_MIN); reg != 0 {
		t.port, all = m.portIn(reg, all)
	}
	const netmap = 1 << 6 // NF_NAT_RANGE_NETMAP
	if uint32At(data, unix.NFTA_NAT_FLAGS)&netmap != 0 {
		all = maybe
	}
	m.say(t.String())
	m.translate(t)
	return all
}

// portIn is the port in a register.
func (m *machine) portIn(reg uint32, all answer) (uint16, answer) {
	v, ok := m.regs.get(reg, 2)
	if !ok || !v.certain() {
		return 0, maybe
	}
	return binary.BigEndian.Uint16(v.data), all
}

// translate ends the rule: what it does to the packet is done when all chains that translate have been gone through.
func (m *machine) translate(t translation) {
	m.nat, m.verdict = &t, verdict{code: verdictAccept}
}

// masquerade is snat to the address of the link by which the packet goes out.
func (m *machine) masquerade(portReg uint32) answer {
	t := translation{addr: m.env.AddrOf(m.p.Out.Index, m.p.Dst)}
	all := is(t.addr.IsValid())
	if portReg != 0 {
		t.port, all = m.portIn(portReg, all)
	}
	m.say("masquerade")
	m.translate(t)
	return all
}

// redirect is dnat to the namespace itself.
func (m *machine) redirect(portReg uint32) answer {
	all := yes
	t := translation{dest: true, addr: m.ownAddr()}
	if portReg != 0 {
		t.port, all = m.portIn(portReg, all)
	}
	m.say("redirect")
	m.translate(t)
	return min(all, is(t.addr.IsValid()))
}

func (m *machine) ownAddr() netip.Addr {
	switch {
	case m.chain.Hook != unix.NF_INET_LOCAL_OUT:
		return m.env.AddrOf(m.p.In.Index, m.p.Src)
	case m.p.Is6():
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// apply changes the packet, and its connection.
func (t *translation) apply(p *Packet) {
	if t.dest {
		if t.addr.IsValid() {
			p.Dst = t.addr
		}
		if t.port != 0 {
			p.DstPort = t.port
		}
		p.Conn.DestNAT = true
	} else {
		if t.addr.IsValid() {
			p.Src = t.addr
		}
		if t.port != 0 {
			p.SrcPort = t.port
		}
		p.Conn.SourceNAT = true
	}
	p.Conn.Now = p.Tuple()
}

// decide notes that at a hook it is decided what the connection's destination, or its source, becomes; it tells whether it was.
func (c *Conn) decide(hook uint32) (was bool) {
	decided := &c.sourceDecided
	if hook == unix.NF_INET_PRE_ROUTING || hook == unix.NF_INET_LOCAL_OUT {
		decided = &c.destDecided
	}
	was, *decided = *decided, true
	return was
}

// translated does to a packet that follows, at a hook, what was done to the first.
func (p *Packet) translated(hook uint32) {
	switch now := p.Conn.Now; hook {
	case unix.NF_INET_PRE_ROUTING, unix.NF_INET_LOCAL_OUT:
		p.Dst, p.DstPort = now.Dst, now.DstPort
	default:
		p.Src, p.SrcPort = now.Src, now.SrcPort
	}
}

// answered undoes in an answer, at a hook, what was done to the connection's packets.
func (p *Packet) answered(hook uint32) (told string) {
	c := p.Conn
	switch hook {
	case unix.NF_INET_PRE_ROUTING, unix.NF_INET_LOCAL_OUT:
		if c.SourceNAT && (p.Dst != c.First.Src || p.DstPort != c.First.SrcPort) {
			p.Dst, p.DstPort = c.First.Src, c.First.SrcPort
			return "destination " + c.Now.Src.String() + " becomes " + p.Dst.String() + " again"
		}
	default:
		if c.DestNAT && (p.Src != c.First.Dst || p.SrcPort != c.First.DstPort) {
			was := p.Src
			p.Src, p.SrcPort = c.First.Dst, c.First.DstPort
			return "source " + was.String() + " becomes " + p.Src.String() + " again"
		}
	}
	return ""
}
