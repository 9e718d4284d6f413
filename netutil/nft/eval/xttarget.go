package eval

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// target evaluates "-j NAME".
func (m *machine) target(data []byte, soFar answer) answer {
	name, info := rawnl.String(rawnl.Find(data, unix.NFTA_TARGET_NAME)), rawnl.Find(data, unix.NFTA_TARGET_INFO)
	rev := uint32At(data, unix.NFTA_TARGET_REV)
	words := "-j " + name
	switch name {
	case "REJECT":
		m.verdict = verdict{code: verdictDrop, refused: true}
	case "DROP":
		m.verdict = verdict{code: verdictDrop}
	case "ACCEPT":
		m.verdict = verdict{code: verdictAccept}
	case "NFQUEUE":
		m.verdict = verdict{code: verdictQueue}
	case "MASQUERADE":
		m.say(words)
		return m.masquerade(0)
	case "SNAT", "DNAT", "REDIRECT":
		return m.xtNAT(name, rev, info)
	case "MARK":
		return m.xtSetMark(rev, info, soFar)
	case "CT":
		const noTrack = 1
		if len(info) >= 2 && number16(info)&noTrack != 0 && soFar == yes {
			m.p.NoTrack, m.effect = true, "connection is not tracked"
		}
	case "NOTRACK":
		if soFar == yes {
			m.p.NoTrack, m.effect = true, "connection is not tracked"
		}
	case "TPROXY", "SYNPROXY", "TARPIT", "DELUDE":
		m.say(words)
		return maybe
	}
	if name != "LOG" && name != "NFLOG" {
		m.say(words)
	}
	return yes
}

// xtNAT is struct nf_nat_ipv4_multi_range_compat, nf_nat_range or nf_nat_range2 (linux/netfilter/nf_nat.h).
func (m *machine) xtNAT(name string, rev uint32, info []byte) answer {
	const byAddr, byPort = 1, 2
	t := translation{dest: name != "SNAT"}
	old := rev == 0 && !m.p.Is6() || rev == 1 && name == "DNAT" && !m.p.Is6() && len(info) < 40
	var flags uint32
	var addr, port []byte
	switch {
	case old && len(info) >= 20:
		flags, addr, port = binary.NativeEndian.Uint32(info[4:]), info[8:12], info[16:18]
	case !old && len(info) >= 40:
		size := 4
		if m.p.Is6() {
			size = 16
		}
		flags, addr, port = binary.NativeEndian.Uint32(info), info[4:4+size], info[36:38]
	default:
		m.say("-j " + name)
		return maybe
	}
	if flags&byAddr != 0 {
		t.addr, _ = netip.AddrFromSlice(addr)
	}
	if flags&byPort != 0 {
		t.port = binary.BigEndian.Uint16(port)
	}
	if name == "REDIRECT" {
		t.addr = m.ownAddr()
	}
	m.say("-j", name, strings.TrimPrefix(strings.TrimPrefix(t.String(), "dnat "), "snat "))
	m.translate(t)
	return is(t.addr.IsValid() || t.port != 0)
}

// xtSetMark is struct xt_mark_tginfo2.
func (m *machine) xtSetMark(rev uint32, info []byte, soFar answer) answer {
	if rev != 2 || len(info) < 8 || soFar != yes || m.p.NoMark {
		m.p.NoMark = true
		m.say("-j MARK")
		return yes
	}
	mark, mask := binary.NativeEndian.Uint32(info), binary.NativeEndian.Uint32(info[4:])
	m.setMark(certain(native32(m.p.Mark&^mask^mark)), true, soFar)
	return yes
}
