package gc

import (
	"fmt"
	"slices"
	"time"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Rules say what goes.
type Rules struct {
	Living  *Living // nil: only what a sandbox has tells whether it lives
	Network string  // only this one's; empty: all
	Older   time.Duration
	Only    string // a kind of things; empty: all
}

// Judge says of each attachment why it is kept; those that are not go. Whatever is in doubt is kept.
func (n *Node) Judge(all []*Attachment, r Rules) error {
	now := time.Now()
	if r.Living != nil {
		now = r.Living.Taken
	}
	var doubtful []*Attachment
	for _, a := range all {
		a.Kept = n.keep(a, &r, now)
		if a.Kept == "" {
			doubtful = append(doubtful, a)
		}
	}
	if len(doubtful) == 0 {
		return nil
	}
	sandboxes, err := Sandboxes(n.Host)
	if err != nil {
		return err
	}
	for _, a := range doubtful {
		a.Kept = n.alive(a, sandboxes)
	}
	return nil
}

// keep is why an attachment is kept, as far as that is known without a look at sandboxes; empty: it is not.
func (n *Node) keep(a *Attachment, r *Rules, now time.Time) string {
	switch {
	case r.Network != "" && a.Network != r.Network && !owner.InNetwork(a.text, r.Network):
		return "it is of another network"
	case r.Only != "" && !slices.ContainsFunc(a.Things, func(t Thing) bool { return t.Kind == r.Only }):
		return "it has no " + r.Only
	case r.Living != nil && r.Living.Has(a.ContainerID, a.IfName):
		return r.Living.Of + " has the container"
	case r.Living != nil && !a.Whole && r.Living.mayBe(a.ContainerID):
		return r.Living.Of + " has a container whose ID begins so"
	case !a.Newest.IsZero() && now.Sub(a.Newest) < r.Older:
		return fmt.Sprintf("it is only %s old", max(now.Sub(a.Newest), 0).Round(time.Second))
	case len(a.Things) == 1 && a.cache != nil && !n.concerns(a):
		return "only the runtime remembers it, and the network is not cnibox's"
	}
	if net := n.network(a.Network); net != nil && net.DisableGC {
		return net.File + " has disableGC"
	}
	return ""
}

// alive is in which sandbox an attachment's interface is; empty: in none.
func (n *Node) alive(a *Attachment, sandboxes []*Sandbox) string {
	for _, d := range a.devices {
		if d.Kind != "veth" || d.PeerNamespace == rtnl.NoNamespace {
			continue
		}
		for _, s := range sandboxes {
			if s.id == d.PeerNamespace {
				return "its interface is in " + s.String()
			}
		}
		return "its interface is in a namespace that is mounted nowhere here"
	}
	for _, s := range sandboxes {
		for _, addr := range a.addrs {
			if slices.Contains(s.addrs, addr) {
				return "its address " + addr.String() + " is in " + s.String()
			}
		}
	}
	if a.cache == nil || a.cache.NetNS == "" {
		return ""
	}
	sandbox, err := netutil.Open(a.cache.NetNS)
	if err != nil {
		return ""
	}
	defer sandbox.Close()
	same, err := sandbox.Same(n.Host)
	if d, _ := netutil.FindDevice(sandbox, a.IfName); err == nil && !same && d != nil {
		return "its interface is in the namespace " + a.cache.NetNS
	}
	return ""
}
