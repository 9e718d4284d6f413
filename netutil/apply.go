package netutil

import (
	"context"
	"net"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Apply makes the plan so, in the order in which the kernel wants it, and records the inverse of each step in undo. What
// belongs to the sandbox goes with the link, so only links and the packet filter have inverses.
func Apply(ctx context.Context, p *Plan, k Kernel, undo *Undo) (*Applied, error) {
	a := &applier{plan: p, kernel: k, undo: undo, links: map[linkKey]*rtnl.Link{}}
	steps := []func(context.Context) error{
		a.makeLinks, a.writeSysctls, a.raise, a.addShared, a.configure, a.shape, a.addFilter, a.waitCarrier, a.waitAddrs, a.announce,
	}
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return nil, errcode.Errorf(errcode.TryAgainLater, "interrupted: %w", err)
		}
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return &Applied{a.links}, nil
}

// Applied is what the kernel chose where the plan left it open.
type Applied struct {
	links map[linkKey]*rtnl.Link
}

// Link gives the MAC address and the MTU (bytes) of a link of the plan's main list, as they were when it was made or found.
func (a *Applied) Link(place Place, name string) (mac net.HardwareAddr, mtu int) {
	l := a.links[linkKey{place, name}]
	if l == nil {
		return nil, 0
	}
	return l.MAC, l.MTU
}

type linkKey struct {
	place Place
	name  string
}

type applier struct {
	plan   *Plan
	kernel Kernel
	undo   *Undo
	links  map[linkKey]*rtnl.Link // what has been made or looked up already
}

// link looks a link up once.
func (a *applier) link(place Place, name string) (*rtnl.Link, error) {
	key := linkKey{place, name}
	if l := a.links[key]; l != nil {
		return l, nil
	}
	l, err := a.kernel.at(place).findLink(name)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, errNoLink(place, name)
	}
	a.links[key] = l
	return l, nil
}

func errNoLink(place Place, name string) error {
	return errcode.Errorf(errcode.Kernel, "%s interface %s: %w", place, name, unix.ENODEV)
}

// configure gives all links the addresses and routes that are the attachment's own: in each namespace together, in the order of the plan.
func (a *applier) configure(context.Context) error {
	for _, place := range []Place{Sandbox, Host} {
		var requests []request
		for i := range a.plan.Addrs {
			ad := &a.plan.Addrs[i]
			if ad.Place != place || ad.Shared {
				continue
			}
			l, err := a.link(ad.Place, ad.Link)
			if err != nil {
				return err
			}
			add := newAddr(l, ad)
			if place == Sandbox && ad.Prefix.Addr().Is6() {
				add.harmless = unix.EEXIST // a router has advertised its prefix, and the kernel was faster
			}
			requests = append(requests, add)
		}
		for i := range a.plan.Routes {
			r := &a.plan.Routes[i]
			if r.Place != place {
				continue
			}
			l, err := a.link(r.Place, r.Link)
			if err != nil {
				return err
			}
			requests = append(requests, newRoute(l, r))
		}
		if len(requests) == 0 {
			continue
		}
		if _, err := a.kernel.at(place).do(requests...); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) addFilter(context.Context) error {
	tables := NFT(a.kernel.Host)
	if len(a.plan.Filter) == 0 {
		return tables.Heal()
	}
	existed := false
	for _, f := range nft.Features(a.plan.Filter) {
		a.undo.Push("packet filter entries", func() error {
			if existed { // they are those of an earlier ADD
				return nil
			}
			return tables.Delete(a.plan.Owner, f)
		})
	}
	err := tables.Add(a.plan.Owner, a.plan.Filter)
	existed = err != nil && errcode.Of(err) == errcode.AlreadyExists
	return err
}
