package eval

import (
	"encoding/binary"
	"net/netip"
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
	drawnOf int      // of how many it was drawn by chance; 0: it was not
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

// uint32At is an attribute of 32 bits in the network's order; 0 if it is missing.
func uint32At(attrs []byte, kind uint16) uint32 {
	b := rawnl.Find(attrs, kind)
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
