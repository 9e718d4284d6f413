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
	Kind     string   // "filter", "nat", "route"
	Policy   uint32   // NF_
	devices  []string // whose hook it is; of families that have that
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
	c.devices = hookDevices(hook)
	c.Kind = rawnl.String(rawnl.Find(attrs, unix.NFTA_CHAIN_TYPE))
	if rawnl.Find(attrs, unix.NFTA_CHAIN_POLICY) != nil {
		c.Policy = uint32At(attrs, unix.NFTA_CHAIN_POLICY)
	}
	r.bases = append(r.bases, c)
}

// hookDevices are the links that a hook is on.
func hookDevices(hook []byte) (out []string) {
	const devices = 4 // NFTA_HOOK_DEVS
	if one := rawnl.Find(hook, unix.NFTA_HOOK_DEV); one != nil {
		out = append(out, rawnl.String(one))
	}
	rawnl.Each(rawnl.Find(hook, devices), func(_ uint16, name []byte) { out = append(out, rawnl.String(name)) })
	return out
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
