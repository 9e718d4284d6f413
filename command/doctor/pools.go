package doctor

import (
	"fmt"

	"github.com/cnibox/cnibox/command/ipam"
	"github.com/cnibox/cnibox/ipam/store"
)

// pools looks at how full host-local's pools are, and at files that are no reservations.
func pools(f *facts, l *list) {
	all, err := ipam.Survey(ipam.Place{Conf: f.confDir, Data: f.gc.DataDir, Leases: f.gc.LeaseDir})
	l.cannot("addresses", err)
	for i := range all {
		n := &all[i]
		for _, p := range n.Pools {
			what := fmt.Sprintf("network %s has given out %d of the %d addresses of %s", n.Name, p.Reserved, p.Size, p.Ranges)
			const repair = "cnibox gc frees what no pod has; else widen the range, or add one to the range set"
			switch {
			case p.Exhausted():
				l.add(Problem, what, "the next ADD fails", repair)
			case p.Nearly():
				l.add(Warning, what, "soon an ADD fails", repair)
			}
		}
		for _, r := range n.Reservations {
			if r.Problem != "" {
				f.odd(n, &r, l)
			}
		}
	}
}

// odd tells of a reservation that is not as it should be. An empty file is nobody's, and goes.
func (f *facts) odd(n *ipam.Network, r *ipam.Reservation, l *list) {
	what := fmt.Sprintf("%s of network %s: %s", r.Address, n.Name, r.Problem)
	if r.Kind != "host-local" || r.ContainerID != "" || !r.Empty() {
		l.add(Warning, what, "two pods may come to have one address, or an address is lost", "cnibox ipam list tells whose it is; cnibox ipam release gives it back")
		return
	}
	l.add(Note, what, "a crash leaves such files; the address counts as free", "cnibox ipam release --network "+n.Name+" "+r.Address.String()+" --yes").by(func() error {
		s, err := store.New(n.Dir, n.Name)
		if err == nil {
			_, err = s.Drop(store.Reservation{Addr: r.Address})
		}
		return err
	})
}
