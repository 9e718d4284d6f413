package nft

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rawnl"
)

// This file is for nodes that change over from the reference plugins (github.com/containernetworking/plugins) with pods running: CHECK takes
// their rules for what cnibox would have made, and DEL and GC take them away, which nobody else would. The rules stand in tables of iptables
// (its nft variant) or of their own, and say by their comments whose they are. Where there are none, one look-up of the chains is all it costs.

// referenceChain is a chain in which a reference plugin has rules for pods.
type referenceChain struct {
	*table
	chain   string
	feature Feature
	// network begins the comment of all rules of a network's pods; nil if the comment does not tell the network. pod is the whole comment, of
	// which the plugin writes only the first bytes if it is long; nil if there is none.
	network func(string) string
	pod     func(owner.Owner) string
	hash    int    // bytes in front of the comment, which say no more than it
	longest int    // comment, in bytes
	target  string // begins the names of pods' own chains, to which the rules lead; empty if there are none
}

// Comments of the reference plugins: of bridge and ptp with iptables and with nftables, of portmap with either, and of bridge's spoof check.
func masqNetwork(network string) string    { return `name: "` + network + `" id: "` }
func masqPod(o owner.Owner) string         { return masqNetwork(o.Network) + o.ContainerID + `"` }
func masqNFTNetwork(network string) string { return ", net: " + network + ", if: " }
func masqNFTPod(o owner.Owner) string {
	return masqNFTNetwork(o.Network) + o.IfName + ", id: " + o.ContainerID
}
func portNetwork(network string) string { return "dnat " + masqNetwork(network) }
func portPod(o owner.Owner) string      { return "dnat " + masqPod(o) }
func portNFTPod(o owner.Owner) string   { return o.ContainerID }
func spoofPod(o owner.Owner) string     { return "macspoofchk-" + o.ContainerID + "-" + o.IfName }

// referenceChains are all such chains of the features.
func referenceChains(features []Feature) (out []*referenceChain) {
	const (
		iptablesComment = 253 // and "..." behind it
		nftComment      = 128
		hashes          = 33
	)
	inet := &table{family: unix.NFPROTO_INET, name: "cni_plugins_masquerade"}
	out = append(out, &referenceChain{inet, "masq_checks", Masquerade, masqNFTNetwork, masqNFTPod, hashes, nftComment, ""})
	bridge := &table{family: unix.NFPROTO_BRIDGE, name: "nat"}
	out = append(out, &referenceChain{bridge, "PREROUTING", SpoofCheck, nil, spoofPod, 0, nftComment, "cni-br-iface-"})
	for _, f := range families() {
		nat, filter := &table{family: f.number, name: "nat"}, &table{family: f.number, name: "filter"}
		out = append(out,
			&referenceChain{nat, "POSTROUTING", Masquerade, masqNetwork, masqPod, 0, iptablesComment, "CNI-"},
			&referenceChain{nat, "CNI-HOSTPORT-DNAT", PortMap, portNetwork, portPod, 0, iptablesComment, "CNI-DN-"},
			&referenceChain{filter, "CNI-FORWARD", Forward, nil, nil, 0, 0, ""},
		)
		for _, chain := range []string{"hostports", "hostip_hostports", "masquerading"} {
			own := &table{family: f.number, name: "cni_hostport"}
			out = append(out, &referenceChain{own, chain, PortMap, nil, portNFTPod, 0, nftComment, ""})
		}
	}
	return slices.DeleteFunc(out, func(f *referenceChain) bool { return !slices.Contains(features, f.feature) })
}

// text is the comment of a pod's rules as far as the plugin writes it, and whether that tells the pod: by all of its ID, or by so much that no
// other's begins alike.
func (f *referenceChain) text(o owner.Owner) (text string, tells bool) {
	const enough = 32 // bytes
	text = f.pod(o)
	room := f.longest - f.hash
	if len(text) <= room {
		return text, true
	}
	return text[:room], room-strings.LastIndex(text, o.ContainerID) >= enough
}

// told is what a rule that stands has of such a comment.
func (f *referenceChain) told(r *standing) string {
	text := r.text()
	if len(text) < f.hash || text == "" {
		return ""
	}
	return text[f.hash:min(len(text), f.longest)]
}

// isOf tells whether a rule is the attachment's. Two interfaces of a container may have the same comments, so it must be about one of the
// addresses, if they are known; rules that lead to a chain of the container's tell none.
func (f *referenceChain) isOf(r *standing, o owner.Owner, addrs []netip.Addr) bool {
	about := slices.ContainsFunc(addrs, func(a netip.Addr) bool { return f.has(a) && r.about(a) })
	if f.pod == nil {
		return about
	}
	text, tells := f.text(o)
	anyAddr := f.chain == "CNI-HOSTPORT-DNAT" || f.feature == SpoofCheck
	return f.told(r) == text && (about || tells && (anyAddr || len(addrs) == 0))
}

// has tells whether the table is one for addresses of this family.
func (f *referenceChain) has(a netip.Addr) bool {
	return f.family == unix.NFPROTO_INET || f.family == familyOf(a).number
}

// about tells whether a rule compares something with the address, or leads to it.
func (r *standing) about(a netip.Addr) (found bool) {
	want := a.AsSlice()
	r.expressions(func(name string, data []byte) {
		var value []byte
		switch name {
		case "cmp": // of one address or two
			value = rawnl.Find(rawnl.Find(data, unix.NFTA_CMP_DATA), unix.NFTA_DATA_VALUE)
		case "immediate":
			value = rawnl.Find(rawnl.Find(data, unix.NFTA_IMMEDIATE_DATA), unix.NFTA_DATA_VALUE)
		}
		for ; len(value) >= len(want); value = value[len(want):] {
			found = found || bytes.HasPrefix(value, want)
		}
	})
	return found
}

// DeleteReference removes what the reference plugins have for an attachment in place of the features. It asks for the attachment's addresses, as
// far as they are known, only where there are chains of theirs. It succeeds if there is nothing.
func (t *Tables) DeleteReference(o owner.Owner, addrs func() []netip.Addr, features ...Feature) error {
	known := sync.OnceValue(addrs)
	return t.dropReference(features, func(f *referenceChain, r *standing) bool { return f.isOf(r, o, known()) })
}

// GCReference removes what the reference plugins have for attachments of a network that are not valid, as far as their rules tell the network.
func (t *Tables) GCReference(network string, valid []owner.Owner, features ...Feature) error {
	return t.dropReference(features, func(f *referenceChain, r *standing) bool {
		if f.network == nil || !strings.HasPrefix(f.told(r), f.network(network)) {
			return false
		}
		return !slices.ContainsFunc(valid, func(o owner.Owner) bool {
			text, _ := f.text(o)
			return text == f.told(r)
		})
	})
}

// dropReference removes the reference plugins' rules that are to go, in one batch, and the chains that no other leads to.
func (t *Tables) dropReference(features []Feature, goes func(*referenceChain, *standing) bool) error {
	return unlessMissing(t.locked(func(c *conn) error {
		chains, err := c.present(referenceChains(features))
		errs := []error{err}
		b := &batch{}
		for _, f := range chains {
			errs = append(errs, c.dropRules(b, f, func(r *standing) bool { return goes(f, r) }))
		}
		return errors.Join(append(errs, kernelError(c.run(b), "delete rules of the reference plugins"))...)
	}))
}

// present are the chains that are there.
func (c *conn) present(chains []*referenceChain) (out []*referenceChain, err error) {
	requests := make([]rawnl.Message, len(chains))
	for i, f := range chains {
		requests[i] = f.lookUp(f.chain)
	}
	found, err := c.ask(requests)
	if err != nil {
		return nil, kernelError(err, "look for the reference plugins' chains")
	}
	for i, f := range chains {
		if found[i] != nil {
			out = append(out, f)
		}
	}
	return out, nil
}

// dropRules removes rules of one chain.
func (c *conn) dropRules(b *batch, f *referenceChain, goes func(*standing) bool) error {
	rules, err := c.rules(f.table, f.chain)
	if err != nil {
		return err
	}
	gone := map[string]int{} // pods' own chains, and how many rules led there
	var names []string
	for i := range rules {
		r := &rules[i]
		if !goes(r) {
			continue
		}
		(&chain{name: f.chain}).removeRule(b, f.table, *r)
		if to := r.jump(); f.target != "" && strings.HasPrefix(to, f.target) {
			if gone[to]++; gone[to] == 1 {
				names = append(names, to)
			}
		}
	}
	for _, name := range names {
		if err := c.dropChain(b, f.table, name, gone[name]); err != nil {
			return err
		}
	}
	return nil
}

// dropChain removes a chain that so many rules led to, and the one that it leads to if that is named after it. It stays if others lead there.
func (c *conn) dropChain(b *batch, t *table, name string, jumps int) error {
	rules, err := c.rules(t, name)
	if err != nil {
		return err
	}
	uses, err := c.uses(t, name)
	if err != nil || uses[0] != len(rules)+jumps {
		return err
	}
	(&chain{name: name}).flush(b, t)
	(&chain{name: name}).remove(b, t)
	for i := range rules {
		if to := rules[i].jump(); to == name+"-mac" {
			return c.dropChain(b, t, to, 1)
		}
	}
	return nil
}

// withoutReference are the entries but for those of features that the reference plugins provide: of which the attachment has nothing from cnibox,
// and a rule of theirs for each address or mapping. What else these plugins have is not compared.
func (t *Tables) withoutReference(o owner.Owner, entries []Entry) (rest []Entry, err error) {
	err = t.locked(func(c *conn) error {
		rest = nil
		served := map[Feature]bool{}
		for _, f := range Features(entries) {
			own, err := c.journal(holding{t.table(f), f, o.LinkName()})
			if err != nil {
				return err
			}
			if len(own) > 0 || f == Isolation {
				continue
			}
			if served[f], err = c.served(o, f, entries); err != nil {
				return err
			}
		}
		served[Isolation] = served[Forward] // which they keep for a bridge, not for a pod
		for _, e := range entries {
			if !served[e.feature()] {
				rest = append(rest, e)
			}
		}
		return nil
	})
	return rest, err
}

// served tells whether the reference plugins have rules for all entries of a feature.
func (c *conn) served(o owner.Owner, feature Feature, entries []Entry) (bool, error) {
	chains, err := c.present(referenceChains([]Feature{feature}))
	if err != nil {
		return false, err
	}
	rules := map[*referenceChain][]standing{}
	for _, f := range chains {
		if rules[f], err = c.rules(f.table, f.chain); err != nil {
			return false, err
		}
	}
	for _, e := range entries {
		addr, needed := servedAddr(e)
		if !needed || e.feature() != feature {
			continue
		}
		stands := slices.ContainsFunc(chains, func(f *referenceChain) bool {
			if addr.IsValid() && !f.has(addr) || f.chain == "masquerading" { // what is more than the mapping itself
				return false
			}
			return slices.ContainsFunc(rules[f], func(r standing) bool { return f.isOf(&r, o, []netip.Addr{addr}) })
		})
		if !stands {
			return false, nil
		}
	}
	return true, nil
}

// servedAddr is the address that the reference plugins must have a rule for in place of the entry, if they need one.
func servedAddr(e Entry) (addr netip.Addr, needed bool) {
	switch e := e.(type) {
	case MasqueradeEntry:
		return e.Addr, true
	case PortEntry:
		return e.Addr, true
	case ForwardEntry:
		return e.Addr, true
	case SpoofCheckEntry:
		return netip.Addr{}, true
	}
	return netip.Addr{}, false
}
