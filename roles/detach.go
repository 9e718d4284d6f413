package roles

import (
	"context"
	"errors"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
)

// Detach is the DEL of a role that attaches a container by a link with a host side. The address is given back last, when no packet of the
// container is left. It goes on after errors and joins them.
//
// The packet filter comes before the link, although the container can still send for the moment between the two: the kernel then waits
// once, and not twice, until no packet looks at what is gone, which is most of the time that DEL takes.
func Detach(ctx context.Context, r *Request, features ...nft.Feature) error {
	errs := []error{ReleaseFirst(ctx, r), DeleteRules(r, features...), deleteLink(r)}
	// While the container may still send, its address must not go to another.
	if err := errors.Join(errs...); err != nil || r.IPAM == nil || r.IPAM.NeedsLink() {
		return err
	}
	return r.IPAM.Del(ctx)
}

// ReleaseFirst is DEL of an ipam plugin that tells others over the interface that the address is free (Delegate.NeedsLink); that of others comes last.
func ReleaseFirst(ctx context.Context, r *Request) error {
	if !r.IPAM.NeedsLink() {
		return nil
	}
	return r.IPAM.Del(ctx)
}

// deleteLink removes the attachment's link by the name that its owner gives the host side. An attachment that the reference plugins
// made has another name there: it is found by its interface in the sandbox.
func deleteLink(r *Request) error {
	found, err := netutil.DeleteLink(r.Host, r.Owner.LinkName())
	if found || err != nil || r.Sandbox == nil {
		return err
	}
	return netutil.DeleteUnowned(r.Host, r.Sandbox, r.Owner.IfName)
}

// Collect is the GC of such a role. It goes on after errors and joins them.
func Collect(ctx context.Context, r *Request, valid []Attachment, features ...nft.Feature) error {
	isValid := LinkNames(r.Owner.Network, valid)
	var errs []error
	if r.IPAM.NeedsLink() { // see ReleaseFirst
		errs = append(errs, r.IPAM.GC(ctx))
	}
	errs = append(errs, netutil.CollectLinks(r.Host, owner.LinkPrefix, r.Owner.Network, isValid), CollectFilter(r, valid, features...))
	if r.IPAM != nil && !r.IPAM.NeedsLink() {
		errs = append(errs, r.IPAM.GC(ctx))
	}
	return errors.Join(errs...)
}

// CollectFilter is the part of GC that concerns the packet filter.
func CollectFilter(r *Request, valid []Attachment, features ...nft.Feature) error {
	isValid := LinkNames(r.Owner.Network, valid)
	var errs []error
	for _, f := range features {
		errs = append(errs, netutil.NFT(r.Host).GC(r.Owner.Network, f, isValid))
	}
	return errors.Join(append(errs, netutil.NFT(r.Host).GCReference(r.Owner.Network, owners(r.Owner.Network, valid), features...))...)
}

// owners are attachments of a network.
func owners(network string, attachments []Attachment) []owner.Owner {
	out := make([]owner.Owner, len(attachments))
	for i, a := range attachments {
		out[i] = owner.Owner{Network: network, ContainerID: a.ContainerID, IfName: a.IfName}
	}
	return out
}

// LinkNames tells whether a host side link's name, under which the packet filter too keeps what is an attachment's, belongs to one of
// the network's valid attachments.
func LinkNames(network string, valid []Attachment) func(linkName string) bool {
	return Names(network, valid, owner.Owner.LinkName)
}

// Names tells whether a name is one that name gives to one of the network's valid attachments.
func Names(network string, valid []Attachment, name func(owner.Owner) string) func(string) bool {
	names := make(map[string]bool, len(valid))
	for _, o := range owners(network, valid) {
		names[name(o)] = true
	}
	return func(n string) bool { return names[n] }
}
