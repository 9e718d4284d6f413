package ipam

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/cnibox/cnibox/command/networks"
	"github.com/cnibox/cnibox/ipam/dhcp/daemon"
	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/store"
)

// Place is where a node's addresses are looked for.
type Place struct {
	Conf    string // folder of the runtime's configurations
	Data    string // folder of host-local, beside those that the configurations name
	Leases  string // folder of the dhcp daemon
	Network string // only this network; empty: all
}

// Network is the addresses of a network in one folder.
type Network struct {
	Name         string        `json:"network"`
	Dir          string        `json:"dataDir,omitempty"` // of host-local
	Pools        []Pool        `json:"pools"`
	Reservations []Reservation `json:"reservations"`
}

// Pool is a range set of a network, of which each attachment gets one address.
type Pool struct {
	Ranges   string `json:"ranges"`
	Reserved int    `json:"reserved"`
	Size     uint64 `json:"size"`

	set store.Set
}

// Reservation is an address that somebody has.
type Reservation struct {
	Address     netip.Addr `json:"address"`
	Kind        string     `json:"kind"` // host-local or dhcp
	ContainerID string     `json:"containerID,omitempty"`
	IfName      string     `json:"ifName,omitempty"`
	Since       time.Time  `json:"since"`
	Problem     string     `json:"problem,omitempty"`
}

// dirs is the folders of host-local, and the pools that configurations have there, by network.
type dirs struct {
	names []string
	pools map[[2]string][]Pool // by folder and network
}

// folder is a folder of host-local, the default one for none, by one name however it is written.
func folder(dir string) string { return filepath.Clean(cmp.Or(dir, store.DefaultDir)) }

func (d *dirs) add(dir string) {
	if dir = folder(dir); !slices.Contains(d.names, dir) {
		d.names = append(d.names, dir)
	}
}

// Survey lists what is reserved. It goes on after errors and joins them.
func Survey(p Place) ([]Network, error) {
	confs, _, err := networks.Load(p.Conf)
	errs := []error{err}
	d := dirs{pools: map[[2]string][]Pool{}}
	d.add(p.Data)
	for i := range confs {
		errs = append(errs, d.addConf(&confs[i]))
	}
	var out []Network
	for _, dir := range d.names {
		names, err := store.Networks(dir)
		errs = append(errs, err)
		for key := range d.pools { // whether or not anybody has an address yet
			if key[0] == dir && !slices.Contains(names, key[1]) {
				names = append(names, key[1])
			}
		}
		slices.Sort(names)
		for _, name := range names {
			if p.Network != "" && name != p.Network {
				continue
			}
			n, err := read(dir, name, d.pools[[2]string{dir, name}])
			errs = append(errs, err)
			if len(n.Reservations) > 0 || len(n.Pools) > 0 {
				out = append(out, n)
			}
		}
	}
	out, err = addLeases(out, p)
	errs = append(errs, err)
	markShared(out)
	return out, errors.Join(errs...)
}

// addConf notes the pools of a configuration.
func (d *dirs) addConf(n *networks.Network) error {
	var errs []error
	for _, plugin := range n.Plugins {
		if plugin.IPAM != "host-local" {
			continue
		}
		pools, err := hostlocal.ReadPools(plugin.Conf)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.File, err))
		}
		d.add(pools.DataDir)
		key := [2]string{folder(pools.DataDir), n.Name}
		for _, set := range pools.Sets {
			d.pools[key] = append(d.pools[key], Pool{Ranges: set.String(), Size: set.Size(), set: set})
		}
	}
	return errors.Join(errs...)
}

func read(dir, name string, pools []Pool) (Network, error) {
	n := Network{Name: name, Dir: dir, Pools: slices.Clone(pools), Reservations: []Reservation{}}
	if n.Pools == nil {
		n.Pools = []Pool{}
	}
	s, err := store.New(dir, name)
	if err != nil {
		return n, err
	}
	files, err := s.Files()
	if err != nil {
		return n, fmt.Errorf("network %s: %w", name, err)
	}
	has := map[string]netip.Addr{} // by holder and pool, or else family
	for _, f := range files {
		r := Reservation{
			Address: f.Addr, Kind: "host-local", ContainerID: f.Holder.ContainerID, IfName: f.Holder.IfName, Since: f.Since, Problem: f.Wrong,
		}
		where := n.count(f)
		switch key := f.Holder.String() + where; {
		case f.Wrong != "":
		case where == "" && len(n.Pools) > 0:
			r.Problem = "it is in none of the network's ranges"
		case has[key].IsValid():
			r.Problem = "a second address of " + f.Holder.String() + ", which has " + has[key].String()
		default:
			has[key] = f.Addr
		}
		n.Reservations = append(n.Reservations, r)
	}
	return n, nil
}

// count adds an address to its pool and tells which that is: empty for none. Where no pool is known, it is one for each family.
func (n *Network) count(f store.File) string {
	for i := range n.Pools {
		if p := &n.Pools[i]; p.set.Contains(f.Addr) {
			if f.Wrong != store.Empty { // which a crash has left: free
				p.Reserved++
			}
			return fmt.Sprint(" pool ", i)
		}
	}
	if len(n.Pools) > 0 {
		return ""
	}
	return fmt.Sprint(" family of ", f.Addr.BitLen(), " bits")
}

// addLeases adds what the dhcp daemon has.
func addLeases(out []Network, p Place) ([]Network, error) {
	leases, err := daemon.Leases(p.Leases)
	slices.SortFunc(leases, func(a, b daemon.Lease) int { return a.Addr.Addr().Compare(b.Addr.Addr()) })
	for _, l := range leases {
		if p.Network != "" && l.Owner.Network != p.Network {
			continue
		}
		i := slices.IndexFunc(out, func(n Network) bool { return n.Name == l.Owner.Network })
		if i < 0 {
			i, out = len(out), append(out, Network{Name: l.Owner.Network, Pools: []Pool{}, Reservations: []Reservation{}})
		}
		r := Reservation{Address: l.Addr.Addr(), Kind: "dhcp", ContainerID: l.Owner.ContainerID, IfName: l.Owner.IfName, Since: l.Since}
		if time.Now().After(l.End) {
			r.Problem = "the lease is over since " + l.End.Format(time.DateTime)
		}
		out[i].Reservations = append(out[i].Reservations, r)
	}
	return out, err
}

// markShared marks addresses that are reserved more than once.
func markShared(all []Network) {
	first := map[netip.Addr]*Network{}
	for i := range all {
		for j := range all[i].Reservations {
			r := &all[i].Reservations[j]
			other := first[r.Address]
			if other == nil {
				first[r.Address] = &all[i]
			} else if r.Problem == "" && r.Address.IsValid() {
				r.Problem = "network " + other.Name + " has given it out too"
			}
		}
	}
}

// Empty tells of a file without a text, as a crash of the reference plugin leaves: it is nobody's.
func (r *Reservation) Empty() bool { return r.Problem == store.Empty }
