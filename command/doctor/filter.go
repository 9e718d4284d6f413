package doctor

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft/eval"
	"github.com/cnibox/cnibox/netutil/rawnl"
)

// mostPods bounds how many pods' packets are tried. What hits a whole network shows with some.
const mostPods = 256

// filter finds out what the rules of all programs do with pods' packets, without sending one.
func filter(f *facts, l *list) {
	legacyTables(l)
	sock, err := rawnl.Open(unix.NETLINK_NETFILTER)
	if err != nil {
		l.cannot("the packet filter", err)
		return
	}
	defer sock.Close()
	rules, err := eval.Read(sock.Exchange)
	if err != nil {
		l.cannot("the packet filter", err)
		return
	}
	bridged, err := netutil.FiltersBridged(f.host)
	l.cannot("the packet filter of bridges", err)
	p := &prober{f: f, rules: rules, exchange: sock.Exchange, bridged: bridged, chains: chainNames(sock.Exchange)}
	p.out = f.outLink()
	for _, pod := range f.probes() {
		p.probe(pod)
	}
	p.tell(l)
}

// chainNames are the names of all chains, by table as nft(8) names it.
func chainNames(exchange eval.Exchange) map[string]string {
	out := map[string]string{}
	a, err := rawnl.Dump(exchange, rawnl.Message{
		Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETCHAIN, Flags: unix.NLM_F_DUMP, Body: []byte{unix.NFPROTO_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return out
	}
	for _, b := range a.Bodies {
		if len(b) >= 4 {
			table := &eval.Table{Family: b[0], Name: rawnl.String(rawnl.Find(b[4:], unix.NFTA_CHAIN_TABLE))}
			out[table.String()] += " " + rawnl.String(rawnl.Find(b[4:], unix.NFTA_CHAIN_NAME))
		}
	}
	return out
}

// legacyTables tells of rules that only legacy iptables shows.
func legacyTables(l *list) {
	const note = "there are rules of legacy iptables (tables %s), beside those of nftables"
	for _, family := range []string{"ip", "ip6"} {
		text, err := os.ReadFile("/proc/thread-self/net/" + family + "_tables_names")
		if names := strings.Fields(string(text)); err == nil && len(names) > 0 {
			slices.Sort(names)
			l.add(Note, fmt.Sprintf(note, strings.Join(names, ", ")), "what they drop is not seen here, and an accept of nftables does not overrule it",
				family+"tables-legacy -S FORWARD shows them; best leave one of the two")
		}
	}
}

// probe is a pod whose packets are tried: one that there is, or the first one to come.
type probe struct {
	network *network
	name    string // empty: it is to come
	of      *node.Attachment
	link    *node.Link // by which it is connected to the host; nil: not made yet
	addr    netip.Addr
	routed  bool // the host forwards what it sends
}

// probes are the pods whose packets the host forwards, and one for each network that has none.
func (f *facts) probes() (out []probe) {
	have := map[string]bool{}
	for _, a := range f.node.Attachments {
		n := f.networkOf(a.Network)
		if a.HostLink == nil || !a.Alive() || len(out) >= mostPods {
			continue
		}
		link := a.HostLink
		if master := f.node.Host.At(link.Master); master != nil {
			link = master
		}
		for _, addr := range a.Addrs() {
			out = append(out, probe{n, title(a), a, link, addr, f.routesFor(a)})
		}
		have[a.Network] = true
	}
	for i := range f.nets {
		n := &f.nets[i]
		if have[n.Name] || !n.routed() {
			continue
		}
		for _, s := range n.Subnets {
			out = append(out, probe{network: n, link: f.node.Host.Named(n.main.Bridge), addr: s.Addr().Next().Next(), routed: true})
		}
	}
	return out
}

// networkOf is a network's configuration, an empty one if there is none.
func (f *facts) networkOf(name string) *network {
	for i := range f.nets {
		if f.nets[i].Name == name {
			return &f.nets[i]
		}
	}
	n := &network{}
	n.Name = name
	return n
}

// outLink is the link to the outside: of the default route, or else any that is not the pods'.
func (f *facts) outLink() *node.Link {
	var quiet list
	if links := f.defaultLinks(&quiet); len(links) > 0 {
		return links[0]
	}
	for _, l := range f.node.Host.Links {
		if l.Name != "lo" && l.Up && len(l.Addresses) > 0 && !f.podsLink(l) {
			return l
		}
	}
	return nil
}

// prober tries packets.
type prober struct {
	f        *facts
	rules    *eval.Ruleset
	exchange eval.Exchange
	out      *node.Link
	bridged  bool              // the packet filter sees what bridges forward
	chains   map[string]string // names of each table's chains, by which it is told whose it is
	verdicts []*stopper
}

// ways of packets, as people are told of them.
const (
	toOutside   = "what pods send outside"
	fromOutside = "the answers to what pods send outside"
	toHost      = "what pods send to this host, as to a DNS cache"
	toPort      = "what comes to pods by a port of the host"
	among       = "what pods on one bridge send each other"
)

// outside is somebody far away (RFC 5737, RFC 3849).
func outside(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.AddrFrom4([4]byte{203, 0, 113, 1})
	}
	return netip.MustParseAddr("2001:db8:ffff::1")
}

// Ports of the packets that are tried, which the rules of few single out.
const (
	clientPort = 40000
	webPort    = 443
	dnsPort    = 53
)

func deviceOf(l *node.Link) eval.Device {
	if l == nil {
		return eval.Device{}
	}
	return eval.Device{Index: l.Index, Name: l.Name, Kind: l.Kind}
}

// probe tries the packets of one pod.
func (p *prober) probe(pod probe) {
	inside, out := deviceOf(pod.link), deviceOf(p.out)
	far := outside(pod.addr)
	q := &eval.Packet{Src: pod.addr, Dst: far, Proto: unix.IPPROTO_TCP, SrcPort: clientPort, DstPort: webPort}
	if pod.routed && p.pass(&pod, toOutside, q, inside, out) {
		back := &eval.Packet{Src: q.Dst, Dst: q.Src, Proto: q.Proto, SrcPort: q.DstPort, DstPort: q.SrcPort, Reply: true, Conn: q.Conn}
		p.pass(&pod, fromOutside, back, out, inside)
	}
	if host := p.f.addrOn(pod.link, pod.addr); host.IsValid() {
		q := &eval.Packet{Src: pod.addr, Dst: host, Proto: unix.IPPROTO_UDP, SrcPort: clientPort, DstPort: dnsPort}
		p.enter(q, inside)
		_ = p.hook(&pod, toHost, unix.NF_INET_PRE_ROUTING, q) && p.hook(&pod, toHost, unix.NF_INET_LOCAL_IN, q)
	}
	if p.bridged && pod.link != nil && pod.link.Kind == "bridge" && pod.name != "" {
		q := &eval.Packet{Src: pod.addr, Dst: pod.addr.Next(), Proto: unix.IPPROTO_TCP, SrcPort: clientPort, DstPort: webPort}
		p.pass(&pod, among, q, inside, inside)
	}
	p.ports(&pod, inside, out)
}

// ports tries a port of the host that leads to the pod.
func (p *prober) ports(pod *probe, inside, out eval.Device) {
	host := p.f.addrOn(p.out, pod.addr)
	if pod.of == nil || !host.IsValid() {
		return
	}
	for _, port := range pod.of.Ports {
		if port.Protocol == "tcp" && !port.HostIP.IsValid() && len(port.Conditions) == 0 {
			q := &eval.Packet{Src: outside(pod.addr), Dst: host, Proto: unix.IPPROTO_TCP, SrcPort: clientPort, DstPort: port.HostPort}
			p.pass(pod, toPort, q, out, inside)
			return
		}
	}
}

func (p *prober) enter(q *eval.Packet, in eval.Device) {
	q.In, q.Out, q.Received = in, eval.Device{}, in.Index != 0
}

// pass has a packet pass the hooks of one that is forwarded, and tells whether it did.
func (p *prober) pass(pod *probe, way string, q *eval.Packet, in, out eval.Device) bool {
	p.enter(q, in)
	if !p.hook(pod, way, unix.NF_INET_PRE_ROUTING, q) {
		return false
	}
	q.Out = out
	return p.hook(pod, way, unix.NF_INET_FORWARD, q) && p.hook(pod, way, unix.NF_INET_POST_ROUTING, q)
}

// hook has a packet pass a hook, and notes what stops it, unless that is a rule of ours, which is meant.
func (p *prober) hook(pod *probe, way string, hook uint32, q *eval.Packet) bool {
	outcome := p.rules.Hook(surroundings{p}, false, hook, q)
	if !outcome.Dropped || len(outcome.Hits) == 0 {
		return true
	}
	if hit := outcome.Hits[len(outcome.Hits)-1]; !strings.HasSuffix(hit.Table, " cnibox") {
		p.note(pod, way, hit, outcome.Doubt || hit.Maybe)
	}
	return false
}

// addrOn is an address of the host on a link, of the family of like.
func (f *facts) addrOn(l *node.Link, like netip.Addr) netip.Addr {
	if l == nil {
		return netip.Addr{}
	}
	for _, p := range l.Addresses {
		if a := p.Addr(); a.Is4() == like.Is4() && !a.IsLinkLocalUnicast() {
			return a
		}
	}
	return netip.Addr{}
}

// surroundings answers what rules ask besides the packet.
type surroundings struct{ *prober }

func (s surroundings) Element(set *eval.Set, key []byte) (*eval.Element, error) {
	return s.exchange.Element(set, key)
}

func (s surroundings) Elements(set *eval.Set) ([]*eval.Element, error) {
	return s.exchange.Elements(set)
}

// Fib knows this host's addresses and subnets; all else is outside.
func (s surroundings) Fib(to netip.Addr, _ uint32, via int) (kind uint8, link eval.Device, ok bool) {
	kind, link = unix.RTN_UNICAST, deviceOf(s.out)
	for _, l := range s.f.node.Host.Links {
		for _, p := range l.Addresses {
			switch {
			case p.Addr() == to:
				kind, link = unix.RTN_LOCAL, deviceOf(l)
			case p.Masked().Contains(to) && kind != unix.RTN_LOCAL:
				link = deviceOf(l)
			}
		}
	}
	if via != 0 && link.Index != via {
		return unix.RTN_UNICAST, eval.Device{}, true
	}
	return kind, link, true
}

func (s surroundings) AddrOf(index int, to netip.Addr) netip.Addr {
	return s.f.addrOn(s.f.node.Host.At(index), to)
}
