package nft

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rawnl"
)

// This file is the rules that come and go with the pods of a subnet. Their comment is the subnet. Pods are elements of sets, and not of
// verdict maps that lead to a chain for each subnet, although those would need one rule for all: whenever such an element is added, the
// kernel walks through all others to see that no chain leads back to itself, and with ten thousand pods that takes longer than all else.

// subnetRule is a rule of one subnet.
type subnetRule struct {
	table   *table
	chain   string
	members *set // of pods, made with the rule; nil: none of its own
	subnet  netip.Prefix
	rule    rule
}

// leaving gives the host's address to what a subnet's pods send to elsewhere, multicast aside.
func (l *layout) leaving(subnet netip.Prefix) *subnetRule {
	f := familyOf(subnet.Addr())
	members := l.inet.subnetSet(subnetSetName(subnet))
	return &subnetRule{table: l.inet, chain: chainLeaving, members: members, subnet: subnet, rule: join(
		f.is(), in(members.name, f.address(f.source)),
		f.within(expr.CmpOpNeq, f.dest, subnet), f.within(expr.CmpOpNeq, f.dest, f.multicast), counter(), masquerade(),
	)}
}

// neighbours gives the host's address to those who came through a host port from the pod's own subnet, the pod itself included: the pod
// would answer them directly, and not the way that they came.
func (l *layout) neighbours(subnet netip.Prefix) *subnetRule {
	f := familyOf(subnet.Addr())
	return &subnetRule{table: l.inet, chain: chainNeighbours, subnet: subnet, rule: join(
		f.is(), f.within(expr.CmpOpEq, f.source, subnet), f.within(expr.CmpOpEq, f.dest, subnet), masquerade(),
	)}
}

const subnetSetPrefix = "masquerade-"

// subnetSetName is a name that nft(8) reads again, as it knows no colons in names, and short enough for the journal.
func subnetSetName(subnet netip.Prefix) string {
	const longest = 32
	name := subnetSetPrefix + strings.ReplaceAll(subnet.String(), ":", "_")
	if len(name) <= longest {
		return name
	}
	return subnetSetPrefix + owner.Owner{Network: subnet.String()}.LinkName()
}

// subnetSet is the set of a subnet's pods by its name; nil if the name is of no such set.
func (t *table) subnetSet(name string) *set {
	if !strings.HasPrefix(name, subnetSetPrefix) {
		return nil
	}
	f := families()[1]
	if strings.Contains(name, ".") { // as IPv4 addresses have
		f = families()[0]
	}
	return &set{table: t, name: name, key: []field{f.addr}}
}

// add makes the rule, and the set that it looks into.
func (r *subnetRule) add(b *batch) error {
	if r.members != nil {
		r.members.add(b, uint32(len(b.messages)+1000)) // a number that no other set of the batch has
	}
	ch := chain{name: r.chain, rules: []commented{{r.subnet.String(), r.rule}}}
	return ch.addRules(b, r.table)
}

// stands tells whether the rule is there.
func (c *conn) stands(r *subnetRule) (bool, error) {
	rules, err := c.rules(r.table, r.chain)
	return slices.ContainsFunc(rules, func(s standing) bool { return s.comment == r.subnet.String() }), err
}

// dropSubnets removes the rules of subnets that have no pod left once the elements are gone.
func (c *conn) dropSubnets(b *batch, gone, come []*element) error {
	for i, e := range gone {
		first := slices.IndexFunc(gone, func(o *element) bool { return o.set.same(e.set) }) == i
		stays := slices.ContainsFunc(come, func(o *element) bool { return o.set.same(e.set) })
		chainName := e.set.servedBy()
		if !first || stays || chainName == "" {
			continue
		}
		empty, err := c.emptyWithout(e.set, gone)
		if err != nil {
			return err
		}
		if !empty {
			continue
		}
		rules, err := c.rules(e.set.table, chainName)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if e.set.concerns(r.comment) {
				(&chain{name: chainName}).removeRule(b, e.set.table, r)
			}
		}
		if strings.HasPrefix(e.set.name, subnetSetPrefix) {
			e.set.remove(b)
		}
	}
	return nil
}

func (s *set) same(other *set) bool { return s.table == other.table && s.name == other.name }

// servedBy is the chain whose rules of subnets are for the set's pods; empty if there is none.
func (s *set) servedBy() string {
	switch {
	case strings.HasPrefix(s.name, subnetSetPrefix):
		return chainLeaving
	case s.name == of(setMapped, families()[0]), s.name == of(setMapped, families()[1]):
		return chainNeighbours
	}
	return ""
}

// concerns tells whether a rule with the comment is for the set's pods.
func (s *set) concerns(comment string) bool {
	subnet, err := netip.ParsePrefix(comment)
	if err != nil {
		return false
	}
	if strings.HasPrefix(s.name, subnetSetPrefix) {
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
