package nft

import (
	"net/netip"
	"strings"

	"github.com/google/nftables/expr"

	"github.com/cnibox/cnibox/netutil/owner"
)

// This file is the rules of subnets: who is masqueraded. Their comment is the subnet.

// leaving gives the host's address to what a subnet's pods send to elsewhere, multicast aside.
func (l *layout) leaving(subnet netip.Prefix) *sharedRule {
	f := familyOf(subnet.Addr())
	members := l.inet.memberSet(subnetSetName(subnet))
	return &sharedRule{table: l.inet, chain: chainLeaving, members: members, comment: subnet.String(), rule: join(
		f.is(), in(members.name, f.address(f.source)),
		f.within(expr.CmpOpNeq, f.dest, subnet), f.within(expr.CmpOpNeq, f.dest, f.multicast), counter(), masquerade(),
	)}
}

// neighbours gives the host's address to those who came through a host port from the pod's own subnet, the pod itself included: the pod
// would answer them directly, and not the way that they came.
func (l *layout) neighbours(subnet netip.Prefix) *sharedRule {
	f := familyOf(subnet.Addr())
	return &sharedRule{table: l.inet, chain: chainNeighbours, comment: subnet.String(), rule: join(
		f.is(), f.within(expr.CmpOpEq, f.source, subnet), f.within(expr.CmpOpEq, f.dest, subnet), masquerade(),
	)}
}

const subnetSetPrefix = "masquerade-"

// subnetSetName is a name that nft(8) reads again, as it knows no colons in names, and short enough for the journal.
func subnetSetName(subnet netip.Prefix) string {
	const longest = 32
	name := subnetSetPrefix + strings.ReplaceAll(subnet.String(), ":", "_")
	if len(name) <= longest {
		return name
	}
	return subnetSetPrefix + owner.Owner{Network: subnet.String()}.LinkName()
}
