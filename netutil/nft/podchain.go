package nft

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"

	"github.com/cnibox/cnibox/netutil/owner"
)

// This file is the chains that come and go with attachments: one for each subnet that is masqueraded, one for each subnet that has
// host ports, one for each port mapping with conditions. A chain is made by the first element that leads there, and goes with the last.

// masqueradeChain gives the host's address to what leaves the subnet.
func masqueradeChain(subnet netip.Prefix) chain {
	f := familyOf(subnet.Addr())
	return chain{name: chainName("masquerade", subnet), rules: []commented{
		{"", join(f.is(), f.within(expr.CmpOpEq, f.dest, subnet), leave())},
		{"multicast", join(f.is(), f.within(expr.CmpOpEq, f.dest, f.multicast), leave())},
		{"", join(counter(), masquerade())},
	}}
}

// mappedChain gives the host's address to those who came through a host port and whom the pod could not answer: its own
// neighbours, to whom it would speak directly, and the host's loopback addresses.
func mappedChain(subnet netip.Prefix) chain {
	f := familyOf(subnet.Addr())
	rules := []commented{{"", join(f.is(), f.within(expr.CmpOpEq, f.source, subnet), masquerade())}}
	if f.addr == ipv4 {
		rules = append(rules, commented{"", join(f.is(), f.within(expr.CmpOpEq, f.source, f.loopback), masquerade())})
	}
	return chain{name: chainName("mapped", subnet), rules: rules}
}

// chainName is a name that nft(8) reads again: it knows no colons in them.
func chainName(kind string, subnet netip.Prefix) string {
	return kind + "-" + strings.ReplaceAll(subnet.Masked().String(), ":", "_")
}

// conditionalChain is that of an owner's ith port mapping, which has conditions.
func conditionalChain(o owner.Owner, i int, e PortEntry) (chain, error) {
	f := familyOf(e.Addr)
	ch := chain{name: "if-" + o.LinkName() + "-" + strconv.Itoa(i)}
	for _, cond := range e.Conditions {
		r, err := cond.unless(f)
		if err != nil {
			return chain{}, err
		}
		ch.rules = append(ch.rules, commented{"", join(f.is(), r, leave())})
	}
	ch.rules = append(ch.rules, commented{"", join(f.is(), l4protoIs(e.Protocol), f.dnatTo(e.Addr, e.Port))})
	return ch, nil
}
