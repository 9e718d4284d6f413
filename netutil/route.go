package netutil

import (
	"context"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
)

func (a *applier) addRoutes(context.Context) error {
	for i := range a.plan.Routes {
		r := &a.plan.Routes[i]
		link, h, err := a.link(r.Place, r.Link)
		if err != nil {
			return err
		}
		add := h.RouteAdd
		if r.Place == Sandbox {
			// A container with several networks has a route to one destination (the default) from each: without NLM_F_EXCL
			// the kernel keeps them all, the latest first.
			add = h.RouteAddEcmp
		}
		err = add(kernelRoute(r, link.Attrs().Index))
		if err != nil && !(r.Place == Sandbox && errors.Is(err, unix.EEXIST)) {
			return errcode.Errorf(errcode.Kernel, "add route %s: %w", describe(r), err)
		}
	}
	return nil
}

func describe(r *Route) string {
	s := r.Dst.String()
	if r.Gateway.IsValid() {
		s += " via " + r.Gateway.String()
	}
	return s + " dev " + r.Link + " (" + r.Place.String() + ")"
}

func kernelRoute(r *Route, index int) *netlink.Route {
	out := &netlink.Route{
		LinkIndex: index,
		Dst:       ipNet(r.Dst),
		Scope:     netlink.Scope(r.Scope),
		Table:     r.Table,
		Priority:  r.Priority,
		MTU:       r.MTU,
		AdvMSS:    r.AdvMSS,
	}
	if r.Gateway.IsValid() {
		out.Gw = r.Gateway.AsSlice()
	}
	if r.Source.IsValid() {
		out.Src = r.Source.AsSlice()
	}
	return out
}

// LinkTowards is the name of the link through which the namespace reaches an address; empty if it has no route there.
func LinkTowards(n *Namespace, dst netip.Addr) (string, error) {
	h, err := linksOf(n)
	if err != nil {
		return "", err
	}
	routes, err := h.RouteGet(dst.AsSlice())
	if isOneOf(err, unix.ENETUNREACH, unix.EHOSTUNREACH) || err == nil && len(routes) == 0 {
		return "", nil
	}
	if err != nil {
		return "", errcode.Errorf(errcode.Kernel, "route to %s: %w", dst, err)
	}
	link, err := h.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return "", errcode.Errorf(errcode.Kernel, "route to %s: %w", dst, err)
	}
	return link.Attrs().Name, nil
}
