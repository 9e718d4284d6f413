package nft

import (
	"net/netip"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// This file is the rules of our chain in a table of another program's.

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
		for _, source := range sources(a.ways, g) {
			rules = append(rules, commented{comment + " from " + source, join(to, f.from(source), counter(), accept())})
		}
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

// from matches what comes in by a link, or from a subnet.
func (f family) from(source string) rule {
	if subnet, err := netip.ParsePrefix(source); err == nil {
		return f.within(expr.CmpOpEq, f.source, subnet)
	}
	return byLinkShort(expr.MetaKeyIIFNAME, source)
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
