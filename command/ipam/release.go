package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/ipam/store"
)

// release gives back what the command line names.
func release(c *cli.Context) error {
	id := c.String("container")
	if (id == "") == !c.Args().Present() {
		return ui.Usagef("release: want either addresses or --container")
	}
	var addrs []netip.Addr
	for _, arg := range c.Args().Slice() {
		addr, err := netip.ParseAddr(arg)
		if err != nil {
			return ui.Usagef("release: %q is no IP address", arg)
		}
		addrs = append(addrs, addr.Unmap())
	}
	all, err := Survey(placeOf(c))
	n, chosen := choose(all, func(r *Reservation) bool {
		return r.Kind == "host-local" && (id != "" && r.ContainerID == id || slices.Contains(addrs, r.Address))
	})
	switch {
	case len(chosen) == 0:
		return errors.Join(fmt.Errorf("nothing to release: host-local has no such reservation"), err)
	case n == nil:
		return ui.Usagef("several networks have such reservations; --network chooses one")
	case len(addrs) > len(chosen):
		return fmt.Errorf("nothing was released: %s has only %d of the %d addresses", n.Name, len(chosen), len(addrs))
	}
	return n.release(c, chosen)
}

// choose finds reservations, and the network that they are of; nil if there are several.
func choose(all []Network, wanted func(*Reservation) bool) (of *Network, chosen []Reservation) {
	for i := range all {
		before := len(chosen)
		for j := range all[i].Reservations {
			if r := &all[i].Reservations[j]; wanted(r) {
				chosen = append(chosen, *r)
			}
		}
		if len(chosen) > before {
			if before > 0 {
				return nil, chosen
			}
			of = &all[i]
		}
	}
	return of, chosen
}

func (n *Network) release(c *cli.Context, chosen []Reservation) error {
	drop := make([]store.Reservation, len(chosen))
	for i, r := range chosen {
		drop[i] = store.Reservation{Addr: r.Address, Holder: store.Holder{ContainerID: r.ContainerID, IfName: r.IfName}}
	}
	out := c.App.Writer
	if !c.Bool("yes") {
		for _, r := range drop {
			_, _ = fmt.Fprintf(out, "would release %s\n", said(n, r))
		}
		_, err := fmt.Fprintln(out, "nothing was changed; --yes does it")
		return err
	}
	s, err := store.New(n.Dir, n.Name)
	if err != nil {
		return err
	}
	dropped, err := s.Drop(drop...)
	for _, r := range dropped {
		_, _ = fmt.Fprintf(out, "released %s\n", said(n, r))
	}
	if err == nil && len(dropped) < len(drop) {
		err = fmt.Errorf("%d of %d addresses have become somebody else's meanwhile", len(drop)-len(dropped), len(drop))
	}
	return err
}

// said is a reservation as people are told of it.
func said(n *Network, r store.Reservation) string {
	return ui.Printable(fmt.Sprintf("%s of %s, %s", r.Addr, n.Name, r.Holder))
}
