package gc

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cnibox/cnibox/netutil/owner"
)

// Rules say what goes.
type Rules struct {
	Living  *Living // nil: only sandboxes tell who lives
	Network string  // only this one's; empty: all
	Older   time.Duration
	Only    string // a kind of things; empty: all
}

// Judge says of each attachment why it is kept; those that are not go. Whatever is in doubt is kept.
func (n *Node) Judge(all []*Attachment, r Rules) {
	now := time.Now()
	if r.Living != nil {
		now = r.Living.Taken
	}
	for _, a := range all {
		a.Kept = n.keep(a, &r, now)
	}
}

// keep is why an attachment is kept; empty: it is not.
func (n *Node) keep(a *Attachment, r *Rules, now time.Time) string {
	begin, _, _ := strings.Cut(a.ContainerID, "~")
	switch {
	case r.Network != "" && a.Network != r.Network && !owner.InNetwork(a.Network+"/", r.Network):
		return "it is of another network"
	case r.Only != "" && !slices.ContainsFunc(a.Things, func(t Thing) bool { return t.Kind == r.Only }):
		return "it has no " + r.Only
	case r.Living != nil && r.Living.Has(a.ContainerID, a.IfName):
		return r.Living.Of + " has the container"
	case r.Living != nil && a.Cut && r.Living.mayBe(begin):
		return r.Living.Of + " has a container whose ID begins so"
	case a.Alive():
		return "its interface is in the namespace " + a.Sandbox
	case !a.Newest.IsZero() && now.Sub(a.Newest) < r.Older:
		return fmt.Sprintf("it is only %s old", max(now.Sub(a.Newest), 0).Round(time.Second))
	case len(a.Things) == 0:
		return "nothing is left of it"
	case a.onlyFiles() && (r.Living == nil || !n.concerns(a)):
		return "only files tell of it, and the network may be another program's"
	}
	if net := n.confOf(a); net != nil && net.DisableGC { // also one that only the runtime remembers, as of a folder that was not named
		return cmp.Or(net.File, "the cached configuration") + " has disableGC"
	}
	return ""
}

// onlyFiles tells that an attachment has nothing but what a plugin or a runtime has noted of it.
func (a *Attachment) onlyFiles() bool {
	return !slices.ContainsFunc(a.Things, func(t Thing) bool { return t.Kind != "record" && t.Kind != "cached result" })
}
