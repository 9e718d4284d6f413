package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cnibox/cnibox/ipam/store"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/overlay"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Options say where to look; what is empty is where runtimes and plugins keep it by default.
type Options struct {
	Stores  []string // folders of host-local's networks; those that configurations name are read besides
	Caches  []string // libcni's folders of results
	Confs   []string // folders of network configurations
	Leases  string   // folder of the dhcp daemon
	Tuning  string   // folder of the role tuning's records
	Overlay string   // folder of overlays' settings

	Youth time.Duration // how long an attachment may be unfinished, as a plugin may be at it; less than 0: not at all

	LockWait time.Duration // for what plugins lock, at most
}

func (o Options) withDefaults() Options {
	list := func(l *[]string, names ...string) {
		if len(*l) == 0 {
			*l = names
		}
	}
	text := func(s *string, name string) {
		if *s == "" {
			*s = name
		}
	}
	list(&o.Stores, store.DefaultDir)
	// libcni keeps results in the first; before version 1.0 it was the second.
	list(&o.Caches, "/var/lib/cni/results", "/var/lib/cni/cache/results")
	list(&o.Confs, "/etc/cni/net.d")
	text(&o.Leases, "/var/lib/cni/dhcp")
	text(&o.Tuning, "/run/cni/tuning")
	text(&o.Overlay, overlay.DefaultState)
	if o.Youth == 0 {
		o.Youth = 5 * time.Second
	}
	if o.LockWait == 0 {
		o.LockWait = LockWait
	}
	return o
}

// settling is how long what looks wrong gets to change before it is told: a plugin may be at it.
const settling = 200 * time.Millisecond

// Read takes a snapshot. It needs root, for the namespaces; what it may not read, or cannot, stands in Problems. The error is that the host itself
// could not be read, or ctx's. What looks wrong is looked at again, so a node with findings takes twice as long.
func Read(ctx context.Context, o Options) (*Node, error) {
	o = o.withDefaults()
	n, err := read(o)
	if err != nil || !n.Wrong() {
		return n, err
	}
	timer := time.NewTimer(settling)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
	}
	again, err := read(o)
	if err != nil {
		return nil, err
	}
	again.confirm(n)
	return again, nil
}

// Wrong tells whether there are findings.
func (n *Node) Wrong() bool {
	return len(n.Findings) > 0 || slices.ContainsFunc(n.Attachments, func(a *Attachment) bool { return len(a.Findings) > 0 })
}

// confirm leaves those findings out that were not there before.
func (n *Node) confirm(before *Node) {
	was := map[owner.Owner][]Finding{}
	for _, a := range before.Attachments {
		was[a.Owner()] = a.Findings
	}
	both := func(have, had []Finding) []Finding {
		return slices.DeleteFunc(have, func(f Finding) bool { return !slices.Contains(had, f) })
	}
	n.Findings = both(n.Findings, before.Findings)
	for _, a := range n.Attachments {
		a.Findings = both(a.Findings, was[a.Owner()])
		a.State = a.state()
	}
}

// LockWait is how long commands wait for what plugins lock, each only as long as it asks the kernel something.
const LockWait = 10 * time.Second

// reader is a snapshot in the making.
type reader struct {
	Options
	node   *Node
	unseen int // namespaces that could not be entered
	all    map[owner.Owner]*Attachment
	byLink map[string]*Attachment // by owner.Owner.LinkName
	confs  map[string]*conf       // by network
	limits map[int]rtnl.Qdisc     // by link of the host
	tuned  map[string]bool        // attachments that the role tuning keeps a record of, by the file's name
}

func read(o Options) (*Node, error) {
	r := &reader{
		Options: o, node: &Node{Time: time.Now(), Namespaces: []*Namespace{}, Attachments: []*Attachment{}, Overlays: []*Overlay{}, Findings: []Finding{}, Problems: []string{}},
		all: map[owner.Owner]*Attachment{}, byLink: map[string]*Attachment{}, confs: map[string]*conf{}, limits: map[int]rtnl.Qdisc{}, tuned: map[string]bool{},
	}
	host, err := netutil.Current()
	if err != nil {
		return nil, err
	}
	defer host.Close()
	host.WaitAtMost(o.LockWait)
	// What ADD makes last is read first, and the links last: so what is kept of an attachment is not seen without its link because it was made in between.
	held, err := netutil.NFT(host).Holdings()
	r.problem("packet filter", err)
	r.readConfs()
	paths := r.readCaches()
	paths = append(paths, r.readLeases()...)
	r.readStores()
	r.takeHoldings(held, true)
	r.readTuning()
	if err := r.readNamespaces(paths); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		r.unseen++
		r.problem("network namespaces", errors.New("only root sees all of them"))
	}
	r.takeLinks()
	r.takeHoldings(held, false)
	r.readLimits()
	r.locate()
	r.readOverlays(host)
	r.finish()
	return r.node, nil
}

// problem notes what could not be read.
func (r *reader) problem(what string, err error) {
	if err != nil {
		text := strings.ReplaceAll(err.Error(), "\n", "; ")
		r.node.Problems = append(r.node.Problems, what+": "+strings.TrimPrefix(text, what+": "))
	}
}

// sources are where something of an attachment was seen.
type sources struct {
	cache     bool
	conf      *conf         // that it was made by; nil: not known
	netns     []string      // paths that a runtime gave for its sandbox
	hostLinks []string      // of the host, in the result
	asked     []portMapping // of the runtime
	held      []nft.Holding // in the packet filter
	ifb       *Link
	sandbox   *Namespace // nil: not found
	returned  *Link      // a device that was handed over to the sandbox and is back, without a DEL
	unseen    bool       // its sandbox lives, but cannot be looked at
}

// of is the attachment of an owner, made if there is none yet.
func (r *reader) of(o owner.Owner) *Attachment {
	a := r.all[o]
	if a == nil {
		a = &Attachment{Network: o.Network, ContainerID: o.ContainerID, IfName: o.IfName, NSID: rtnl.NoNamespace}
		r.all[o] = a
		r.byLink[o.LinkName()] = a
		r.node.Attachments = append(r.node.Attachments, a)
	}
	return a
}

// ofText is the attachment of which only the name of its link is known for sure, and the owner's text, which may be cut; nil if it is no owner's.
func (r *reader) ofText(link, text string) *Attachment {
	if a := r.byLink[link]; a != nil {
		return a
	}
	o, ok := parseOwner(text)
	if !ok {
		return nil
	}
	if a := r.all[o]; a != nil {
		return a
	}
	a := r.of(o)
	a.Cut = strings.Contains(text, "~")
	r.byLink[link] = a
	return a
}

// parseOwner reads an owner's text: network/containerID/interface, of which the first two may be cut (owner.Owner.Text).
func parseOwner(text string) (o owner.Owner, ok bool) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 {
		return o, false
	}
	for _, p := range parts {
		if p == "" || strings.ContainsAny(p, " \t\n") {
			return o, false
		}
	}
	return owner.Owner{Network: parts[0], ContainerID: parts[1], IfName: parts[2]}, true
}

// takeHoldings gives attachments what they have in the packet filter: what a record tells whole, or what only the journal tells of. Names are cut there
// more than anywhere else, so that comes last.
func (r *reader) takeHoldings(held []nft.Holding, whole bool) {
	for _, h := range held {
		if h.Recorded() != whole {
			continue
		}
		var a *Attachment
		if whole {
			a = r.of(h.Owner)
		} else {
			a = r.ofText(h.Link, h.Text)
		}
		if a == nil {
			r.problem("packet filter", fmt.Errorf("something of %q, which is no attachment's name", h.Text))
			continue
		}
		a.sources.held = append(a.sources.held, h)
	}
}

// readOverlays compares each overlay with the kernel.
func (r *reader) readOverlays(host *netutil.Namespace) {
	networks, err := overlay.Networks(r.Overlay)
	r.problem("overlays", err)
	for _, network := range networks {
		c, err := overlay.OpenStore(r.Overlay, overlay.DefaultRun, network).Load()
		if c == nil {
			r.problem("overlay "+network, err)
			continue
		}
		o := overlayOf(c)
		status, err := overlay.Verify(host, c)
		if status != nil {
			if !o.Underlay.IsValid() {
				o.Underlay = status.Underlay
			}
			for _, d := range status.Found {
				r.finding(Finding{Drift, "overlay " + network + ": " + string(d), fixOverlay})
			}
		}
		if err != nil {
			r.finding(Finding{Drift, "overlay " + network + ": " + strings.ReplaceAll(err.Error(), "\n", "; "), fixOverlay})
		}
		r.node.Overlays = append(r.node.Overlays, o)
	}
}

func (r *reader) finding(f Finding) { r.node.Findings = append(r.node.Findings, f) }
