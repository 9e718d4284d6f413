package eval

import (
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rawnl"
)

// Ruleset is all tables of a namespace, as they were when they were read.
type Ruleset struct {
	tables []*Table
	bases  []*Chain // of all tables, those made last first: of equal priority the kernel asks them in this order
}

// Table is a table of the packet filter.
type Table struct {
	Family byte // NFPROTO_
	Name   string
	Sets   map[string]*Set
	chains map[string]*Chain
}

// String is the table as nft(8) names it.
func (t *Table) String() string { return familyName(t.Family) + " " + t.Name }

func familyName(f byte) string {
	switch f {
	case unix.NFPROTO_INET:
		return "inet"
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	case unix.NFPROTO_BRIDGE:
		return "bridge"
	case unix.NFPROTO_ARP:
		return "arp"
	case unix.NFPROTO_NETDEV:
		return "netdev"
	}
	return "family " + number(uint32(f))
}

// Chain is a chain with its rules. Hook, priority, kind and policy are those of a base chain.
type Chain struct {
	Table    *Table
	Name     string
	Base     bool
	Hook     uint32
	Priority int32
	Kind     string // "filter", "nat", "route"
	Policy   uint32 // NF_
	rules    []rule
}

type rule struct {
	handle  uint64
	exprs   []byte
	comment string
}

// Set is a set or a map, without its elements: they are asked for one by one.
type Set struct {
	Table    *Table
	Name     string
	Flags    uint32 // NFT_SET_
	KeySize  int    // bytes
	DataSize int    // of a map
	Verdicts bool   // it is a map of verdicts
	kinds    []kind
	values   []kind
}

// ref is the set as rules name it; one without a name of its own is told by the element that was found.
func (s *Set) ref() string {
	if s.Flags&unix.NFT_SET_ANONYMOUS != 0 {
		return "{...}"
	}
	return "@" + s.Name
}

// Element is an element of a set.
type Element struct {
	Key, End []byte // End: the last key of an interval, as far as it is known
	Value    []byte
	Verdict  []byte // attributes (NFTA_VERDICT_)
	Comment  string
	exprs    []byte
}

// applies tells whether an element that fits counts: one with a limit may not.
func (e *Element) applies() answer {
	out := yes
	rawnl.Each(e.exprs, func(_ uint16, v []byte) {
		name := rawnl.String(rawnl.Find(v, unix.NFTA_EXPR_NAME))
		if name != "" && name != "counter" && name != "last" {
			out = maybe
		}
	})
	return out
}

// Exchange asks the kernel, as rawnl.Socket.Exchange does on a socket of NETLINK_NETFILTER.
type Exchange func(...rawnl.Message) ([]rawnl.Answer, error)

func message(kind int, flags uint16, family byte, attrs rawnl.Attrs) rawnl.Message {
	return rawnl.Message{
		Type: uint16(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: flags,
		Body: append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attrs...),
	}
}

// dump lists objects of a kind of all families: the family and the attributes of each.
func (x Exchange) dump(kind int, family byte, attrs rawnl.Attrs, visit func(family byte, attrs []byte)) error {
	a, err := rawnl.Dump(x, message(kind, unix.NLM_F_DUMP, family, attrs))
	switch {
	case err != nil:
		return err
	case a.Interrupted:
		return errcode.Errorf(errcode.TryAgainLater, "packet filter: it changes faster than it can be listed")
	case errors.Is(a.Err, unix.ENOENT):
		return nil
	case a.Err != nil:
		return errcode.Errorf(errcode.Kernel, "list the packet filter: %w", a.Err)
	}
	for _, b := range a.Bodies {
		if len(b) >= 4 {
			visit(b[0], b[4:])
		}
	}
	return nil
}

// Read reads all tables of the namespace that the socket of exchange is in.
func Read(exchange Exchange) (*Ruleset, error) {
	r := &Ruleset{}
	err := exchange.dump(unix.NFT_MSG_GETTABLE, unix.NFPROTO_UNSPEC, nil, r.addTable)
	if err != nil || len(r.tables) == 0 {
		return r, err
	}
	err = exchange.dump(unix.NFT_MSG_GETCHAIN, unix.NFPROTO_UNSPEC, nil, r.addChain)
	if err == nil {
		err = exchange.dump(unix.NFT_MSG_GETRULE, unix.NFPROTO_UNSPEC, nil, r.addRule)
	}
	for _, t := range r.tables {
		if err == nil {
			var a rawnl.Attrs
			a.Text(unix.NFTA_SET_TABLE, t.Name)
			err = exchange.dump(unix.NFT_MSG_GETSET, t.Family, a, r.addSet)
		}
	}
	slices.Reverse(r.bases)
	return r, err
}

func (r *Ruleset) table(family byte, name []byte) *Table {
	for _, t := range r.tables {
		if t.Family == family && t.Name == rawnl.String(name) {
			return t
		}
	}
	return nil
}

func (r *Ruleset) addTable(family byte, attrs []byte) {
	if uint32At(attrs, unix.NFTA_TABLE_FLAGS)&unix.NFT_TABLE_F_DORMANT != 0 {
		return
	}
	name := rawnl.String(rawnl.Find(attrs, unix.NFTA_TABLE_NAME))
	r.tables = append(r.tables, &Table{Family: family, Name: name, Sets: map[string]*Set{}, chains: map[string]*Chain{}})
}

func (r *Ruleset) addChain(family byte, attrs []byte) {
	t := r.table(family, rawnl.Find(attrs, unix.NFTA_CHAIN_TABLE))
	if t == nil {
		return
	}
	c := &Chain{Table: t, Name: rawnl.String(rawnl.Find(attrs, unix.NFTA_CHAIN_NAME)), Policy: verdictAccept}
	t.chains[c.Name] = c
	hook := rawnl.Find(attrs, unix.NFTA_CHAIN_HOOK)
	if hook == nil {
		return
	}
	c.Base, c.Hook = true, uint32At(hook, unix.NFTA_HOOK_HOOKNUM)
	c.Priority = int32(uint32At(hook, unix.NFTA_HOOK_PRIORITY))
	c.Kind = rawnl.String(rawnl.Find(attrs, unix.NFTA_CHAIN_TYPE))
	if rawnl.Find(attrs, unix.NFTA_CHAIN_POLICY) != nil {
		c.Policy = uint32At(attrs, unix.NFTA_CHAIN_POLICY)
	}
	r.bases = append(r.bases, c)
}

func (r *Ruleset) addRule(family byte, attrs []byte) {
	t := r.table(family, rawnl.Find(attrs, unix.NFTA_RULE_TABLE))
	if t == nil {
		return
	}
	c := t.chains[rawnl.String(rawnl.Find(attrs, unix.NFTA_RULE_CHAIN))]
	if c == nil {
		return
	}
	one := rule{exprs: rawnl.Find(attrs, unix.NFTA_RULE_EXPRESSIONS), comment: Comment(rawnl.Find(attrs, unix.NFTA_RULE_USERDATA))}
	if h := rawnl.Find(attrs, unix.NFTA_RULE_HANDLE); len(h) == 8 {
		one.handle = binary.BigEndian.Uint64(h)
	}
	c.rules = append(c.rules, one)
}

func (r *Ruleset) addSet(family byte, attrs []byte) {
	t := r.table(family, rawnl.Find(attrs, unix.NFTA_SET_TABLE))
	if t == nil {
		return
	}
	s := &Set{
		Table: t, Name: rawnl.String(rawnl.Find(attrs, unix.NFTA_SET_NAME)), Flags: uint32At(attrs, unix.NFTA_SET_FLAGS),
		KeySize: int(uint32At(attrs, unix.NFTA_SET_KEY_LEN)), DataSize: int(uint32At(attrs, unix.NFTA_SET_DATA_LEN)),
		Verdicts: uint32At(attrs, unix.NFTA_SET_DATA_TYPE) == unix.NFT_DATA_VERDICT,
		kinds:    kindsOf(uint32At(attrs, unix.NFTA_SET_KEY_TYPE)),
	}
	if !s.Verdicts {
		s.values = kindsOf(uint32At(attrs, unix.NFTA_SET_DATA_TYPE))
	}
	t.Sets[s.Name] = s
}

// Comment is the comment in what nft(8) keeps with a rule or an element: pieces of a kind, a length and that many bytes (libnftnl/udata.h).
func Comment(pieces []byte) string {
	for len(pieces) >= 2 {
		kind, n := pieces[0], int(pieces[1])
		if len(pieces) < 2+n {
			return ""
		}
		if kind == 0 {
			return rawnl.String(pieces[2 : 2+n])
		}
		pieces = pieces[2+n:]
	}
	return ""
}

// Element asks the kernel for the element of a set that a key is, or falls into; nil if there is none.
func (x Exchange) Element(s *Set, key []byte) (*Element, error) {
	found, err := x.element(s, key, 0)
	if found == nil || err != nil || s.Flags&unix.NFT_SET_INTERVAL == 0 || found.End != nil {
		return found, err
	}
	// Where the interval ends is an element of its own, unless the key has several parts. It is told to people only.
	if end, err := x.element(s, key, unix.NFT_SET_ELEM_INTERVAL_END); err == nil && end != nil {
		found.End = before(end.Key)
	}
	return found, nil
}

func (x Exchange) element(s *Set, key []byte, flags uint32) (*Element, error) {
	var a rawnl.Attrs
	a.Text(unix.NFTA_SET_ELEM_LIST_TABLE, s.Table.Name)
	a.Text(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
	a.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(a *rawnl.Attrs) {
		a.Nested(unix.NFTA_LIST_ELEM, func(a *rawnl.Attrs) {
			if flags != 0 {
				a.Uint32BE(unix.NFTA_SET_ELEM_FLAGS, flags)
			}
			a.Nested(unix.NFTA_SET_ELEM_KEY, func(a *rawnl.Attrs) { a.Bytes(unix.NFTA_DATA_VALUE, key) })
		})
	})
	answers, err := x(message(unix.NFT_MSG_GETSETELEM, 0, s.Table.Family, a))
	if err != nil {
		return nil, err
	}
	switch answer := answers[0]; {
	case errors.Is(answer.Err, unix.ENOENT):
		return nil, nil
	case answer.Err != nil:
		return nil, answer.Err
	case len(answer.Bodies) == 0 || len(answer.Bodies[0]) < 4:
		return nil, nil
	default:
		if all := decodeElements(answer.Bodies[0][4:]); len(all) > 0 {
			return all[0], nil
		}
		return nil, nil
	}
}

// Elements lists all elements of a set.
func (x Exchange) Elements(s *Set) (out []*Element, err error) {
	var a rawnl.Attrs
	a.Text(unix.NFTA_SET_ELEM_LIST_TABLE, s.Table.Name)
	a.Text(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
	err = x.dump(unix.NFT_MSG_GETSETELEM, s.Table.Family, a, func(_ byte, attrs []byte) { out = append(out, decodeElements(attrs)...) })
	return out, err
}

func decodeElements(attrs []byte) (out []*Element) {
	const keyEnd, expressions = 10, 11 // NFTA_SET_ELEM_KEY_END, NFTA_SET_ELEM_EXPRESSIONS
	rawnl.Each(rawnl.Find(attrs, unix.NFTA_SET_ELEM_LIST_ELEMENTS), func(_ uint16, v []byte) {
		data := rawnl.Find(v, unix.NFTA_SET_ELEM_DATA)
		e := &Element{
			Key: dataAt(v, unix.NFTA_SET_ELEM_KEY), End: dataAt(v, keyEnd),
			Value: rawnl.Find(data, unix.NFTA_DATA_VALUE), Verdict: rawnl.Find(data, unix.NFTA_DATA_VERDICT),
			Comment: Comment(rawnl.Find(v, unix.NFTA_SET_ELEM_USERDATA)),
		}
		if one := rawnl.Find(v, unix.NFTA_SET_ELEM_EXPR); one != nil {
			var a rawnl.Attrs
			a.Bytes(unix.NFTA_LIST_ELEM, one)
			e.exprs = a
		}
		if more := rawnl.Find(v, expressions); more != nil {
			e.exprs = more
		}
		out = append(out, e)
	})
	return out
}

// before is the key in front of one.
func before(key []byte) []byte {
	out := slices.Clone(key)
	for i := len(out) - 1; i >= 0; i-- {
		out[i]--
		if out[i] != 0xff {
			break
		}
	}
	return out
}

// text is the element as nft(8) writes it.
func (e *Element) text(s *Set) string {
	words := formatKey(s.kinds, e.Key)
	if end := formatKey(s.kinds, e.End); e.End != nil && end != words {
		words += "-" + end
	}
	switch {
	case e.Verdict != nil:
		m := machine{}
		m.setVerdict(e.Verdict)
		words += " : " + m.verdict.String()
	case e.Value != nil:
		words += " : " + formatKey(s.values, e.Value)
	}
	return words
}
