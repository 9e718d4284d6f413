package netutil

import (
	"net/netip"

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
