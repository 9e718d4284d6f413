package roles

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
)

// This file is what roles do for attachments that the reference plugins have made, before the node changed over to cnibox (docs/migration.md).

// DeleteRules is DEL of the packet filter's features: of what cnibox has there, and of what the reference plugins have.
func DeleteRules(r *Request, features ...nft.Feature) error {
	tables := netutil.NFT(r.Host)
	return errors.Join(tables.DeleteReference(r.Owner, func() []netip.Addr { return knownAddrs(r) }, features...), tables.Delete(r.Owner, features...))
}

// knownAddrs are the addresses that prevResult gives the attachment, or else those that its interface has; none if neither is there.
func knownAddrs(r *Request) (out []netip.Addr) {
	if r.Prev == nil {
		if r.Sandbox != nil {
			out, _ = netutil.Addresses(r.Sandbox, r.Owner.IfName)
		}
		return out
	}
	_, ips, _ := Attached(r)
	for _, ip := range ips {
		out = append(out, ip.Prefix.Addr())
	}
	return out
}

// madeByReference is the plan for an attachment whose host side is not cnibox's but the one that prevResult names; nil if there is none.
func madeByReference(r *Request, p *netutil.Plan) (*netutil.Plan, error) {
	if r.Sandbox == nil || r.Prev == nil {
		return nil, nil
	}
	l, err := netutil.HostSide(r.Host, r.Sandbox, r.Owner.IfName)
	if l == nil || err != nil || l.Name == r.Owner.LinkName() || !slices.Contains(HostSide(r.Prev), l.Name) {
		return nil, err
	}
	return p.Foreign(l.Name), nil
}
