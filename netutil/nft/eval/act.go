package eval

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// act evaluates what is about the whole packet.
func (m *machine) act(name string, data []byte, soFar answer) answer {
	switch name {
	case "counter", "last", "log", "flow_offload", "dup", "secmark":
		return yes
	case "nat":
		return m.natByRegisters(data)
	case "masq":
		return m.masquerade(uint32At(data, unix.NFTA_MASQ_REG_PROTO_MIN))
	case "redir":
		return m.redirect(uint32At(data, unix.NFTA_REDIR_REG_PROTO_MIN))
	case "reject":
		m.verdict = verdict{code: verdictDrop, refused: true}
		m.say("reject")
		return yes
	case "notrack":
		m.say("notrack")
		if soFar == yes {
			m.p.NoTrack, m.effect = true, "connection is not tracked"
		}
		return yes
	case "queue":
		m.verdict = verdict{code: verdictQueue}
		m.say("queue")
		return yes
	case "fwd":
		m.verdict = verdict{code: verdictStolen}
		m.say("fwd")
		return yes
	case "objref":
		return m.object(data)
	case "limit":
		return m.limit(data)
	case "dynset":
		return m.dynset(data)
	case "exthdr":
		return m.exthdr(data)
	}
	return m.unforeseeable(name, data)
}

// unforeseeable is what depends on other than the packet: it may match, and what it loads is not known.
func (m *machine) unforeseeable(name string, data []byte) answer {
	reg, size := uint32(0), 4
	switch name {
	case "numgen":
		reg = uint32At(data, unix.NFTA_NG_DREG)
	case "hash":
		reg = uint32At(data, unix.NFTA_HASH_DREG)
	case "rt":
		reg, size = uint32At(data, unix.NFTA_RT_DREG), 16
	case "socket":
		reg = uint32At(data, 2) // NFTA_SOCKET_DREG
	}
	if reg == 0 {
		m.say(name)
		return maybe
	}
	m.regs.set(reg, value{}.unknown(size), operand{words: name, kind: kindNumber, chance: name == "numgen" || name == "hash"})
	return yes
}

// limit matches as long as there are no more packets than that, or if there are more: how many there are is not known.
func (m *machine) limit(data []byte) answer {
	words := "limit rate "
	if uint32At(data, unix.NFTA_LIMIT_FLAGS)&unix.NFT_LIMIT_F_INV != 0 {
		words += "over "
	}
	words += strconv.FormatUint(bigNumber(rawnl.Find(data, unix.NFTA_LIMIT_RATE)), 10)
	if uint32At(data, unix.NFTA_LIMIT_TYPE) == unix.NFT_LIMIT_PKT_BYTES {
		words += " bytes"
	}
	units := map[uint64]string{1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}
	m.say(words + "/" + units[bigNumber(rawnl.Find(data, unix.NFTA_LIMIT_UNIT))])
	return maybe
}

// exthdr: a packet as we imagine it has no extension headers; TCP options it may have.
func (m *machine) exthdr(data []byte) answer {
	if rawnl.Find(data, unix.NFTA_EXTHDR_DREG) == nil {
		m.say("option set") // it is written, not read
		return yes
	}
	op, reg := uint32At(data, unix.NFTA_EXTHDR_OP), uint32At(data, unix.NFTA_EXTHDR_DREG)
	present := uint32At(data, unix.NFTA_EXTHDR_FLAGS)&unix.NFT_EXTHDR_F_PRESENT != 0
	switch {
	case op == unix.NFT_EXTHDR_OP_TCPOPT:
		size := 1
		if n := int(uint32At(data, unix.NFTA_EXTHDR_LEN)); !present && n > 0 && n <= maxData {
			size = n
		}
		m.regs.set(reg, value{}.unknown(size), operand{words: "tcp option", kind: kindInteger})
		return is(m.p.Proto == unix.IPPROTO_TCP)
	case present:
		m.regs.set(reg, certain([]byte{0}), operand{words: "exthdr", kind: kindInteger})
		return yes
	}
	return no
}

// object is a counter, quota or limit that has a name.
func (m *machine) object(data []byte) answer {
	const objectCounter = 1 // NFT_OBJECT_COUNTER
	if kind := rawnl.Find(data, unix.NFTA_OBJREF_IMM_TYPE); kind == nil || uint32At(data, unix.NFTA_OBJREF_IMM_TYPE) == objectCounter {
		return yes
	}
	m.say("object", rawnl.String(rawnl.Find(data, unix.NFTA_OBJREF_IMM_NAME)))
	return maybe
}

// dynset adds an element to a set, with a limit perhaps.
func (m *machine) dynset(data []byte) answer {
	m.say("update @" + rawnl.String(rawnl.Find(data, unix.NFTA_DYNSET_SET_NAME)))
	if rawnl.Find(data, unix.NFTA_DYNSET_EXPR) != nil || uint32At(data, unix.NFTA_DYNSET_FLAGS)&unix.NFT_DYNSET_F_INV != 0 {
		return maybe
	}
	return yes
}
