package netutil

import (
	"errors"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// newRoute adds a route. A container with several networks has a route to one destination (the default) from each: there the kernel keeps
// them all, the latest first.
func newRoute(l *rtnl.Link, r *Route) request {
	out := request{Message: rtnl.NewRoute(kernelRoute(l, r), r.Place == Host), what: "add route " + describe(r)}
	if r.Place == Sandbox {
		out.harmless = unix.EEXIST
	}
	return out
}

// describe is the route as ip(8) would show it, and where.
func describe(r *Route) string {
	s := r.Dst.String()
	if r.Gateway.IsValid() {
		s += " via " + r.Gateway.String()
	}
	for _, n := range []struct {
		word  string
		value int
	}{{"table", r.Table}, {"metric", r.Priority}, {"mtu", r.MTU}, {"advmss", r.AdvMSS}} {
		if n.value != 0 {
			s += " " + n.word + " " + strconv.Itoa(n.value)
		}
	}
	return s + " dev " + r.Link + " (" + r.Place.String() + ")"
}

func kernelRoute(l *rtnl.Link, r *Route) rtnl.Route {
	return rtnl.Route{
		Link: l.Index, Dst: r.Dst, Gateway: r.Gateway, Source: r.Source,
		Scope: r.Scope, Table: r.Table, Priority: r.Priority, MTU: r.MTU, AdvMSS: r.AdvMSS,
	}
}

// routeTo is the route that a packet to an address would take; nil if there is none.
func routeTo(n *Namespace, to netip.Addr) (*rtnl.Route, error) {
	answers, err := n.ask(rtnl.GetRoute(to))
	if err != nil {
		return nil, err
	}
	a := &answers[0]
	switch {
	case isOneOf(a.Err, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL): // as the kind of the route is
		return nil, nil
	case a.Err != nil:
		return nil, errcode.Errorf(errcode.Kernel, "route to %s: %w", to, a.Err)
	}
	for _, b := range a.Bodies {
		if r := rtnl.ParseRoute(b); len(r) > 0 {
			return &r[0], nil
		}
	}
	return nil, nil
}

// LinkTowards is the name of the link through which the namespace reaches an address; empty if it has no route there.
func LinkTowards(n *Namespace, dst netip.Addr) (string, error) {
	r, err := routeTo(n, dst)
	if r == nil || err != nil {
		return "", err
	}
	l, err := n.byIndex(r.Link)
	if err != nil {
		return "", errcode.Errorf(errcode.Kernel, "route to %s: %w", dst, err)
	}
	return l.Name, nil
}

// SourceTowards is the address that the namespace would send from to another; local tells that this is one of its own. It is the zero Addr if there
// is no route.
func SourceTowards(n *Namespace, dst netip.Addr) (source netip.Addr, local bool, err error) {
	r, err := routeTo(n, dst)
	if r == nil || err != nil {
		return source, false, err
	}
	return r.Source, r.Type == unix.RTN_LOCAL, nil
}

// LinkOf is the link that has an address of the namespace; nil if none has.
func LinkOf(n *Namespace, address netip.Addr) (*rtnl.Link, error) {
	answers, err := n.ask(rtnl.GetEntry(address))
	if err != nil {
		return nil, err
	}
	for _, b := range answers[0].Bodies {
		for _, r := range rtnl.ParseRoute(b) {
			if r.Type == unix.RTN_LOCAL && r.Dst.Addr() == address && r.Dst.IsSingleIP() {
				return n.byIndex(r.Link)
			}
		}
	}
	return nil, nil
}

// AddrsOf lists a link's addresses of the family of like.
func AddrsOf(n *Namespace, l *rtnl.Link, like netip.Addr) ([]rtnl.Addr, error) {
	return listAddrs(n, l, like)
}

// DefaultLink is the name of the link of the default route with the lowest metric, of IPv4 or else of IPv6; empty if there is none.
func DefaultLink(n *Namespace) (string, error) {
	for _, like := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		bodies, err := n.list("routes", rtnl.GetRoutes(like))
		if err != nil {
			return "", err
		}
		var best *rtnl.Route
		for _, b := range bodies {
			for _, r := range rtnl.ParseRoute(b) {
				if r.Dst.Bits() == 0 && r.Table == unix.RT_TABLE_MAIN && r.Type == unix.RTN_UNICAST && (best == nil || r.Priority < best.Priority) {
					best = &r
				}
			}
		}
		if best == nil {
			continue
		}
		l, err := n.byIndex(best.Link)
		if err != nil {
			return "", errcode.Errorf(errcode.Kernel, "default route: %w", err)
		}
		return l.Name, nil
	}
	return "", nil
}

// FindLink is the link of a name; nil if the namespace has none.
func FindLink(n *Namespace, name string) (*rtnl.Link, error) { return n.findLink(name) }

// byIndex is the link of a number.
func (n *Namespace) byIndex(index int) (*rtnl.Link, error) {
	answers, err := n.ask(rtnl.GetLinkByIndex(index))
	if err != nil {
		return nil, err
	}
	if err := answers[0].Err; err != nil {
		return nil, err
	}
	for _, b := range answers[0].Bodies {
		if l := rtnl.ParseLink(b); l != nil {
			return l, nil
		}
	}
	return nil, errors.New("the kernel answers nothing")
}
