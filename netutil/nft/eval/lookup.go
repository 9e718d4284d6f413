package eval

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

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
		if e := m.drawn(set, m.regs.operand(sreg)); e != nil && into != nil {
			m.element, m.set = e, set
			return m.take(e, set, dreg)
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

// drawn is one of the elements of a map in which chance decides, as of a service with several pods behind it: the first.
func (m *machine) drawn(set *Set, o operand) *Element {
	if !o.chance {
		return nil
	}
	all, err := m.env.Elements(set)
	if err != nil || len(all) == 0 {
		return nil
	}
	m.drawnOf = len(all)
	return slices.MinFunc(all, func(a, b *Element) int { return bytes.Compare(a.Key, b.Key) })
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
