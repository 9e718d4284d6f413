package eval

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/netutil/nft"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// This file is the extensions of iptables (its nft variant), as far as they can be told: the structures are those of linux/netfilter/xt_*.h. All
// others may match.

// match evaluates "-m NAME".
func (m *machine) match(data []byte) answer {
	name, info := rawnl.String(rawnl.Find(data, unix.NFTA_MATCH_NAME)), rawnl.Find(data, unix.NFTA_MATCH_INFO)
	rev := uint32At(data, unix.NFTA_MATCH_REV)
	switch {
	case name == "comment":
		m.comment, _, _ = strings.Cut(string(info), "\x00")
		return yes
	case (name == "tcp" || name == "udp") && len(info) >= 10:
		return m.xtPorts(name, info)
	case name == "multiport" && rev == 1 && len(info) >= 48:
		return m.xtMultiport(info)
	case name == "conntrack" && rev >= 2 && len(info) >= 154:
		return m.xtConntrack(info)
	case name == "state" && len(info) >= 4:
		return m.xtState(binary.NativeEndian.Uint32(info), "state")
	case name == "mark" && len(info) >= 9:
		return m.xtMark(info)
	case name == "addrtype" && len(info) >= 8:
		return m.xtAddrType(rev, info)
	}
	m.say("-m " + name)
	return maybe
}

// number16 is a port in the machine's order, as most extensions have them.
func number16(b []byte) uint16 { return binary.NativeEndian.Uint16(b) }

// xtPorts is struct xt_tcp or xt_udp: ranges of ports, and for TCP flags.
func (m *machine) xtPorts(name string, info []byte) answer {
	const protoTCP, invSource, invDest, invFlags = "tcp", 1, 2, 4
	if nft.ProtocolName(m.p.Proto) != name {
		return no
	}
	inv := info[8]
	all := yes
	if name == protoTCP {
		if len(info) < 12 {
			return maybe
		}
		inv = info[11]
		mask, flags := info[9], info[10]
		if mask != 0 || info[8] != 0 {
			all = m.xtFlags(mask, flags, inv&invFlags != 0, info[8] != 0)
		}
	}
	ports := func(what string, at int, port uint16, inverted bool) {
		from, to := number16(info[at:]), number16(info[at+2:])
		if from == 0 && to == 0xffff {
			return
		}
		m.say("-m", name, what, portRange(from, to))
		a := within(port, from, to)
		if inverted {
			a = a.not()
		}
		all = min(all, a)
	}
	ports("--sport", 0, m.p.SrcPort, inv&invSource != 0)
	ports("--dport", 4, m.p.DstPort, inv&invDest != 0)
	return all
}

func (m *machine) xtFlags(mask, flags byte, inverted, option bool) answer {
	if option {
		return maybe
	}
	const at = 13 // of the flags in TCP's header, in bytes
	have := m.p.transport().data[at]
	m.say("--tcp-flags")
	return is((have&mask == flags) != inverted)
}

// within tells whether a port is in a range; one that is not known is one that the kernel has chosen.
func within(port, from, to uint16) answer {
	if port == 0 && to >= lowestChosen && from <= highestChosen {
		return maybe
	}
	return is(port >= max(from, 1) && port <= to)
}

func portRange(from, to uint16) string {
	if from == to {
		return strconv.Itoa(int(from))
	}
	return strconv.Itoa(int(from)) + ":" + strconv.Itoa(int(to))
}

// xtMultiport is struct xt_multiport_v1.
func (m *machine) xtMultiport(info []byte) answer {
	const source, dest, most, flagsAt = 0, 1, 15, 2 + 2*15
	kind, count, inverted := info[0], min(int(info[1]), most), info[flagsAt+most] != 0
	if !hasPorts(m.p.Proto) {
		return no
	}
	var words []string
	found := no
	for i := 0; i < count; i++ {
		from := number16(info[2+2*i:])
		to := from
		if info[flagsAt+i] != 0 && i+1 < count {
			i++
			to = number16(info[2+2*i:])
		}
		words = append(words, portRange(from, to))
		if kind != dest {
			found = max(found, within(m.p.SrcPort, from, to))
		}
		if kind != source {
			found = max(found, within(m.p.DstPort, from, to))
		}
	}
	if inverted {
		found = found.not()
		m.say("!")
	}
	m.say("-m multiport "+[...]string{"--sports", "--dports", "--ports"}[min(kind, 2)], strings.Join(words, ","))
	return found
}

// xtConntrack is struct xt_conntrack_mtinfo2 or 3, of which the state and the status are read.
func (m *machine) xtConntrack(info []byte) answer {
	const flagsAt, invertedAt, stateAt, statusAt = 146, 148, 150, 152
	const byState, byStatus = 1 << 0, 1 << 6
	flags, inverted := number16(info[flagsAt:]), number16(info[invertedAt:])
	all := yes
	if flags&byState != 0 {
		a := m.xtState(uint32(number16(info[stateAt:])), "ctstate")
		if inverted&byState != 0 {
			a = a.not()
		}
		all = min(all, a)
	}
	if flags&^byState == 0 {
		return all
	}
	if flags&^(byState|byStatus) != 0 || m.p.Conn == nil {
		return min(all, maybe)
	}
	status := uint32(number16(info[statusAt:]))
	m.say("--ctstatus", kindStatus.format(native32(status)))
	return min(all, is((m.p.status()&status != 0) != (inverted&byStatus != 0)))
}

// xtState compares with bits of linux/netfilter/xt_conntrack.h, which are those of nftables but for three of its own.
func (m *machine) xtState(mask uint32, word string) answer {
	const untracked, snat, dnat = 1 << 6, 1 << 6, 1 << 7
	have := m.p.state()
	if word == "ctstate" { // XT_CONNTRACK_STATE_SNAT, _DNAT and _UNTRACKED
		if have == stateUntracked {
			have = 1 << 8
		}
		if c := m.p.Conn; c != nil {
			if c.SourceNAT {
				have |= snat
			}
			if c.DestNAT {
				have |= dnat
			}
		}
	} else if have == stateUntracked {
		have = untracked
	}
	m.say("-m conntrack --"+word, xtStateNames(mask))
	return is(have&mask != 0)
}

func xtStateNames(mask uint32) string {
	var out []string
	for i, name := range [...]string{"INVALID", "ESTABLISHED", "RELATED", "NEW", "", "", "SNAT", "DNAT", "UNTRACKED"} {
		if mask&(1<<i) != 0 && name != "" {
			out = append(out, name)
		}
	}
	return strings.Join(out, ",")
}

// xtMark is struct xt_mark_mtinfo1.
func (m *machine) xtMark(info []byte) answer {
	mark, mask, inverted := binary.NativeEndian.Uint32(info), binary.NativeEndian.Uint32(info[4:]), info[8] != 0
	m.say("-m mark", kindMark.format(native32(mark))+"/"+kindMark.format(native32(mask)))
	if m.p.NoMark {
		return maybe
	}
	return is((m.p.Mark&mask == mark) != inverted)
}

// xtAddrType is struct xt_addrtype_info or, of revision 1, xt_addrtype_info_v1. Its bits are 1 << RTN_.
func (m *machine) xtAddrType(rev uint32, info []byte) answer {
	source, dest := number16(info), number16(info[2:])
	var invSource, invDest bool
	via := 0
	if rev == 0 {
		if len(info) < 12 {
			return maybe
		}
		invSource, invDest = binary.NativeEndian.Uint32(info[4:]) != 0, binary.NativeEndian.Uint32(info[8:]) != 0
	} else {
		flags := binary.NativeEndian.Uint32(info[4:])
		invSource, invDest = flags&1 != 0, flags&2 != 0
		if flags&4 != 0 {
			via = m.p.In.Index
		} else if flags&8 != 0 {
			via = m.p.Out.Index
		}
	}
	all := yes
	side := func(what string, mask uint16, of netip.Addr, inverted bool) {
		if mask == 0 {
			return
		}
		m.say("-m addrtype", what, xtTypes(mask))
		kind, _, ok := m.env.Fib(of, 0, via)
		a := is((mask&(1<<kind) != 0) != inverted)
		if !ok {
			a = maybe
		}
		all = min(all, a)
	}
	side("--src-type", source, m.p.Src, invSource)
	side("--dst-type", dest, m.p.Dst, invDest)
	return all
}

func xtTypes(mask uint16) string {
	var out []string
	for i := range 16 {
		if mask&(1<<i) != 0 {
			out = append(out, strings.ToUpper(kindAddrType.bitNames(uint64(i))))
		}
	}
	return strings.Join(out, ",")
}
