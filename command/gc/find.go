package gc

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cnibox/cnibox/command/networks"
	"github.com/cnibox/cnibox/ipam/store"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
	"github.com/cnibox/cnibox/roles"
)

// Attachment is all that an attachment has on the node, but for what is inside its sandbox.
type Attachment struct {
	owner.Owner        // what was cut of it is missing, see Whole
	Whole       bool   // the owner is known in full
	Link        string // the name that the owner gives its link, by which attachments are told apart
	Things      []Thing
	Newest      time.Time // when the newest of them was written; zero where none tells
	Kept        string    // why it stays; empty: nobody living owns it

	text     string // the owner as it was found, where it is not known in full
	addrs    []netip.Addr
	devices  []*rtnl.Device
	held     []nft.Held
	drop     map[string][]store.Reservation // by folder
	cache    *cached
	overlays []string // networks whose list of users has it
	leases   bool
	files    []string // records, by their paths
}

// Thing is one of them, as people are told of it.
type Thing struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

func (a *Attachment) add(kind, name string, since time.Time) {
	a.Things = append(a.Things, Thing{kind, name})
	if since.After(a.Newest) {
		a.Newest = since
	}
}

// String names the attachment, as far as it is known.
func (a *Attachment) String() string {
	if a.Whole {
		return a.Owner.String()
	}
	return a.Network + "/" + a.ContainerID + ".../" + a.IfName
}

// Node is where leftovers are looked for.
type Node struct {
	Host     *netutil.Namespace
	Table    roles.Table
	Networks []networks.Network
	DataDir  string // of host-local, beside those that the networks name
	LeaseDir string // of the dhcp daemon
	CacheDir string // of the runtime's CNI library
	Plugins  string // CNI_PATH
}

// Default folders.
const (
	DefaultCache = "/var/lib/cni/results" // libcni's
	tuningDir    = "/run/cni/tuning"
	flannelDir   = "/var/lib/cni/flannel"
)

// finder collects attachments.
type finder struct {
	*Node
	byLink map[string]*Attachment
}

// Find lists the attachments that something on the node is left of, or that live. It changes nothing, goes on after errors and joins them.
func (n *Node) Find() ([]*Attachment, error) {
	f := &finder{n, map[string]*Attachment{}}
	var errs []error
	// The caches come first: they tell owners in full.
	for _, find := range []func() error{f.caches, f.addresses, f.leased, f.records, f.filter, f.links, f.users} {
		errs = append(errs, find())
	}
	var all []*Attachment
	for _, a := range f.byLink {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *Attachment) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.ContainerID, b.ContainerID), cmp.Compare(a.IfName, b.IfName), cmp.Compare(a.Link, b.Link))
	})
	return all, errors.Join(errs...)
}

// of is the attachment of an owner.
func (f *finder) of(o owner.Owner) *Attachment {
	link := o.LinkName()
	a := f.byLink[link]
	if a == nil {
		a = &Attachment{Link: link, drop: map[string][]store.Reservation{}}
		f.byLink[link] = a
	}
	a.Owner, a.Whole = o, true
	return a
}

// named is the attachment whose link's name is known, and its owner as far as a text tells (owner.Owner.Text); nil if that is none of ours.
func (f *finder) named(link, text string) *Attachment {
	if a := f.byLink[link]; a != nil {
		return a
	}
	o, whole := parse(text)
	if whole && o.LinkName() == link {
		return f.of(o)
	}
	if whole || o.IfName == "" {
		return nil
	}
	a := &Attachment{Owner: o, Link: link, text: text, drop: map[string][]store.Reservation{}}
	f.byLink[link] = a
	return a
}

// parse reads a text for an owner; what was cut of the network and of the container ID is missing.
func parse(text string) (o owner.Owner, whole bool) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 {
		return o, false
	}
	network, _, cut := strings.Cut(parts[0], "~")
	id, _, cutID := strings.Cut(parts[1], "~")
	return owner.Owner{Network: network, ContainerID: id, IfName: parts[2]}, !cut && !cutID
}

// addresses finds what host-local has given out.
func (f *finder) addresses() error {
	dirs := []string{cmp.Or(f.DataDir, store.DefaultDir)}
	for i := range f.Networks {
		for _, dir := range dataDirs(&f.Networks[i]) {
			if !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
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

func (f *finder) addressesOf(dir, network string) error {
	s, err := store.New(dir, network)
	if err != nil {
		return err
	}
	files, err := s.Files()
	for _, file := range files {
		if file.Wrong != "" {
			continue
		}
		o := owner.Owner{Network: network, ContainerID: file.Holder.ContainerID, IfName: file.Holder.IfName}
		a := f.of(o)
		a.add("address", file.Addr.String(), file.Since)
		a.addrs = append(a.addrs, file.Addr)
		a.drop[dir] = append(a.drop[dir], file.Reservation)
	}
	return err
}

// filter finds what is in the packet filter.
func (f *finder) filter() error {
	held, err := netutil.NFT(f.Host).Holders()
	for _, h := range held {
		a := f.byLink[h.Link]
		if h.Owner != (owner.Owner{}) {
			a = f.of(h.Owner)
		} else if a == nil {
			a = f.named(h.Link, h.Text)
		}
		if a != nil {
			a.add("packet filter", h.Feature.String(), h.Since)
			a.held = append(a.held, h)
		}
	}
	return err
}

// links finds host sides of veth pairs, the devices that limit what containers send, and interfaces that have come back from a container.
func (f *finder) links() error {
	devices, err := netutil.Devices(f.Host)
	for _, d := range devices {
		if a, kind := f.linkOf(d); a != nil {
			a.add(kind, d.Name, time.Time{})
			a.devices = append(a.devices, d)
		}
	}
	return err
}

func (f *finder) linkOf(d *rtnl.Device) (a *Attachment, kind string) {
	size := len(owner.Owner{}.LinkName())
	for _, name := range d.AltNames {
		if len(name) >= size && netutil.IsMarked(d) {
			if a := f.byLink[name[:size]]; a != nil {
				return a, "returned interface"
			}
		}
	}
	o, whole := parse(d.Alias)
	switch {
	case strings.HasPrefix(d.Name, owner.LinkPrefix) && len(d.Name) == size:
		return f.named(d.Name, d.Alias), "link"
	case whole && d.Name == o.IFBName():
		return f.of(o), "limit"
	}
	return nil, ""
}

// describe is the things on one line.
func (a *Attachment) describe() string {
	var parts []string
	for i, t := range a.Things {
		if i > 0 && a.Things[i-1].Kind == t.Kind {
			parts[len(parts)-1] += ", " + t.Name
			continue
		}
		parts = append(parts, fmt.Sprintf("%s %s", t.Kind, t.Name))
	}
	return strings.Join(parts, "; ")
}
