package netutil

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rtnl"
)

// This file changes the addresses of a container that runs.

// SetUp takes a link up.
func SetUp(n *Namespace, name string) error {
	l, err := n.findLink(name)
	if err == nil && l == nil {
		err = errNoLink(Sandbox, name)
	}
	if err != nil {
		return err
	}
	_, err = n.do(request{Message: rtnl.SetLink(l.Index, rtnl.Change{Up: true}), what: "take up interface " + name})
	return err
}

// LinkLocal is a link's IPv6 link-local address, which it has when duplicate address detection is over (RFC 4862, section 5.4). It is waited for
// until the limit: errcode.TryAgainLater.
func LinkLocal(ctx context.Context, n *Namespace, l *rtnl.Link, limit time.Duration) (local netip.Addr, err error) {
	err = waitFor(ctx, n, "link-local address of "+l.Name, limit, []uint{unix.RTNLGRP_IPV6_IFADDR}, func() (bool, error) {
		list, err := listAddrs(n, l, netip.IPv6Unspecified())
		for _, a := range list {
			if a.Prefix.Addr().IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				local = a.Prefix.Addr()
			}
		}
		return local.IsValid(), err
	})
	return local, err
}

// Autoconfigured are the addresses that the kernel has given a link by itself in the prefixes that a router advertises (RFC 4862). A link may be told to
// make none, so those that there are not within the limit are left out.
func Autoconfigured(ctx context.Context, n *Namespace, l *rtnl.Link, prefixes []netip.Prefix, limit time.Duration) (found []netip.Prefix, err error) {
	err = waitFor(ctx, n, "addresses of "+l.Name, limit, []uint{unix.RTNLGRP_IPV6_IFADDR}, func() (bool, error) {
		found = nil
		list, err := listAddrs(n, l, netip.IPv6Unspecified())
		for _, p := range prefixes {
			for _, a := range list {
				if p == a.Prefix.Masked() && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_TEMPORARY) == 0 {
					found = append(found, a.Prefix)
					break
				}
			}
		}
		return len(found) == len(prefixes), err
	})
	return found, unlessLate(ctx, err)
}

// RemoveAddr takes an address from a link, and with it the routes that need it. It succeeds if the link or the address is gone.
func RemoveAddr(n *Namespace, link string, addr netip.Prefix) error {
	l, err := n.findLink(link)
	if l == nil || err != nil {
		return err
	}
	return delAddr(n, l, &Addr{Place: Sandbox, Link: link, Prefix: addr})
}

// Reconfigure gives a link of a container an address and routes, and tells the neighbours.
func Reconfigure(n *Namespace, link string, addr netip.Prefix, routes []Route) error {
	l, err := n.findLink(link)
	if err == nil && l == nil {
		err = errNoLink(Sandbox, link)
	}
	if err != nil {
		return err
	}
	add := newAddr(l, &Addr{Place: Sandbox, Link: link, Prefix: addr})
	add.harmless = unix.EEXIST
	requests := []request{add}
	for i := range routes {
		r := &routes[i]
		r.Place, r.Link = Sandbox, link
		if !r.Gateway.IsValid() {
			r.Scope = unix.RT_SCOPE_LINK
		}
		requests = append(requests, newRoute(l, r))
	}
	if _, err := n.do(requests...); err != nil {
		return err
	}
	_ = sendFrame(n, l, announcement(l.MAC, addr.Addr())) // see announce
	return nil
}
