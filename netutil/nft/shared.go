package nft

import (
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// This file is the rules that come with the first pod that needs them and go with the last. Pods are elements of sets, and not of verdict
// maps that lead to a chain for each group of pods, although those would need one rule for all: whenever such an element is added, the
// kernel walks through all others to see that no chain leads back to itself, and with ten thousand pods that takes longer than all else.

// sharedRule is a rule that pods share, such as those of one subnet. It is told from others of its chain by its comment.
type sharedRule struct {
	table   *table
	chain   string
	members *set   // of pods, made with the rule; nil: none of its own
	target  string // a chain that the rule leads to, made with it; empty: none
	comment string
	rule    rule
}

// add makes the rule, and the set that it looks into.
func (r *sharedRule) add(b *batch) error {
	if r.members != nil {
		r.members.add(b, uint32(len(b.messages)+1000)) // a number that no other set of the batch has
	}
	if r.target != "" {
		(&chain{name: r.target}).add(b, r.table)
	}
	ch := chain{name: r.chain, rules: []commented{{r.comment, r.rule}}}
	return ch.addRules(b, r.table)
}

// stands tells whether the rule is there.
func (c *conn) stands(r *sharedRule) (bool, error) {
	rules, err := c.rules(r.table, r.chain)
	return slices.ContainsFunc(rules, func(s standing) bool { return s.comment == r.comment }), err
}

// dropShared removes the rules that no pod is left for once the elements are gone, and returns the comments of those.
func (c *conn) dropShared(b *batch, gone, come []*element) (dropped []string, err error) {
	for i, e := range gone {
		first := slices.IndexFunc(gone, func(o *element) bool { return o.set.same(e.set) }) == i
		stays := slices.ContainsFunc(come, func(o *element) bool { return o.set.same(e.set) })
		chains := e.set.servedBy()
		if !first || stays || len(chains) == 0 {
			continue
		}
		empty, err := c.emptyWithout(e.set, gone)
		if err != nil {
			return nil, err
		}
		if !empty {
			continue
		}
		for _, name := range chains {
			rules, err := c.rules(e.set.table, name)
			if err != nil {
				return nil, err
			}
			for _, r := range rules {
				if e.set.concerns(r.comment) {
					(&chain{name: name}).removeRule(b, e.set.table, r)
					dropped = append(dropped, r.comment)
				}
			}
		}
		if e.set.passing() {
			e.set.remove(b)
		}
	}
	return dropped, nil
}

func (s *set) same(other *set) bool { return s.table == other.table && s.name == other.name }

// memberSet is the set of pods that share rules by its name; nil if the name is of no such set.
func (t *table) memberSet(name string) *set {
	v4, v6 := families()[0], families()[1]
	f := v6
	switch {
	case strings.HasPrefix(name, subnetSetPrefix):
		if strings.Contains(name, ".") { // as IPv4 addresses have
			f = v4
		}
	case strings.HasPrefix(name, groupSetPrefix(v4)):
		f = v4
	case !strings.HasPrefix(name, groupSetPrefix(v6)):
		return nil
	}
	return &set{table: t, name: name, key: []field{f.addr}}
}

// passing tells whether the set comes and goes with the rules.
func (s *set) passing() bool { return s.table.memberSet(s.name) != nil }

// servedBy are the chains in which rules are for the set's pods.
func (s *set) servedBy() []string {
	switch {
	case strings.HasPrefix(s.name, subnetSetPrefix):
		return []string{chainLeaving}
	case s.passing():
		return groupChains()
	case s.name == of(setMapped, families()[0]), s.name == of(setMapped, families()[1]):
		return []string{chainNeighbours}
	case s.name == setIsolated:
		return []string{chainForward}
	}
	return nil
}

// concerns tells whether a rule with the comment, in a chain that serves the set, is for the set's pods.
func (s *set) concerns(comment string) bool {
	if s.name == setIsolated {
		return comment == isolationComment
	}
	if g, ok := parseGroup(comment); ok && g.setName() == s.name {
		return true
	}
	subnet, err := netip.ParsePrefix(comment)
	if err != nil {
		return false
	}
	if s.passing() {
		return s.name == subnetSetName(subnet)
	}
	return s.name == of(setMapped, familyOf(subnet.Addr()))
}

// emptyWithout tells whether the set has no elements but those. It looks at the beginning of the set only, on a socket of its own, for the
// rest would have to be read before anything else could be asked on this one.
func (c *conn) emptyWithout(s *set, gone []*element) (bool, error) {
	if c.second == nil {
		second, err := c.open()
		if err != nil {
			return false, kernelError(err, "open it")
		}
		c.second = second
	}
	var a rawnl.Attrs
	a.Text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	a.Text(unix.NFTA_SET_ELEM_LIST_SET, s.name)
	is := func(e *element) bool {
		return slices.ContainsFunc(gone, func(g *element) bool { return g.set.same(s) && string(g.key) == string(e.key) })
	}
	list := message(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, s.table.family, a)
	answer, complete, err := c.second.Browse(list, func(body []byte) bool {
		return !slices.ContainsFunc(s.elements(attributes(body)), func(e *element) bool { return !is(e) })
	})
	if !complete {
		c.closeSecond()
	}
	if err == nil {
		err = answer.Err
	}
	return complete, kernelError(err, "look into %s", s.name)
}
