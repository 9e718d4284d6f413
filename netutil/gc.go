package netutil

import (
	"errors"
	"strings"

	"github.com/cnibox/cnibox/netutil/owner"
)

// CollectLinks removes the host side links of the network's attachments that are not valid. Links are told by the owner in their
// alias; valid is asked by the name that the owner gives them (owner.Owner.LinkName). It goes on after errors and joins them.
func CollectLinks(n *Namespace, network string, valid func(linkName string) bool) error {
	h, err := linksOf(n)
	if err != nil {
		return err
	}
	all, err := Dump("interfaces", h.LinkList)
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range all {
		at := l.Attrs()
		if !strings.HasPrefix(at.Name, owner.LinkPrefix) || !owner.InNetwork(at.Alias, network) || valid(at.Name) {
			continue
		}
		errs = append(errs, DeleteLink(n, at.Name))
	}
	return errors.Join(errs...)
}
