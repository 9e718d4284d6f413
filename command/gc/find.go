package gc

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cnibox/cnibox/command/networks"
	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/ipam/dhcp/daemon"
	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/store"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// Attachment is an attachment with all that it has on the node, but for what is inside its sandbox.
type Attachment struct {
	*node.Attachment
	Things []Thing
	Newest time.Time // when the newest of them was written; zero where none tells
	Kept   string    // why it stays; empty: nobody living owns it

	drop     map[string][]store.Reservation // by folder
	cache    *cached
	overlays []string // networks whose list of users has it
	files    []string // records, by their paths
}

// Thing is one of them, as people are told of it.
type Thing struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

func (a *Attachment) add(kind, name string) { a.Things = append(a.Things, Thing{kind, name}) }

func (a *Attachment) written(t time.Time) {
	if t.After(a.Newest) {
		a.Newest = t
	}
}

// String names the attachment, as far as it is known.
func (a *Attachment) String() string { return a.Owner().String() }

// Describe is the things on one line.
func (a *Attachment) Describe() string {
	var parts []string
	for i, t := range a.Things {
		if i > 0 && a.Things[i-1].Kind == t.Kind {
			parts[len(parts)-1] += ", " + t.Name
			continue
		}
		parts = append(parts, t.Kind+" "+t.Name)
	}
	return strings.Join(parts, "; ")
}

// Node is where leftovers are looked for.
type Node struct {
	Host     *netutil.Namespace
	Table    roles.Table
	Networks []networks.Network
	ConfDir  string // where they are from
	DataDir  string // of host-local, beside those that the networks name
	LeaseDir string // of the dhcp daemon
	Plugins  string // CNI_PATH
}

// Folders in which runtimes and plugins keep something.
const (
	tuningDir  = "/run/cni/tuning"
	flannelDir = "/var/lib/cni/flannel"
)

// cacheDirs are libcni's: since version 1.0, and before.
func cacheDirs() []string { return []string{"/var/lib/cni/results", "/var/lib/cni/cache/results"} }

// Snapshot reads the node. What is wrong of attachments is told if they are older than youth.
func (n *Node) Snapshot(ctx context.Context, youth time.Duration) (*node.Node, error) {
	if youth == 0 {
		youth = -1 // not at all
	}
	return node.Read(ctx, node.Options{
		Stores: []string{filepath.Clean(cmp.Or(n.DataDir, store.DefaultDir))}, Caches: cacheDirs(), Confs: []string{n.ConfDir}, Leases: n.LeaseDir,
		Youth: youth,
	})
}

// Find lists the attachments of a snapshot, and those that only plugins' records tell of. It changes nothing. What could not be read is an error, as
// who is in it would be taken for dead.
func (n *Node) Find(s *node.Node) ([]*Attachment, error) {
	f := &finder{n, nil, map[owner.Owner]*Attachment{}}
	for _, a := range s.Attachments {
		f.take(a)
	}
	errs := []error{f.addresses(), f.records(), f.users(), f.caches()}
	f.leases()
	for _, p := range s.Problems {
		errs = append(errs, errors.New(p))
	}
	slices.SortFunc(f.all, func(a, b *Attachment) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.ContainerID, b.ContainerID), cmp.Compare(a.IfName, b.IfName))
	})
	return f.all, errors.Join(errs...)
}

// finder collects attachments.
type finder struct {
	*Node
	all     []*Attachment
	byOwner map[owner.Owner]*Attachment
}

// take takes over what the snapshot has of an attachment.
func (f *finder) take(from *node.Attachment) {
	a := &Attachment{Attachment: from, drop: map[string][]store.Reservation{}}
	f.all, f.byOwner[a.Owner()] = append(f.all, a), a
	for _, l := range []struct {
		kind string
		link *node.Link
	}{{"link", a.HostLink}, {"limit", a.Limiter()}, {"returned interface", a.Returned()}} {
		if l.link != nil {
			a.add(l.kind, l.link.Name)
		}
	}
	for _, addr := range a.Reserved {
		a.add("address", addr.String())
	}
	if a.Leased {
		a.add("lease", "of dhcp")
	}
	for _, h := range a.Held() {
		a.add("packet filter", h.Feature.String())
	}
}

// of is the attachment of an owner.
func (f *finder) of(o owner.Owner) *Attachment {
	if f.byOwner[o] == nil {
		f.take(&node.Attachment{Network: o.Network, ContainerID: o.ContainerID, IfName: o.IfName})
	}
	return f.byOwner[o]
}

// addresses notes where host-local keeps what it has given out.
func (f *finder) addresses() error {
	dirs := []string{filepath.Clean(cmp.Or(f.DataDir, store.DefaultDir))}
	for _, n := range f.Networks {
		for _, p := range n.Plugins {
			pools, _ := hostlocal.ReadPools(p.Conf)
			if dir := pools.DataDir; dir != "" && !slices.Contains(dirs, filepath.Clean(dir)) {
				dirs = append(dirs, filepath.Clean(dir))
			}
		}
	}
	var errs []error
	for _, dir := range dirs {
		names, err := store.Networks(dir)
		errs = append(errs, err)
		for _, network := range names {
			errs = append(errs, f.addressesOf(dir, network))
		}
	}
	return errors.Join(errs...)
}

// leases notes when they were written: of an interface that is in a sandbox as a whole nothing else is on the host while ADD runs. What cannot be read is in
// no snapshot either.
func (f *finder) leases() {
	leases, _ := daemon.Leases(f.LeaseDir)
	for _, l := range leases {
		if a := f.byOwner[l.Owner]; a != nil {
			a.written(l.Since)
		}
	}
}

func (f *finder) addressesOf(dir, network string) error {
	s, err := store.New(dir, network)
	if err != nil {
		return err
	}
	files, err := s.Files()
	for _, file := range files {
		if a := f.holder(network, file.Holder); a != nil && file.Wrong == "" {
			a.drop[dir] = append(a.drop[dir], file.Reservation)
			a.written(file.Since)
		}
	}
	return err
}

// holder is who holds an address: old versions of the reference plugin did not write its interface. It is nil if it has come since the snapshot.
func (f *finder) holder(network string, h store.Holder) *Attachment {
	if a := f.byOwner[owner.Owner{Network: network, ContainerID: h.ContainerID, IfName: h.IfName}]; a != nil || h.IfName != "" {
		return a
	}
	i := slices.IndexFunc(f.all, func(a *Attachment) bool { return a.Network == network && a.ContainerID == h.ContainerID })
	if i < 0 {
		return nil
	}
	return f.all[i]
}
