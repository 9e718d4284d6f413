package nft

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rawnl"
)

// This file admits the pods' traffic in chains of other programs: of several base chains at one hook each must let a packet pass, so where
// one drops what it does not know, an accept in our own table is of no use. Such a chain gets one rule at its top, which leads to a chain
// of ours in the same table. That has two rules for each group of pods. iptables (its nft variant) reads them: it knows no sets, and would
// print a rule that looks into one as one without that condition.

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
func (c *conn) admit(b *batch, come []*sharedRule, gone []string) error {
	own := &table{family: unix.NFPROTO_INET, name: tableName}
	groups, err := c.rules(own, chainFromPods)
	if err != nil {
		return err
	}
	admins, err := c.rules(own, chainAdmin)
	if err != nil {
		return err
	}
	var a admission
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
			return err
		}
	}
	s, err := c.survey()
	if err != nil {
		return err
	}
	return c.reconcile(b, s, &a)
}

// admission is what is to be let through.
type admission struct {
	groups []group
	admins []string
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

// reconcile makes each table of other programs as it should be.
func (c *conn) reconcile(b *batch, s surveyed, a *admission) error {
	tables := slices.Clone(s.ours)
	for _, base := range s.bases {
		if !slices.ContainsFunc(tables, base.is) {
			tables = append(tables, base.table)
		}
	}
	for _, t := range tables {
		if err := c.reconcileTable(b, s, t, a); err != nil {
			return err
		}
	}
	return nil
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
	if err := c.refuseOwned(t); err != nil {
		return err
	}
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

// admitting are the rules of our chain in a table of others, as far as they concern the table's family.
func (t *table) admitting(a *admission) (rules []commented) {
	for _, g := range a.groups {
		if g.zone != "" && t.ofFirewalld() {
			continue
		}
		f := familyOf(g.subnet.Addr())
		var family rule
		switch t.family {
		case f.number:
		case unix.NFPROTO_INET:
			family = f.is()
		default:
			continue
		}
		comment := "cnibox " + g.String()
		var in, out rule
		if g.link != "" {
			in, out = byLinkShort(expr.MetaKeyIIFNAME, g.link), byLinkShort(expr.MetaKeyOIFNAME, g.link)
		}
		from := join(family, in, f.within(expr.CmpOpEq, f.source, g.subnet))
		to := join(family, out, f.within(expr.CmpOpEq, f.dest, g.subnet))
		rules = append(rules, commented{comment, join(from, counter(), accept())})
		if t.ofIPTables() {
			rules = append(rules, commented{comment, join(to, legacyKnownOrRedirected(), counter(), accept())})
			continue
		}
		rules = append(rules, commented{comment, join(to, known(), counter(), accept())}, commented{comment, join(to, redirected(), counter(), accept())})
	}
	if len(rules) == 0 {
		return nil
	}
	var first []commented
	for _, name := range a.admins {
		first = append(first, commented{"cnibox: rules of the administrator", join(counter(), jump(name))})
	}
	return append(first, rules...)
}

// ofIPTables tells whether the table is one that iptables reads, which knows some of nftables' expressions and its own extensions.
func (t *table) ofIPTables() bool { return t.family != unix.NFPROTO_INET && t.name == "filter" }

func (t *table) ofFirewalld() bool { return t.name == "firewalld" }

// byLinkShort compares a link's name as iptables does, with the final NUL and no more.
func byLinkShort(key expr.MetaKey, name string) rule {
	data := []byte(name + "\x00")
	if wild, ok := strings.CutSuffix(name, "*"); ok {
		data = []byte(wild)
	}
	return rule{&expr.Meta{Key: key, Register: firstReg}, &expr.Cmp{Op: expr.CmpOpEq, Register: firstReg, Data: data}}
}

// legacyKnownOrRedirected is "-m conntrack --ctstate RELATED,ESTABLISHED,DNAT" (linux/netfilter/xt_conntrack.h).
func legacyKnownOrRedirected() rule {
	const established, related, dnat = 1 << 1, 1 << 2, 1 << 7
	info := &xt.ConntrackMtinfo3{}
	info.MatchFlags, info.StateMask = uint16(xt.ConntrackState), established|related|dnat
	return rule{&expr.Match{Name: "conntrack", Rev: 3, Info: info}}
}

// expressions calls visit with the name and the attributes of each of a rule's expressions.
func (r *standing) expressions(visit func(name string, data []byte)) {
	rawnl.Each(r.exprs, func(_ uint16, e []byte) {
		visit(rawnl.String(rawnl.Find(e, unix.NFTA_EXPR_NAME)), rawnl.Find(e, unix.NFTA_EXPR_DATA))
	})
}

// jump is the chain that a rule leads to; empty if there is none.
func (r *standing) jump() (to string) {
	r.expressions(func(name string, data []byte) {
		if name == "immediate" {
			verdict := rawnl.Find(rawnl.Find(data, unix.NFTA_IMMEDIATE_DATA), unix.NFTA_DATA_VERDICT)
			to = rawnl.String(rawnl.Find(verdict, unix.NFTA_VERDICT_CHAIN))
		}
	})
	return to
}

// text is the rule's comment, wherever it stands: iptables-restore has made an extension of it.
func (r *standing) text() string {
	text := r.comment
	r.expressions(func(name string, data []byte) {
		if name == "match" && rawnl.String(rawnl.Find(data, unix.NFTA_MATCH_NAME)) == "comment" {
			text, _, _ = strings.Cut(string(rawnl.Find(data, unix.NFTA_MATCH_INFO)), "\x00")
		}
	})
	return text
}

// refuses tells whether the rule drops or rejects whatever comes to it.
func (r *standing) refuses() bool {
	always, refuses := true, false
	r.expressions(func(name string, data []byte) {
		switch name {
		case "counter", "log", "limit":
			always = always && name != "limit"
		case "reject":
			refuses = true
		case "immediate":
			code := rawnl.Find(rawnl.Find(rawnl.Find(data, unix.NFTA_IMMEDIATE_DATA), unix.NFTA_DATA_VERDICT), unix.NFTA_VERDICT_CODE)
			refuses = len(code) == 4 && number(code) == verdictDrop
		case "target":
			target := rawnl.String(rawnl.Find(data, unix.NFTA_TARGET_NAME))
			refuses = target == "REJECT" || target == "DROP"
		case "match":
			always = always && rawnl.String(rawnl.Find(data, unix.NFTA_MATCH_NAME)) == "comment"
		default:
			always = false
		}
	})
	return always && refuses
}

// verifyAdmission is an error with code errcode.Differs if a chain of another program's has become such that it stops the pods' traffic.
func (c *conn) verifyAdmission() error {
	b := &batch{}
	if err := c.admit(b, nil, nil); err != nil {
		return err
	}
	for _, m := range b.messages {
		if int(m.Type)&0xff == unix.NFT_MSG_NEWRULE {
			return errcode.Errorf(errcode.Differs, "packet filter: a chain of another program drops what is forwarded, and has no rule, or another, for pods")
		}
	}
	return nil
}
