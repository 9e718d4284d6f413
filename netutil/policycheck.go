package netutil

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// VerifySources compares rules and tables with the kernel's. The first difference is an error with code errcode.Differs.
func VerifySources(n *Namespace, link string, list []SourceTable) error {
	l, err := n.findLink(link)
	if err == nil && l == nil {
		err = differs("interface %s is gone", link)
	}
	if err != nil {
		return err
	}
	rules, err := rulesOf(n)
	if err != nil {
		return err
	}
	for i := range list {
		st := &list[i]
		at := slices.IndexFunc(rules, func(r rtnl.Rule) bool {
			return r.Source == ruleFor(st.Addr.Addr(), 0).Source && (st.Table == 0 && r.Table != 0 || r.Table == st.Table)
		})
		if at < 0 {
			return differs("no rule for what is sent from %s", st.Addr.Addr())
		}
		if st.Table == 0 {
			if err := verifyTable(n, l, st, rules[at].Table); err != nil {
				return err
			}
		}
	}
	return nil
}

// verifyTable looks for the default route by each gateway, if there is to be one.
func verifyTable(n *Namespace, l *rtnl.Link, st *SourceTable, table uint32) error {
	bodies, err := n.list("routes", rtnl.GetRoutes(st.Addr.Addr()))
	if err != nil {
		return err
	}
	var ways []rtnl.Route
	for _, b := range bodies {
		for _, r := range rtnl.ParseRoute(b) {
			if r.Link == l.Index && uint32(r.Table) == table && r.Type == unix.RTN_UNICAST {
				ways = append(ways, r)
			}
		}
	}
	for _, g := range st.Gateways {
		if !slices.ContainsFunc(ways, func(r rtnl.Route) bool { return r.Dst.Bits() == 0 && r.Gateway == g }) {
			return differs("table %s of %s has no default route via %s", describeTable(table), st.Addr.Addr(), g)
		}
	}
	for _, r := range ways {
		if st.Hint && r.Source != st.Addr.Addr() {
			return differs("table %s: the route to %s has not the source %s", describeTable(table), r.Dst, st.Addr.Addr())
		}
	}
	if len(ways) == 0 {
		return errcode.Errorf(errcode.Differs, "table %s of %s is empty", describeTable(table), st.Addr.Addr())
	}
	return nil
}
