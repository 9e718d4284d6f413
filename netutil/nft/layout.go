package nft

import (
	"net/netip"
	"strconv"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// This file is all that stands in our tables whether or not there are pods: sets, chains, and their rules. Attachments add elements to
// the sets, and chains for their subnets and conditions (chain.go).

const tableName = "cnibox"

// layoutVersion goes up with each change of the static chains, so that a newer executable replaces those of an older one.
const layoutVersion = 4

// marker is an empty chain that says by its name whose rules those of the table are.
func marker() string { return "layout-" + strconv.Itoa(layoutVersion) }

// table is one of our tables, or another program's (foreign.go).
type table struct {
	family uint8 // NFPROTO_
	name   string
	sets   []*set
	chains []chain
}

func (t *table) String() string {
	family := map[uint8]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6"}[t.family]
	return family + " " + t.name
}

// set is the set of a name: one of the layout, or one that comes and goes with rules; nil if there is none.
func (t *table) set(name string) *set {
	for _, s := range t.sets {
		if s.name == name {
			return s
		}
	}
	return t.memberSet(name)
}

// layout is all tables.
type layout struct{ inet, bridge *table }

func newLayout() *layout { return &layout{inetTable(), bridgeTable()} }

// table that a feature's elements are in.
func (l *layout) table(f Feature) *table {
	if f == SpoofCheck || f == Isolation {
		return l.bridge
	}
	return l.inet
}

// Names of sets. Those of the inet table have the family behind them.
const (
	setPorts     = "ports"    // protocol and port -> address and port of a pod
	setPortsAt   = "ports_at" // the same with the host's address in front
	setPortsIf   = "ports_if" // port mappings with conditions -> a chain that has them
	setPortsAtIf = "ports_at_if"
	setMapped    = "mapped"   // mapped connections: port of the pod, port of the host, address, protocol
	setMappedAll = "masq_all" // those of them that carry the host's address, whoever they are from
	setMACs      = "macs"     // bridge port and MAC address that it may send with
	setChecked   = "checked"
	setGuarded   = "guarded"  // pods that not every other pod may connect to
	setNear      = "near"     // the same with the link from behind which they may be connected to
	setIsolated  = "isolated" // bridge ports that no other may begin a connection to
	setTunnels   = "tunnels"  // ports and VNIs of overlays' tunnels
	setInside    = "inside"   // subnets of overlays' pods, on all nodes
	setLocal     = "local"    // those of them that are this node's
	setDirect    = "direct"   // those whose pods come in beside the tunnel
	setJournal   = "journal"  // link and feature -> what the attachment holds, see journal.go
)

// More of them.
const (
	setTunnelPeers   = "tunnel_peers"   // who may send to a tunnel's port
	setTunnelDevices = "tunnel_devices" // by which other nodes' pods come in
)

func of(name string, f family) string { return name + "_" + f.name }

// Names of static chains that others jump to.
const (
	chainPorts      = "ports"
	chainMapped     = "mapped"
	chainNeighbours = "neighbours" // a rule for each subnet that has mapped ports
	chainLeaving    = "leaving"    // a rule for each subnet that is masqueraded
	chainForward    = "forward"
	chainTunnels    = "tunnels"
	chainAdmin      = "admin"     // a rule for each chain in which an administrator's rules come first
	chainIngress    = "ingress"   // who may connect to a guarded pod
	chainPods       = "pods"      // a rule for each group of pods: it is left out
	chainFromPods   = "from_pods" // a rule for each group of pods: it is let through
	chainToPods     = "to_pods"   // likewise
)

func inetTable() *table {
	t := &table{family: unix.NFPROTO_INET, name: tableName}
	add := func(s *set) { s.table, t.sets = t, append(t.sets, s) }
	for _, f := range families() {
		target := []field{f.addr, port}
		add(&set{name: of(setPorts, f), key: []field{protocol, port}, value: target})
		add(&set{name: of(setPortsAt, f), key: []field{f.addr, protocol, port}, value: target})
		add(&set{name: of(setPortsIf, f), key: []field{protocol, port}, verdicts: true})
		add(&set{name: of(setPortsAtIf, f), key: []field{f.addr, protocol, port}, verdicts: true})
		add(&set{name: of(setMapped, f), key: []field{port, port, f.addr, protocol}})
		add(&set{name: of(setMappedAll, f), key: []field{port, port, f.addr, protocol}})
		add(&set{name: of(setGuarded, f), key: []field{f.addr}})
		add(&set{name: of(setNear, f), key: []field{f.addr, ifname}})
		add(&set{name: of(setTunnelPeers, f), key: []field{f.addr, port, vni}})
		for _, name := range []string{setInside, setLocal, setDirect} {
			add(&set{name: of(name, f), key: []field{f.addr}, intervals: true})
		}
	}
	add(&set{name: setTunnels, key: []field{port, vni}})
	add(&set{name: setTunnelDevices, key: []field{ifname}})
	add(&set{name: setJournal, key: []field{ifname, mark}})
	t.chains = inetChains()
	return t
}

// broadcast is what goes to all on a link (RFC 919); a bridge shows it to the packet filter where module br_netfilter is loaded.
func broadcast() netip.Prefix { return netip.MustParsePrefix("255.255.255.255/32") }

func inetChains() []chain {
	var ports, mapped, outsiders, strangers, inside []commented
	for _, f := range families() {
		strangers = append(strangers, commented{"only its nodes send to a tunnel", join(f.strange(), counter(), drop())})
		inside = append(inside, commented{"", join(f.is(), in(of(setInside, f), f.address(f.source)), in(of(setInside, f), f.address(f.dest)), leave())})
		ports = append(ports, portRules(f)...)
		mapped = append(mapped, mappedRules(f)...)
	}
	// Port mappings of 127.0.0.1 need route_localnet, with which the kernel no longer refuses such packets from outside by itself.
	v4 := families()[0]
	for _, offset := range []uint32{v4.source, v4.dest} {
		foreign := join(v4.is(), fromLink(expr.CmpOpNeq, "lo"), v4.within(expr.CmpOpEq, offset, v4.loopback), counter(), drop())
		outsiders = append(outsiders, commented{"loopback is not on the wire", foreign})
	}
	return append(forwardChains(), []chain{
		{name: "loopback", hook: &hook{"filter", unix.NF_INET_PRE_ROUTING, priorityRaw}, rules: outsiders},
		{
			name: "prerouting", hook: &hook{"nat", unix.NF_INET_PRE_ROUTING, priorityDestNAT},
			rules: []commented{{"", join(toThisHost(), jump(chainPorts))}},
		},
		{
			name: "output", hook: &hook{"nat", unix.NF_INET_LOCAL_OUT, priorityDestNAT},
			rules: []commented{{"", join(toThisHost(), jump(chainPorts))}},
		},
		{
			name: "postrouting", hook: &hook{"nat", unix.NF_INET_POST_ROUTING, prioritySourceNAT},
			rules: []commented{
				{"", join(redirected(), jump(chainMapped))}, {"", join(v4.is(), v4.within(expr.CmpOpEq, v4.dest, broadcast()), leave())}, {"", jump(chainLeaving)},
			},
		},
		{name: chainPorts, jumps: 2, rules: ports},
		{name: chainMapped, jumps: 1, rules: mapped},
		{
			name: chainNeighbours, jumps: len(mapped) / 2, grows: true,
			rules: []commented{{"", join(v4.is(), v4.within(expr.CmpOpEq, v4.source, v4.loopback), masquerade())}},
		},
		{name: chainLeaving, jumps: 1, grows: true, rules: inside},
		{name: "input", hook: &hook{"filter", unix.NF_INET_LOCAL_IN, priorityFilter}, rules: strangers},
	}...)
}

// portRules look for the mapping of a port. That of one address of the host comes before that of all addresses, and that with
// conditions before that without; where the conditions do not hold, the search goes on.
func portRules(f family) []commented {
	at := []load{f.address(f.dest), l4proto(), destPort()}
	every := []load{l4proto(), destPort()}
	rules := []commented{
		{"", join(f.is(), vmap(of(setPortsAtIf, f), at...))},
		{"", join(f.is(), f.dnatByMap(of(setPortsAt, f), at...))},
		{"", join(f.is(), vmap(of(setPortsIf, f), every...))},
		{"", join(f.is(), f.dnatByMap(of(setPorts, f), every...))},
	}
	if f.addr == ipv6 {
		local := join(f.is(), f.within(expr.CmpOpEq, f.dest, f.loopback), leave())
		rules = append([]commented{{"the kernel never routes it", local}}, rules...)
	}
	return rules
}

// mappedRules look at connections through our host ports: others that were redirected, to a service's pod for example, are not
// ours. There is one rule for each protocol, and the key begins with the pod's port, because nft(8) reads "ct original proto-dst" only
// where it has learnt the protocol before.
func mappedRules(f family) (rules []commented) {
	for _, p := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP} {
		key := []load{destPort(), originalPort(), f.address(f.dest), l4proto()}
		rules = append(rules,
			commented{"", join(f.is(), l4protoIs(p), in(of(setMapped, f), key...), jump(chainNeighbours))},
			commented{"", join(f.is(), l4protoIs(p), in(of(setMappedAll, f), key...), masquerade())},
		)
	}
	return rules
}

func bridgeTable() *table {
	t := &table{family: unix.NFPROTO_BRIDGE, name: tableName}
	t.sets = []*set{
		{table: t, name: setMACs, key: []field{ifname, ether}},
		{table: t, name: setChecked, key: []field{ifname}},
		{table: t, name: setIsolated, key: []field{ifname}},
		{table: t, name: setJournal, key: []field{ifname, mark}},
	}
	t.sets = append(t.sets, addressSets(t)...)
	t.chains = append(spoofChains(), chain{name: chainForward, hook: &hook{"filter", unix.NF_INET_FORWARD, priorityFilter}, grows: true})
	return t
}

// ensure makes the table's static part, unless it stands.
func (c *conn) ensure(t *table) (made bool, err error) {
	whole, err := c.whole(t)
	if whole || err != nil {
		return false, err
	}
	b := &batch{}
	var a rawnl.Attrs
	a.Text(unix.NFTA_TABLE_NAME, tableName)
	b.put(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, t, a)
	for i, s := range t.sets {
		s.add(b, uint32(i+1))
	}
	for i := range t.chains {
		t.chains[i].add(b, t)
	}
	for i := range t.chains {
		if err := c.anew(b, t, &t.chains[i]); err != nil {
			return false, err
		}
	}
	(&chain{name: marker()}).add(b, t)
	return true, kernelError(c.run(b), "make the table %s", t)
}

// anew gives a static chain its rules. Those that are there for pods, which a comment tells, stay.
func (c *conn) anew(b *batch, t *table, ch *chain) error {
	if !ch.grows {
		ch.flush(b, t)
		return ch.addRules(b, t)
	}
	have, err := c.rules(t, ch.name)
	if err != nil {
		return err
	}
	for _, r := range have {
		if r.comment == "" {
			ch.removeRule(b, t, r)
		}
	}
	return ch.insertRules(b, t)
}

// whole tells whether the static chains stand with all their rules, as far as their numbers tell.
func (c *conn) whole(t *table) (bool, error) {
	names := []string{marker()}
	for i := range t.chains {
		names = append(names, t.chains[i].name)
	}
	uses, err := c.uses(t, names...)
	if err != nil || uses[0] < 0 {
		return false, err
	}
	for i := range t.chains {
		ch := &t.chains[i]
		have, want := uses[i+1], len(ch.rules)+ch.jumps
		if have < want || have > want && !ch.grows {
			return false, nil
		}
	}
	return true, nil
}
