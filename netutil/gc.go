package netutil

import (
	"math/rand/v2"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// CollectLinks removes links of the host whose names begin with the prefix and that belong to the network's attachments that are not valid. Links
// are told by the owner in their alias; valid is asked by the name that the owner gives them (owner.Owner.LinkName for owner.LinkPrefix).
//
// All are put into one group and removed together: the kernel waits for all readers of a link before it lets go of it, 20 ms for each one
// removed alone, and as long for a thousand.
func CollectLinks(n *Namespace, prefix, network string, valid func(linkName string) bool) error {
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	all, err := n.links()
	if err != nil {
		return err
	}
	isStale := func(l *rtnl.Link) bool {
		return strings.HasPrefix(l.Name, prefix) && owner.InNetwork(l.Alias, network) && !valid(l.Name)
	}
	var requests []request
	group := freeGroup(all)
	for _, l := range all {
		if isStale(l) {
			requests = append(requests, request{
				Message: rtnl.SetLink(l.Index, rtnl.Change{Group: group}), what: "collect interface " + l.Name, harmless: unix.ENODEV,
			})
		}
	}
	if len(requests) == 0 {
		return nil
	}
	for some := range slices.Chunk(requests, 500) {
		if _, err := n.do(some...); err != nil {
			return err
		}
	}
	_, err = n.do(request{Message: rtnl.DelGroup(group), what: "delete interfaces", harmless: unix.ENODEV})
	return err
}

// freeGroup is a number that no link's group has. People number theirs from 1, so it is a large one.
func freeGroup(all []*rtnl.Link) uint32 {
	for {
		group := 1<<31 | rand.Uint32()>>1
		if !slices.ContainsFunc(all, func(l *rtnl.Link) bool { return l.Group == group }) {
			return group
		}
	}
}
