package nft

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

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

// uses is how many rules a chain has, and how many rules and elements lead to it, together.
func (c *conn) uses(t *table, name string) (n int, found bool, err error) {
	msgs, err := c.get(unix.NFT_MSG_GETCHAIN, t.family, func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.NFTA_CHAIN_TABLE, text(tableName))
		e.Bytes(unix.NFTA_CHAIN_NAME, text(name))
	})
	if err != nil {
		return 0, false, kernelError(err, "look up chain %s in %s", name, t)
	}
	for _, m := range msgs {
		err = decode(payload(m), func(d *netlink.AttributeDecoder) error {
			if b := d.Bytes(); d.Type() == unix.NFTA_CHAIN_USE && len(b) == 4 {
				n = int(uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]))
			}
			return nil
		})
	}
	return n, len(msgs) > 0, err
}

// rules counts the rules of a chain.
func (c *conn) rules(t *table, name string) (int, error) {
	msgs, err := c.dump(unix.NFT_MSG_GETRULE, t.family, func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.NFTA_RULE_TABLE, text(tableName))
		e.Bytes(unix.NFTA_RULE_CHAIN, text(name))
	})
	return len(msgs), kernelError(err, "list the rules of chain %s in %s", name, t)
}
