package eval

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// Env is what rules ask of the namespace that they are in.
type Env interface {
	// Element is the element of a set that a key is, or falls into; nil if there is none.
	Element(s *Set, key []byte) (*Element, error)
	// Elements are all elements of a set.
	Elements(s *Set) ([]*Element, error)
	// Fib is the type (RTN_) of the route to an address, and the link that it leads to. Unless it is 0, via is the only link that may be used. ok is
	// false if it is not known.
	Fib(to netip.Addr, mark uint32, via int) (kind uint8, link Device, ok bool)
	// AddrOf is the address that the namespace sends from by a link; the zero Addr if it has none of the family.
	AddrOf(link int, to netip.Addr) netip.Addr
}

// machine evaluates one rule.
type machine struct {
	env     Env
	table   *Table
	chain   *Chain
	p       *Packet
	regs    registers
	words   []string // the rule, as nft(8) would write it
	pending []saidLater
	comment string
	element *Element // that was found last
	set     *Set     // in which
	verdict verdict
	effect  string // what the rule does besides; empty: nothing that matters here
	nat     *translation
}

// verdict is what becomes of a packet.
type verdict struct {
	code    int32 // NF_ or NFT_
	chain   string
	refused bool // whoever sent it is told
}

const (
	verdictDrop     = 0  // NF_DROP
	verdictAccept   = 1  // NF_ACCEPT
	verdictStolen   = 2  // NF_STOLEN
	verdictQueue    = 3  // NF_QUEUE
	verdictContinue = -1 // NFT_CONTINUE
	verdictBreak    = -2
	verdictJump     = -3
	verdictGoto     = -4
	verdictReturn   = -5
)

// run evaluates a rule's expressions, and tells whether it applies. Perhaps says that it is not known whether the packet comes to it.
func (m *machine) run(exprs []byte, perhaps bool) answer {
	m.regs, m.verdict, m.nat = newRegisters(), verdict{code: verdictContinue}, nil
	all, comes := yes, yes
	if perhaps {
		comes = maybe
	}
	ended := false
	rawnl.Each(exprs, func(_ uint16, e []byte) {
		if ended || all == no {
			return
		}
		a := m.step(rawnl.String(rawnl.Find(e, unix.NFTA_EXPR_NAME)), rawnl.Find(e, unix.NFTA_EXPR_DATA), min(all, comes))
		all = min(all, a)
		ended = m.verdict.code != verdictContinue
	})
	return all
}

// say adds to what people read of the rule. What it compares a protocol with is left out if the next words tell it anyway, as nft(8) does.
func (m *machine) say(words ...string) {
	for _, p := range m.pending {
		if !strings.HasPrefix(strings.Join(words, " "), p.implied) {
			m.words = append(m.words, p.words)
		}
	}
	m.pending = nil
	for _, w := range words {
		if w != "" {
			m.words = append(m.words, w)
		}
	}
}

// saidLater is a comparison that is told unless words that imply it follow.
type saidLater struct{ words, implied string }

func (m *machine) text() string { return strings.Join(m.words, " ") }

// step evaluates one expression. So far tells whether all before it match.
func (m *machine) step(name string, data []byte, soFar answer) answer {
	switch name {
	case "payload":
		return m.payload(data)
	case "meta":
		return m.meta(data, soFar)
	case "ct":
		return m.ct(data, soFar)
	case "cmp":
		return m.cmp(data)
	case "range":
		return m.inRange(data)
	case "bitwise":
		return m.bitwise(data)
	case "byteorder":
		return m.byteorder(data)
	case "immediate":
		return m.immediate(data)
	case "lookup":
		return m.lookup(data)
	case "fib":
		return m.fib(data)
	case "match":
		return m.match(data)
	case "target":
		return m.target(data, soFar)
	}
	return m.act(name, data, soFar)
}

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
	m.say(name)
	if reg == 0 {
		return maybe
	}
	m.regs.set(reg, value{}.unknown(size), operand{words: name, kind: kindNumber})
	return yes
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

// immediate is a verdict, or loads a value.
func (m *machine) immediate(data []byte) answer {
	reg, d := uint32At(data, unix.NFTA_IMMEDIATE_DREG), rawnl.Find(data, unix.NFTA_IMMEDIATE_DATA)
	if v := rawnl.Find(d, unix.NFTA_DATA_VERDICT); v != nil && reg == verdictReg {
		m.setVerdict(v)
		m.say(m.verdict.String())
		return yes
	}
	b := rawnl.Find(d, unix.NFTA_DATA_VALUE)
	return is(m.regs.set(reg, certain(b), operand{words: "", kind: kindInteger}))
}

func (m *machine) setVerdict(v []byte) {
	m.verdict = verdict{code: int32(uint32At(v, unix.NFTA_VERDICT_CODE)), chain: rawnl.String(rawnl.Find(v, unix.NFTA_VERDICT_CHAIN))}
	if m.verdict.code >= 0 {
		const mask = 0xff // NF_VERDICT_MASK; the rest tells of queues and errors
		m.verdict.code &= mask
	}
}

// String is the verdict as nft(8) writes it.
func (v verdict) String() string {
	switch v.code {
	case verdictDrop:
		if v.refused {
			return "reject"
		}
		return "drop"
	case verdictAccept:
		return "accept"
	case verdictQueue:
		return "queue"
	case verdictJump:
		return "jump " + v.chain
	case verdictGoto:
		return "goto " + v.chain
	case verdictReturn:
		return "return"
	case verdictStolen:
		return "taken away"
	}
	return "continue"
}

// lookup looks for what is loaded in a set or a map.
func (m *machine) lookup(data []byte) answer {
	name := rawnl.String(rawnl.Find(data, unix.NFTA_LOOKUP_SET))
	set := m.table.Sets[name]
	if set == nil {
		return maybe
	}
	inverted := uint32At(data, unix.NFTA_LOOKUP_FLAGS)&unix.NFT_LOOKUP_F_INV != 0
	sreg := uint32At(data, unix.NFTA_LOOKUP_SREG)
	key, ok := m.regs.get(sreg, set.KeySize)
	words, _ := m.regs.words(sreg, set.KeySize)
	into := rawnl.Find(data, unix.NFTA_LOOKUP_DREG)
	m.say(strings.TrimSpace(words + how(inverted, into != nil, set) + set.ref()))
	var dreg uint32
	if into != nil {
		dreg = uint32At(data, unix.NFTA_LOOKUP_DREG)
	}
	if !ok || !key.certain() {
		if ok && m.lacks(set, key, m.regs.operand(sreg)) {
			return is(inverted)
		}
		return m.notLookedUp(set, into != nil, dreg)
	}
	e, err := m.env.Element(set, key.data)
	if err != nil {
		return m.notLookedUp(set, into != nil, dreg)
	}
	if (e != nil) == inverted {
		return no
	}
	if e == nil {
		return yes
	}
	m.element, m.set = e, set
	if into != nil {
		return min(m.take(e, set, dreg), e.applies())
	}
	return e.applies()
}

func how(inverted, mapped bool, set *Set) string {
	switch {
	case mapped && set.Verdicts:
		return " vmap "
	case mapped:
		return " map "
	case inverted:
		return " != "
	}
	return " "
}

// lacks tells whether no element can be the key, of which only a part is known.
func (m *machine) lacks(set *Set, key value, o operand) bool {
	if set.Flags&unix.NFT_SET_INTERVAL != 0 {
		return false
	}
	all, err := m.env.Elements(set)
	return err == nil && !slices.ContainsFunc(all, func(e *Element) bool { return len(e.Key) != len(key.data) || o.equals(key, e.Key) != no })
}

// notLookedUp is a look-up whose key is not known.
func (m *machine) notLookedUp(set *Set, mapped bool, dreg uint32) answer {
	if mapped && dreg != verdictReg {
		m.regs.set(dreg, value{}.unknown(min(set.DataSize, maxData)), operand{words: set.ref(), kind: kindInteger})
	}
	return maybe
}

// take makes an element's value the verdict, or loads it.
func (m *machine) take(e *Element, set *Set, dreg uint32) answer {
	if dreg == verdictReg {
		m.setVerdict(e.Verdict)
		return yes
	}
	return is(m.regs.set(dreg, certain(e.Value), operand{words: set.ref(), kind: kindInteger}))
}

// uint32At is an attribute of 32 bits in the network's order; 0 if it is missing.
func uint32At(attrs []byte, kind uint16) uint32 {
	b := rawnl.Find(attrs, kind)
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
