package netutil

import (
	"context"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rtnl"
)

// joining is what a link takes along.
type joining struct {
	link          *rtnl.Link
	addrs, routes [][]byte // as the kernel tells of them
	table         uint32   // of the VRF
}

// collect notes what the link would lose.
func (j *joining) collect(n *Namespace) error {
	addrs, err := n.list("addresses of "+j.link.Name, rtnl.GetAddrs(j.link.Index, netip.IPv6Unspecified()))
	if err != nil {
		return err
	}
	for _, b := range addrs {
		a, ok := rtnl.ParseAddr(b)
		if ok && a.Link == j.link.Index && !a.Prefix.Addr().IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TEMPORARY == 0 {
			j.addrs = append(j.addrs, b)
		}
	}
	slices.Reverse(j.addrs) // the kernel lists the latest first
	for _, like := range both() {
		routes, err := n.list("routes", rtnl.GetRoutes(like))
		if err != nil {
			return err
		}
		var through [][]byte
		for _, b := range routes {
			elsewhere := func(r rtnl.Route) bool { return r.Link != j.link.Index }
			if ways := rtnl.ParseRoute(b); len(ways) == 0 || rtnl.IsKernelsRoute(b) || slices.ContainsFunc(ways, elsewhere) {
				continue // of a route with other ways those stay
			}
			if rtnl.ParseRoute(b)[0].Gateway.IsValid() {
				through = append(through, b)
			} else {
				j.routes = append(j.routes, b)
			}
		}
		j.routes = append(j.routes, through...) // when the gateways can be reached
	}
	return nil
}

// settle gives the link what it has lost, with the routes of the main table in that of the VRF.
func (j *joining) settle(ctx context.Context, n *Namespace) error {
	if err := j.putBack(n, j.table); err != nil {
		return err
	}
	return j.await(ctx, n)
}

// putBack adds all again. What was in the main table goes into the one given.
func (j *joining) putBack(n *Namespace, main uint32) error {
	var requests []request
	for _, b := range j.addrs {
		a, _ := rtnl.ParseAddr(b)
		requests = append(requests, request{
			Message: rtnl.CopyAddr(b), harmless: unix.EEXIST, what: "put address " + a.Prefix.String() + " back on " + j.link.Name,
		})
	}
	for _, b := range j.routes {
		r := rtnl.ParseRoute(b)[0]
		table := uint32(r.Table)
		if table == unix.RT_TABLE_MAIN {
			table = main
		}
		requests = append(requests, request{
			Message: rtnl.CopyRoute(b, table), harmless: unix.EEXIST, what: "put route " + r.Dst.String() + " back on " + j.link.Name,
		})
	}
	_, err := n.do(requests...)
	return err
}

// await waits until the namespace answers to the IPv6 addresses, see waitLocal. Only the VRF's own table tells.
func (j *joining) await(ctx context.Context, n *Namespace) error {
	if len(j.addrs) == 0 {
		return nil
	}
	return waitFor(ctx, n, "addresses of "+j.link.Name, waitLimit, []uint{unix.RTNLGRP_IPV6_ROUTE}, func() (bool, error) {
		routes, err := n.list("routes", rtnl.GetRoutes(netip.IPv6Unspecified()))
		if err != nil {
			return false, err
		}
		local := map[netip.Addr]bool{}
		for _, b := range routes {
			for _, r := range rtnl.ParseRoute(b) {
				if r.Type == unix.RTN_LOCAL && uint32(r.Table) == j.table {
					local[r.Dst.Addr()] = true
				}
			}
		}
		return !slices.ContainsFunc(j.addrs, func(b []byte) bool {
			a, _ := rtnl.ParseAddr(b)
			return !local[a.Prefix.Addr()]
		}), nil
	})
}

// undo releases the link, if it follows the VRF, and gives it all that it had.
func (j *joining) undo(n *Namespace, master int) error {
	if err := release(n, j.link.Name, master); err != nil {
		return err
	}
	if l, err := n.findLink(j.link.Name); l == nil || err != nil {
		return err
	}
	return j.putBack(n, unix.RT_TABLE_MAIN)
}
