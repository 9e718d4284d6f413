package netutil

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
)

// Apply makes the plan so, in the order in which the kernel wants it, and records the inverse of each step in undo. What
// belongs to the sandbox goes with the link, so only links and the packet filter have inverses.
func Apply(ctx context.Context, p *Plan, k Kernel, undo *Undo) (*Applied, error) {
	a := &applier{plan: p, kernel: k, undo: undo, links: map[linkKey]netlink.Link{}}
	steps := []func(context.Context) error{
		a.makeLinks, a.writeSysctls, a.raiseLinks, a.addAddrs, a.addRoutes, a.addFilter, a.waitCarrier, a.waitLocal,
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
	links map[linkKey]netlink.Link
}

// Link gives the MAC address and the MTU (bytes) of a link of the plan's main list, as they were when it was made or found.
func (a *Applied) Link(place Place, name string) (mac net.HardwareAddr, mtu int) {
	l := a.links[linkKey{place, name}]
	if l == nil {
		return nil, 0
	}
	mac, mtu = l.Attrs().HardwareAddr, l.Attrs().MTU
	if mtu == 0 {
		mtu = DefaultMTU
	}
	return mac, mtu
}

type linkKey struct {
	place Place
	name  string
}

type applier struct {
	plan   *Plan
	kernel Kernel
	undo   *Undo
	links  map[linkKey]netlink.Link // what has been looked up already
}

// link looks a link up once.
func (a *applier) link(place Place, name string) (netlink.Link, *netlink.Handle, error) {
	h, err := linksOf(a.kernel.at(place))
	if err != nil {
		return nil, nil, err
	}
	key := linkKey{place, name}
	if l := a.links[key]; l != nil {
		return l, h, nil
	}
	l, err := h.LinkByName(name)
	if err != nil {
		return nil, nil, errcode.Errorf(errcode.Kernel, "%s interface %s: %w", place, name, err)
	}
	a.links[key] = l
	return l, h, nil
}

func (a *applier) writeSysctls(context.Context) error {
	for _, s := range a.plan.Sysctls {
		_, err := a.kernel.at(s.Place).SetSysctl(s.Value, s.Path...)
		if err != nil && !(s.Optional && errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	return nil
}

func (a *applier) addFilter(context.Context) error {
	if len(a.plan.Filter) == 0 {
		return nil
	}
	tables := NFT(a.kernel.Host)
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
