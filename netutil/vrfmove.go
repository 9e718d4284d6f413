package netutil

import (
	"context"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rtnl"
)

// belongings are what a link loses when its master changes, since the kernel takes it down and up for that: its routes, and its IPv6 addresses.
type belongings struct {
	link          *rtnl.Link
	addrs, routes [][]byte // as the kernel tells of them
}

// collect notes what the link would lose.
func (b *belongings) collect(n *Namespace) error {
	addrs, err := n.list("addresses of "+b.link.Name, rtnl.GetAddrs(b.link.Index, netip.IPv6Unspecified()))
	if err != nil {
		return err
	}
	for _, body := range addrs {
		a, ok := rtnl.ParseAddr(body)
		if ok && a.Link == b.link.Index && !a.Prefix.Addr().IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TEMPORARY == 0 {
			b.addrs = append(b.addrs, body)
		}
	}
	slices.Reverse(b.addrs) // the kernel lists the latest first
	for _, like := range both() {
		routes, err := n.list("routes", rtnl.GetRoutes(like))
		if err != nil {
			return err
		}
		var through [][]byte
		for _, body := range routes {
			elsewhere := func(r rtnl.Route) bool { return r.Link != b.link.Index }
			if ways := rtnl.ParseRoute(body); len(ways) == 0 || rtnl.IsKernelsRoute(body) || slices.ContainsFunc(ways, elsewhere) {
				continue // of a route with other ways those stay
			}
			if rtnl.ParseRoute(body)[0].Gateway.IsValid() {
				through = append(through, body)
			} else {
				b.routes = append(b.routes, body)
			}
		}
		b.routes = append(b.routes, through...) // when the gateways can be reached
	}
	return nil
}

// follow gives the link another master; 0 is none.
func (b *belongings) follow(n *Namespace, master int) error {
	_, err := n.do(request{Message: rtnl.SetMaster(b.link.Index, master), what: "change the master of sandbox interface " + b.link.Name})
	return err
}

// putBack adds all again. What was in the one table goes into the other.
func (b *belongings) putBack(n *Namespace, from, to uint32) error {
	var requests []request
	for _, body := range b.addrs {
		a, _ := rtnl.ParseAddr(body)
		requests = append(requests, request{
			Message: rtnl.CopyAddr(body), harmless: unix.EEXIST, what: "put address " + a.Prefix.String() + " back on " + b.link.Name,
		})
	}
	for _, body := range b.routes {
		r := rtnl.ParseRoute(body)[0]
		table := uint32(r.Table)
		if table == from {
			table = to
		}
		requests = append(requests, request{
			Message: rtnl.CopyRoute(body, table), harmless: unix.EEXIST, what: "put route " + r.Dst.String() + " back on " + b.link.Name,
		})
	}
	_, err := n.do(requests...)
	return err
}

// await waits until the namespace answers to the IPv6 addresses in a VRF's table, see waitLocal.
func (b *belongings) await(ctx context.Context, n *Namespace, table uint32) error {
	if len(b.addrs) == 0 {
		return nil
	}
	return waitFor(ctx, n, "addresses of "+b.link.Name, waitLimit, []uint{unix.RTNLGRP_IPV6_ROUTE}, func() (bool, error) {
		routes, err := n.list("routes", rtnl.GetRoutes(netip.IPv6Unspecified()))
		if err != nil {
			return false, err
		}
		local := map[netip.Addr]bool{}
		for _, body := range routes {
			for _, r := range rtnl.ParseRoute(body) {
				if r.Type == unix.RTN_LOCAL && uint32(r.Table) == table {
					local[r.Dst.Addr()] = true
				}
			}
		}
		return !slices.ContainsFunc(b.addrs, func(body []byte) bool {
			a, _ := rtnl.ParseAddr(body)
			return !local[a.Prefix.Addr()]
		}), nil
	})
}
