package nft

import (
	"encoding/binary"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rawnl"
)

// This file admits the pods' traffic in chains of other programs: of several base chains at one hook each must let a packet pass, so where
// one drops what it does not know, an accept in our own table is of no use. Such a chain gets one rule at its top, which leads to a chain
// of ours in the same table. That has two rules for each group of pods, and more for other nodes' pods (nodes.go). iptables (its nft variant)
// reads them: it knows no sets, and would print a rule that looks into one as one without that condition.

// foreignChain is our chain in tables of others.
const foreignChain = "CNIBOX-FORWARD"

// verdictDrop is NF_DROP (linux/netfilter.h), as a policy and as a verdict.
const verdictDrop = 0

// foreign is a base chain at the forward hook in another program's table.
type foreign struct {
	*table
	chain  string
	policy uint32
	used   bool // it has rules
}

// surveyed is what other programs have at the forward hook.
type surveyed struct {
	bases []foreign
	ours  []*table // that have a chain of ours
}

// survey lists the chains of all tables.
func (c *conn) survey() (s surveyed, err error) {
	bodies, err := c.dump(unix.NFT_MSG_GETCHAIN, unix.NFPROTO_UNSPEC, nil)
	for _, b := range bodies {
		attrs := attributes(b)
		t := &table{family: b[0], name: rawnl.String(rawnl.Find(attrs, unix.NFTA_CHAIN_TABLE))}
		switch t.family {
		case unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_INET:
		default:
			continue
		}
		name := rawnl.String(rawnl.Find(attrs, unix.NFTA_CHAIN_NAME))
		if name == foreignChain {
			s.ours = append(s.ours, t)
		}
		hook := rawnl.Find(rawnl.Find(attrs, unix.NFTA_CHAIN_HOOK), unix.NFTA_HOOK_HOOKNUM)
		if t.name == tableName || number(hook) != unix.NF_INET_FORWARD || len(hook) == 0 {
			continue
		}
		policy := rawnl.Find(attrs, unix.NFTA_CHAIN_POLICY)
		s.bases = append(s.bases, foreign{t, name, number(policy), number(rawnl.Find(attrs, unix.NFTA_CHAIN_USE)) > 0})
	}
	return s, kernelError(err, "list the chains")
}

// number is an attribute of 32 bits; 0 if it is missing.
func number(value []byte) uint32 {
	if len(value) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(value)
}

// admit adds to the batch what makes other programs' chains let the pods' traffic pass, once the rules that come and go have done so.
// It returns the tables that rules were added to. A table that cannot be changed is an error only for who is strict.
func (c *conn) admit(b *batch, come []*sharedRule, gone []string, strict bool) (tables []string, err error) {
	own := &table{family: unix.NFPROTO_INET, name: tableName}
	groups, err := c.rules(own, chainFromPods)
	if err != nil {
		return nil, err
	}
	admins, err := c.rules(own, chainAdmin)
	if err != nil {
		return nil, err
	}
	a := admission{strict: strict}
	if a.ways, err = c.ways(); err != nil {
		return nil, err
	}
	for _, r := range groups {
		if !slices.Contains(gone, r.comment) {
			a.addGroup(r.comment)
		}
	}
	for _, r := range admins {
		a.admins = append(a.admins, r.comment)
	}
	for _, r := range come {
		switch r.chain {
		case chainFromPods:
			a.addGroup(r.comment)
		case chainAdmin:
			a.admins = append(a.admins, r.comment)
		}
	}
	if len(a.groups) == 0 {
		if err := c.dismiss(b, own, chainAdmin, admins); err != nil {
			return nil, err
		}
	}
	s, err := c.survey()
	if err != nil {
		return nil, err
	}
	return c.reconcile(b, s, &a)
}

// admission is what is to be let through.
type admission struct {
	groups []group
	ways   []way
	admins []string
	strict bool
}

func (a *admission) addGroup(comment string) {
	if g, ok := parseGroup(comment); ok {
		a.groups = append(a.groups, g)
	}
}

// dismiss removes rules that lead to administrators' chains, and those of these chains that are empty.
func (c *conn) dismiss(b *batch, t *table, from string, rules []standing) error {
	var names []string
	for _, r := range rules {
		if to := r.jump(); to != "" {
			names = append(names, to)
		}
	}
	uses, err := c.uses(t, names...)
	if err != nil {
		return err
	}
	for _, r := range rules {
		(&chain{name: from}).removeRule(b, t, r)
	}
	for i, name := range names {
		if uses[i] == 1 { // the rule that led there
			(&chain{name: name}).remove(b, t)
		}
	}
	return nil
}

// reconcile makes each table of other programs as it should be, and returns those that rules were added to.
func (c *conn) reconcile(b *batch, s surveyed, a *admission) (changed []string, err error) {
	tables := slices.Clone(s.ours)
	for _, base := range s.bases {
		if !slices.ContainsFunc(tables, base.is) {
			tables = append(tables, base.table)
		}
	}
	for _, t := range tables {
		before := len(b.messages)
		if err := c.reconcileTable(b, s, t, a); err != nil {
			return nil, err
		}
		if len(b.messages) > before && len(a.groups) > 0 {
			changed = append(changed, t.String())
		}
	}
	return changed, nil
}

func (t *table) is(other *table) bool { return t.family == other.family && t.name == other.name }

// reconcileTable adds and removes rules of one table.
func (c *conn) reconcileTable(b *batch, s surveyed, t *table, a *admission) error {
	want := t.admitting(a)
	present := slices.ContainsFunc(s.ours, t.is)
	var enter []string // base chains that lack our rule
	for _, base := range s.bases {
		if !base.is(t) || !present && (len(want) == 0 || base.policy != verdictDrop && !base.used) {
			continue
		}
		rules, err := c.rules(t, base.chain)
		if err != nil {
			return err
		}
		in := slices.IndexFunc(rules, func(r standing) bool { return r.jump() == foreignChain })
		switch {
		case len(want) == 0:
			for _, r := range rules {
				if r.jump() == foreignChain {
					(&chain{name: base.chain}).removeRule(b, t, r)
				}
			}
		case in < 0 && (base.policy == verdictDrop || len(rules) > 0 && rules[len(rules)-1].refuses()):
			enter = append(enter, base.chain)
		}
	}
	if len(enter) > 0 {
		if err := c.refuseOwned(t); err != nil {
			if a.strict {
				return err
			}
			return nil
		}
	}
	switch {
	case present:
		if err := c.refill(b, t, want); err != nil {
			return err
		}
	case len(enter) > 0:
		if err := c.fill(b, t, want); err != nil {
			return err
		}
	}
	for _, name := range enter {
		first := chain{name: name, rules: []commented{{"cnibox", join(counter(), jump(foreignChain))}}}
		if err := first.insertRules(b, t); err != nil {
			return err
		}
	}
	return nil
}

// refill makes our chain in a table of others hold the rules that are wanted, or takes it away.
func (c *conn) refill(b *batch, t *table, want []commented) error {
	have, err := c.rules(t, foreignChain)
	if err != nil {
		return err
	}
	if len(want) == 0 {
		var admins []standing
		for _, r := range have {
			if r.jump() != "" {
				admins = append(admins, r)
			}
		}
		if err := c.dismiss(b, t, foreignChain, admins); err != nil {
			return err
		}
		(&chain{name: foreignChain}).remove(b, t)
		return nil
	}
	same := slices.EqualFunc(have, want, func(h standing, w commented) bool { return h.text() == w.comment })
	if same {
		return nil
	}
	return c.fill(b, t, want)
}

// fill makes our chain in a table of others anew, and the administrators' chains that it leads to.
func (c *conn) fill(b *batch, t *table, want []commented) error {
	ch := &chain{name: foreignChain, rules: want}
	ch.add(b, t)
	ch.flush(b, t)
	for _, w := range want {
		if v, ok := w.rule[len(w.rule)-1].(*expr.Verdict); ok && v.Kind == expr.VerdictJump {
			(&chain{name: v.Chain}).add(b, t)
		}
	}
	return ch.addRules(b, t)
}

// refuseOwned is an error if only the program that has made the table may change it, as firewalld's from version 2.1 on.
func (c *conn) refuseOwned(t *table) error {
	const owned = 1 << 1 // NFT_TABLE_F_OWNER, linux/netfilter/nf_tables.h
	var a rawnl.Attrs
	a.Text(unix.NFTA_TABLE_NAME, t.name)
	found, err := c.ask([]rawnl.Message{message(unix.NFT_MSG_GETTABLE, 0, t.family, a)})
	if err != nil {
		return kernelError(err, "look up table %s", t)
	}
	if number(rawnl.Find(found[0], unix.NFTA_TABLE_FLAGS))&owned != 0 {
		return errcode.Errorf(errcode.Kernel, "packet filter: table %s drops what is forwarded, and nobody but its owner may change it; "+
			"if that is firewalld, set \"backend\": \"firewalld\"", t)
	}
	return nil
}

// verifyAdmission is an error with code errcode.Differs if a chain of another program's has become such that it stops the pods' traffic.
func (c *conn) verifyAdmission() error {
	lacking, err := c.admit(&batch{}, nil, nil, true)
	if err == nil && len(lacking) > 0 {
		err = errcode.Errorf(errcode.Differs, "packet filter: table %s drops what is forwarded, and lacks the rules for pods, or has others", lacking[0])
	}
	return err
}
