package nft

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
)

// This file is what happens to packets that the host forwards to pods and from them. An accept here does not overrule a drop in a chain of
// another program; foreign.go sees to those.

// forwardChains are the static chains.
func forwardChains() []chain {
	forward := []commented{{"", join(udp(), jump(chainTunnels))}, {"", jump(chainAdmin)}}
	var tunnels []commented
	for _, f := range families() {
		tunnels = append(tunnels, commented{"pods send to no tunnel", join(f.intoTunnel(), counter(), drop())})
	}
	ingress := []commented{{"", join(known(), leave())}}
	for _, f := range families() {
		near := []load{f.address(f.dest), inLink()}
		forward = append(forward, commented{"", join(f.is(), in(of(setGuarded, f), f.address(f.dest)), jump(chainIngress))})
		ingress = append(ingress, commented{"", join(f.is(), in(of(setNear, f), near...), leave())})
	}
	forward = append(forward, []commented{
		{"", jump(chainFromPods)}, {"", join(known(), jump(chainToPods))}, {"", join(redirected(), jump(chainToPods))},
	}...)
	toPods := 2
	for _, f := range families() {
		for _, from := range f.fromNodes() {
			forward = append(forward, commented{"", join(from, jump(chainToPods))})
			toPods++
		}
	}
	discovery := join(families()[1].is(), l4protoIs(unix.IPPROTO_ICMPV6), connection(expr.CtKeySTATE, stateUntracked), leave())
	ingress = append(ingress, commented{"neighbour discovery", discovery}, commented{"", jump(chainPods)})
	for _, f := range families() {
		for _, from := range f.fromNodes() {
			ingress = append(ingress, commented{"pods of other nodes", join(from, counter(), drop())})
		}
	}
	return []chain{
		{name: chainForward, hook: &hook{"filter", unix.NF_INET_FORWARD, priorityFilter}, rules: forward},
		{name: chainTunnels, jumps: 1, rules: tunnels},
		{name: chainAdmin, jumps: 1, grows: true},
		{name: chainIngress, jumps: len(families()), rules: ingress},
		{name: chainPods, jumps: 1, grows: true},
		{name: chainFromPods, jumps: 1, grows: true},
		{name: chainToPods, jumps: toPods, grows: true},
	}
}

// fromNodes match what the pods of an overlay's other nodes send to those here: through the tunnel, and beside it.
func (f family) fromNodes() [2]rule {
	local := join(f.is(), in(of(setLocal, f), f.address(f.dest)))
	return [2]rule{
		join(local, in(setTunnelDevices, inLink())),
		join(local, in(of(setDirect, f), f.address(f.source))),
	}
}

// group is the pods of a subnet behind one link, for which there is one rule of each kind. Their comment is the group.
type group struct {
	subnet netip.Prefix
	link   string // as in ForwardEntry
	zone   string // of firewalld; empty: none
	legacy bool   // as in ForwardEntry
}

// ofLegacy is the last word of a group that legacy iptables must know of.
const ofLegacy = "legacy"

func (g group) String() string {
	words := []string{g.subnet.String(), orNone(g.link), orNone(g.zone)}
	if g.legacy {
		return strings.Join(append(words, ofLegacy), " ")
	}
	for words[len(words)-1] == none {
		words = words[:len(words)-1]
	}
	return strings.Join(words, " ")
}

// parseGroup reads what String wrote.
func parseGroup(text string) (g group, ok bool) {
	words := append(strings.Split(text, " "), "", "", "")
	subnet, err := netip.ParsePrefix(words[0])
	return group{subnet, unlessNone(words[1]), unlessNone(words[2]), words[3] == ofLegacy}, err == nil && len(words) <= 7
}

// groupSetPrefix begins the names of the sets of the groups' pods.
func groupSetPrefix(f family) string { return "pods_" + f.name + "-" }

// setName is a name that nft(8) reads again, and short enough for the journal.
func (g group) setName() string {
	const longest, known = 32, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./-_"
	prefix := groupSetPrefix(familyOf(g.subnet.Addr()))
	name := prefix + strings.ReplaceAll(g.subnet.String(), ":", "_")
	if g.link != "" {
		name += "-" + strings.ReplaceAll(g.link, "*", "/") // which no link's name has
	}
	if len(name) <= longest && g.zone == "" && !g.legacy && strings.Trim(name, known) == "" && !strings.ContainsAny(g.link, "_") {
		return name
	}
	return prefix + owner.Owner{Network: g.String()}.LinkName()
}

func groupChains() []string { return []string{chainPods, chainFromPods, chainToPods} }

// admitting are the rules of a group.
func (l *layout) admitting(g group) []*sharedRule {
	f := familyOf(g.subnet.Addr())
	members := l.inet.memberSet(g.setName())
	from, to := in(members.name, f.address(f.source)), in(members.name, f.address(f.dest))
	// Who is behind a link of pods is told by the link, since an address can be forged.
	behind := from
	var way rule
	if g.link != "" {
		way = fromLink(expr.CmpOpEq, g.link)
		behind = way
	}
	make := func(chain string, r rule) *sharedRule {
		return &sharedRule{table: l.inet, chain: chain, members: members, comment: g.String(), rule: join(f.is(), r)}
	}
	return []*sharedRule{
		make(chainPods, join(behind, counter(), drop())),
		make(chainFromPods, join(way, from, counter(), accept())),
		make(chainToPods, join(to, counter(), accept())),
	}
}

// administered leads to a chain of an administrator's.
func (l *layout) administered(name string) *sharedRule {
	return &sharedRule{table: l.inet, chain: chainAdmin, target: name, comment: name, rule: jump(name)}
}

// CheckAdminChain checks the name of a chain for an administrator's rules, which is made in other programs' tables too. The key is named
// in the error.
func CheckAdminChain(key, name string) error {
	const longest = 28 // iptables, XT_EXTENSION_MAXNAMELEN
	letters := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	if name == "" || len(name) > longest || !strings.Contains(letters, name[:1]) || strings.Trim(name, letters+"0123456789-_") != "" {
		return errcode.Errorf(errcode.InvalidConfig, "%s: %q is no name of 1 to %d letters, digits, '-' and '_' that begins with a letter", key, name, longest)
	}
	taken := []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "ACCEPT", "DROP", "RETURN", "QUEUE", foreignChain, marker()}
	for _, ch := range inetChains() {
		taken = append(taken, ch.name)
	}
	for _, t := range taken {
		if strings.EqualFold(t, name) {
			return errcode.Errorf(errcode.InvalidConfig, "%s: %q is the name of another chain", key, name)
		}
	}
	return nil
}

const isolationComment = "isolated ports"

// isolating keeps connections between ports of a bridge away from some of them. It is not static, because connection tracking of bridges is
// more than some kernels have. Neighbour discovery is never tracked.
func (l *layout) isolating() *sharedRule {
	load, _ := meta(expr.MetaKeyPROTOCOL, 4)(firstReg)
	var rules rule
	rules = append(rules, in(setIsolated, meta(expr.MetaKeyOIFNAME, uint32(ifname.size())))...)
	rules = append(rules, load, &expr.Cmp{Op: expr.CmpOpNeq, Register: firstReg, Data: binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP)})
	state := connection(expr.CtKeySTATE, stateEstablished|stateRelated|stateUntracked)
	state[2] = &expr.Cmp{Op: expr.CmpOpEq, Register: firstReg, Data: make([]byte, 4)}
	return &sharedRule{table: l.bridge, chain: chainForward, comment: isolationComment, rule: join(rules, state, counter(), drop())}
}

// Zoned is what is in a zone of firewalld, and the name of the link of whose it is: a pod's address, or what other nodes' pods come from. The
// latter is there once for each pod that they come to.
type Zoned struct {
	Link, Zone string
	Source     string // a subnet, of one address too, or the name of a link
}

// Same tells whether both are the same in firewalld, whoever they belong to.
func (z Zoned) Same(other Zoned) bool { return z.Zone == other.Zone && z.Source == other.Source }

// Zoned is what all attachments have in zones that have a ForwardEntry with one.
func (t *Tables) Zoned() (out []Zoned, err error) {
	err = t.locked(func(c *conn) error {
		out = nil
		groups, err := t.groups(c)
		if err != nil {
			return err
		}
		ways, err := c.ways()
		if err != nil {
			return err
		}
		for _, g := range groups {
			if g.zone == "" {
				continue
			}
			nodes := sources(ways, g)
			members, err := c.all(t.inet.memberSet(g.setName()))
			if err != nil {
				return err
			}
			for _, e := range members {
				addr, _ := netip.AddrFromSlice(e.key)
				for _, source := range append([]string{netip.PrefixFrom(addr, addr.BitLen()).String()}, nodes...) {
					out = append(out, Zoned{linkOf(e.comment), g.zone, source})
				}
			}
		}
		return nil
	})
	return out, unlessMissing(err)
}

// Legacy is what legacy iptables, whose rules are not nftables', must let through.
type Legacy struct {
	Groups []LegacyGroup
	Admins []string // chains in which an administrator's own rules come first
}

// Equal tells whether both are the same.
func (l Legacy) Equal(other Legacy) bool {
	return slices.Equal(l.Admins, other.Admins) && slices.EqualFunc(l.Groups, other.Groups, func(a, b LegacyGroup) bool {
		return a.Subnet == b.Subnet && a.Link == b.Link && slices.Equal(a.From, b.From)
	})
}

// LegacyGroup is the pods of a subnet behind a link, as in ForwardEntry.
type LegacyGroup struct {
	Subnet netip.Prefix
	Link   string
	From   []string // links by which other nodes' pods come in, and their subnets where they come otherwise
}

// Legacy are the groups of all attachments that have a ForwardEntry for legacy iptables.
func (t *Tables) Legacy() (out Legacy, err error) {
	err = t.locked(func(c *conn) error {
		out = Legacy{}
		groups, err := t.groups(c)
		if err != nil {
			return err
		}
		ways, err := c.ways()
		if err != nil {
			return err
		}
		for _, g := range groups {
			if g.legacy {
				out.Groups = append(out.Groups, LegacyGroup{g.subnet, g.link, sources(ways, g)})
			}
		}
		if len(out.Groups) == 0 {
			return nil
		}
		admins, err := c.rules(t.inet, chainAdmin)
		for _, r := range admins {
			out.Admins = append(out.Admins, r.comment)
		}
		return err
	})
	return out, unlessMissing(err)
}

// groups are those that have pods.
func (t *Tables) groups(c *conn) (out []group, err error) {
	if err := t.heal(c, t.inet); err != nil {
		return nil, err
	}
	rules, err := c.rules(t.inet, chainFromPods)
	for _, r := range rules {
		if g, ok := parseGroup(r.comment); ok {
			out = append(out, g)
		}
	}
	return out, err
}

// forwards tells whether the change is about forwarding.
func (ch *change) forwards() bool {
	for _, elements := range [][]*element{ch.add, ch.del} {
		for _, e := range elements {
			if e.set.passing() && strings.HasPrefix(e.set.name, "pods_") {
				return true
			}
		}
	}
	return false
}
