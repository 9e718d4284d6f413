package netutil

import (
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rtnl"
)

// This file is routing by source: what is sent from an address goes by a table of its own.

// SourceTable is the table of an address.
type SourceTable struct {
	Addr     netip.Prefix // with the length of its subnet
	Gateways []netip.Addr // of the default route; several share its load
	Named    bool         // the gateways take the place of default routes that there are
	Hint     bool         // the table's routes have the address as preferred source
	Table    uint32       // 0: a free one, which the link's routes are moved to; else one whose routes are somebody's
}

// firstSourceTable is where the search for free tables begins.
const firstSourceTable = 100

// RouteBySource makes rules for the addresses of a link, and tables with its routes. What there is already, from an earlier call, stays.
func RouteBySource(n *Namespace, link string, list []SourceTable, undo *Undo) error {
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	l, err := n.findLink(link)
	if err == nil && l == nil {
		err = errNoLink(Sandbox, link)
	}
	if err != nil {
		return err
	}
	p := &policy{n: n, link: l, undo: undo}
	if err := p.read(); err != nil {
		return err
	}
	for i := range list {
		if err := p.add(&list[i]); err != nil {
			return err
		}
	}
	return p.move()
}

// policy is what is known of a namespace.
type policy struct {
	n      *Namespace
	link   *rtnl.Link
	undo   *Undo
	rules  []rtnl.Rule
	routes [][]byte // the link's in the main table, those without a gateway first
	moved  [][]byte
}

func (p *policy) read() (err error) {
	if p.rules, err = rulesOf(p.n); err != nil {
		return err
	}
	p.routes, err = p.routesIn(unix.RT_TABLE_MAIN)
	return err
}

// through is 1 for a route with a gateway, which the others lead to.
func through(b []byte) int {
	if r := rtnl.ParseRoute(b); len(r) > 0 && r[0].Gateway.IsValid() {
		return 1
	}
	return 0
}

func rulesOf(n *Namespace) (rules []rtnl.Rule, err error) {
	for _, like := range both() {
		bodies, err := n.list("rules", rtnl.GetRules(like))
		if err != nil {
			return nil, err
		}
		for _, b := range bodies {
			rules = append(rules, rtnl.ParseRule(b))
		}
	}
	return rules, nil
}

// ruleFor is the rule for what is sent from an address.
func ruleFor(a netip.Addr, table uint32) rtnl.Rule {
	return rtnl.Rule{Source: netip.PrefixFrom(a, a.BitLen()), Table: table, Protocol: rtnl.RuleProtocol}
}

func (p *policy) add(st *SourceTable) error {
	rule := ruleFor(st.Addr.Addr(), st.Table)
	for _, have := range p.rules {
		if have.Source == rule.Source && have.Protocol == rule.Protocol && (st.Table == 0 || have.Table == st.Table) {
			return nil
		}
	}
	if st.Table == 0 {
		all, err := p.n.vrfs()
		if err != nil {
			return err
		}
		if rule.Table, err = freeTable(p.n, all, firstSourceTable); err != nil {
			return err
		}
	}
	p.undo.Push("rule for "+st.Addr.String(), func() error { return p.remove(rule, st.Table == 0, false) })
	requests := []request{{Message: rtnl.NewRule(rule), what: "add rule for " + st.Addr.String(), harmless: unix.EEXIST}}
	if st.Table == 0 {
		requests = append(requests, p.fill(st, rule.Table)...)
	}
	_, err := p.n.do(requests...)
	return err
}

// fill are the routes of an address's table.
func (p *policy) fill(st *SourceTable, table uint32) (out []request) {
	hasDefault := false
	for _, b := range p.routes {
		r := rtnl.ParseRoute(b)[0]
		if !p.serves(&r, st) || st.Named && r.Dst.Bits() == 0 {
			continue
		}
		hasDefault = hasDefault || r.Dst.Bits() == 0
		m := rtnl.CopyRoute(b, table)
		if st.Hint {
			m = rtnl.CopyRouteFrom(b, table, st.Addr.Addr())
		}
		out = append(out, request{Message: m, what: "copy a route to table " + describeTable(table), harmless: unix.EEXIST})
		p.moved = append(p.moved, b)
	}
	if len(st.Gateways) > 0 && !hasDefault {
		r := rtnl.Route{Link: p.link.Index, Dst: defaultFor(st.Addr.Addr()), Gateway: st.Gateways[0], Table: int(table)}
		if st.Hint {
			r.Source = st.Addr.Addr()
		}
		m := rtnl.NewRoute(r, false)
		if len(st.Gateways) > 1 {
			m = rtnl.NewRouteByAll(r, st.Gateways)
		}
		rtnl.MarkRoute(m)
		out = append(out, request{Message: m, what: "add default route via " + st.Gateways[0].String() + " to table " + describeTable(table)})
	}
	return out
}

// serves tells whether what is sent from the address may take a route: one of its family that is not through another subnet's gateway, nor
// from another subnet's address.
func (p *policy) serves(r *rtnl.Route, st *SourceTable) bool {
	if r.Dst.Addr().Is4() != st.Addr.Addr().Is4() {
		return false
	}
	subnet := st.Addr.Masked()
	return (!r.Gateway.IsValid() || subnet.Contains(r.Gateway) || slices.Contains(st.Gateways, r.Gateway)) &&
		(!r.Source.IsValid() || subnet.Contains(r.Source))
}

func defaultFor(like netip.Addr) netip.Prefix {
	if like.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// move takes the routes that have been copied out of the main table.
func (p *policy) move() error {
	// Those through a gateway first: without the way to it the kernel would refuse to put them back.
	slices.Reverse(p.moved)
	for _, b := range p.moved {
		p.undo.Push("removal of a route", func() error {
			_, err := p.n.do(request{Message: rtnl.CopyRoute(b, unix.RT_TABLE_MAIN), what: "put a route back", harmless: unix.EEXIST})
			return err
		})
		if _, err := p.n.do(request{Message: rtnl.DropRoute(b, unix.RT_TABLE_MAIN), what: "remove a route", harmless: unix.ESRCH}); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a rule and, if the table is its own, the link's routes in it. Those that came from the main table are put back there.
//
// The rule goes last: by it a DEL that was interrupted finds the table again.
func (p *policy) remove(rule rtnl.Rule, own, back bool) error {
	if own && p.link != nil { // else its routes have gone with it
		if err := p.empty(rule.Table, back); err != nil {
			return err
		}
	}
	_, err := p.n.do(request{Message: rtnl.DelRule(rule), what: "remove rule for " + rule.Source.String(), harmless: unix.ENOENT})
	return err
}

// empty takes the link's routes out of a table, and puts those back into the main table that were there before.
func (p *policy) empty(table uint32, back bool) error {
	routes, err := p.routesIn(table)
	if err != nil {
		return err
	}
	var requests []request
	for _, b := range routes {
		if back && !rtnl.IsMarked(b) {
			requests = append(requests, request{Message: rtnl.CopyRoute(b, unix.RT_TABLE_MAIN), what: "put a route back", harmless: unix.EEXIST})
		}
	}
	for _, b := range slices.Backward(routes) {
		requests = append(requests, request{Message: rtnl.DropRoute(b, table), what: "remove a route", harmless: unix.ESRCH})
	}
	_, err = p.n.do(requests...)
	return err
}

// routesIn are the link's routes in a table, those without a gateway first. Link-local addresses are reached through the main table, whoever
// asks for them.
func (p *policy) routesIn(table uint32) (out [][]byte, err error) {
	for _, like := range both() {
		bodies, err := p.n.list("routes", rtnl.GetRoutes(like))
		if err != nil {
			return nil, err
		}
		for _, b := range bodies {
			for _, r := range rtnl.ParseRoute(b) {
				if r.Link == p.link.Index && uint32(r.Table) == table && r.Type == unix.RTN_UNICAST && !r.Dst.Addr().IsLinkLocalUnicast() {
					out = append(out, rtnl.OneWay(b, r))
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b []byte) int { return through(a) - through(b) })
	return out, nil
}

// ForgetSources removes the rules for a link's addresses: those that it has, those given, and of our own rules those whose address nobody in the
// namespace has any more. With them go the link's routes in their tables. It goes on without the link.
func ForgetSources(n *Namespace, link string, given []netip.Addr) error {
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	l, err := n.findLink(link)
	if err != nil {
		return err
	}
	p := &policy{n: n, link: l}
	rules, err := rulesOf(n)
	if err != nil {
		return err
	}
	here, others, err := p.addrs()
	if err != nil {
		return err
	}
	for _, r := range rules {
		if !r.Source.IsSingleIP() || r.Table == 0 || r.Table == unix.RT_TABLE_MAIN || r.Table == unix.RT_TABLE_LOCAL {
			continue
		}
		a := r.Source.Addr()
		orphaned := r.Protocol == rtnl.RuleProtocol && !slices.Contains(others, a)
		if !slices.Contains(here, a) && !slices.Contains(given, a) && !orphaned {
			continue
		}
		if err := p.remove(r, true, r.Protocol == rtnl.RuleProtocol); err != nil {
			return err
		}
	}
	return nil
}

// addrs are the addresses of the link, and of all others.
func (p *policy) addrs() (here, others []netip.Addr, err error) {
	for _, like := range both() {
		bodies, err := p.n.list("addresses", rtnl.GetAddrs(0, like))
		if err != nil {
			return nil, nil, err
		}
		for _, b := range bodies {
			a, ok := rtnl.ParseAddr(b)
			switch {
			case !ok:
			case p.link != nil && a.Link == p.link.Index:
				here = append(here, a.Prefix.Addr())
			default:
				others = append(others, a.Prefix.Addr())
			}
		}
	}
	return here, others, nil
}

func describeTable(table uint32) string { return strconv.FormatUint(uint64(table), 10) }
