package nft

import (
	"net/netip"
	"strings"

	"github.com/cnibox/cnibox/netutil/owner"
)

// Feature is what a group of entries is for. An attachment's entries are added, checked and deleted by feature, so that
// roles in one chain (bridge, portmap) never touch each other's.
type Feature uint8

// The features. The numbers stand in the kernel (in the key of the journal), so they never change.
const (
	Masquerade Feature = 1
	PortMap    Feature = 2
	SpoofCheck Feature = 3
	Forward    Feature = 4
	Isolation  Feature = 5
)

// String is the feature as error messages name it.
func (f Feature) String() string {
	switch f {
	case Masquerade:
		return "masquerade"
	case PortMap:
		return "port mappings"
	case SpoofCheck:
		return "spoof check"
	case Forward:
		return "admission"
	default:
		return "isolation"
	}
}

// Features are the features that the entries belong to, each once.
func Features(entries []Entry) []Feature {
	var out []Feature
next:
	for _, e := range entries {
		for _, f := range out {
			if f == e.feature() {
				continue next
			}
		}
		out = append(out, e.feature())
	}
	return out
}

// Entry is one thing that an attachment wants from the packet filter: MasqueradeEntry, PortEntry, SourceNATEntry, SpoofCheckEntry,
// AddressCheckEntry, ForwardEntry, IngressEntry, IsolateEntry.
type Entry interface {
	feature() Feature
	// want adds what the entry needs to the owner's elements.
	want(w *wanted) error
	// words are the entry as a record has it.
	words() []string
}

// MasqueradeEntry gives the traffic of a pod to outside its own subnet the node's address.
type MasqueradeEntry struct {
	Addr   netip.Addr
	Subnet netip.Prefix // what stays as it is; multicast stays too
}

// PortEntry leads a port of the host to a pod. Of two that fit a connection, one with a HostIP comes before one without.
type PortEntry struct {
	Protocol   uint8      // IPPROTO_TCP, _UDP or _SCTP
	HostIP     netip.Addr // the zero Addr: every address of the host, of the family of Addr
	HostPort   uint16
	Addr       netip.Addr
	Port       uint16
	Conditions []Condition // all must hold, else the mapping does not apply
}

// SourceNATEntry masquerades connections that came through a host port where the pod could not answer them otherwise:
// from its own subnet (itself included) and from the host's loopback addresses; all of them if All is set. It counts for the
// PortEntries of its address that are added with it.
type SourceNATEntry struct {
	Addr   netip.Addr
	Subnet netip.Prefix
	All    bool
}

// ForwardEntry admits what the host forwards from a pod, the answers to it, and connections that came through a host port.
type ForwardEntry struct {
	Addr netip.Addr
	// Link is the host's link that the pod is behind, or the beginning of its name and "*"; empty if it is not known. With Subnet it is what
	// rules in the chains of other programs go by, where no sets of ours can be used.
	Link   string
	Subnet netip.Prefix
	Admin  string // chain in which an administrator's own rules come first
	Zone   string // of firewalld that the address is in, so that firewalld lets the pod's traffic pass; empty: none
	Legacy bool   // legacy iptables has rules for it too, see Tables.Legacy
}

// IngressEntry keeps connections from other pods away from a pod, in as far as there is a ForwardEntry for those.
type IngressEntry struct {
	Addr netip.Addr
	From string // the link from behind which connections pass all the same; empty: none
}

// IsolateEntry keeps connections that begin behind other ports of its bridge away from a bridge port.
type IsolateEntry struct {
	Port string // name of the bridge port
}

func (MasqueradeEntry) feature() Feature { return Masquerade }
func (PortEntry) feature() Feature       { return PortMap }
func (SourceNATEntry) feature() Feature  { return PortMap }
func (ForwardEntry) feature() Feature    { return Forward }
func (IngressEntry) feature() Feature    { return Forward }
func (IsolateEntry) feature() Feature    { return Isolation }

// wanted is what an owner's entries come to.
type wanted struct {
	*layout
	owner    owner.Owner
	entries  []Entry
	elements []wantedElement
	chains   []wantedChain
	rules    []*sharedRule
	used     []*sharedRule // rules, each as often as it was wanted
}

type wantedElement struct {
	*element
	feature Feature
	rivals  []*element // others that stand in the way, if they are there
}

// exclusive sets are those of host ports: an element of another's stands in the way of a new one. In the other sets it is what a former
// owner of the address has left, and replaced.
func (s *set) exclusive() bool { return strings.HasPrefix(s.name, setPorts) }

type wantedChain struct {
	in    *table
	owner owner.Owner
	chain
}

func (l *layout) wanted(o owner.Owner, entries []Entry) (*wanted, error) {
	w := &wanted{layout: l, owner: o, entries: entries}
	for _, e := range entries {
		if err := e.want(w); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *wanted) element(f Feature, set string, e element) *wantedElement {
	e.set, e.comment = w.table(f).set(set), tag(w.owner)
	w.elements = append(w.elements, wantedElement{element: &e, feature: f})
	return &w.elements[len(w.elements)-1]
}

// rule is wanted once, however many pods share it.
func (w *wanted) rule(r *sharedRule) *sharedRule {
	for _, have := range w.rules {
		if have.chain == r.chain && have.comment == r.comment {
			w.used = append(w.used, have)
			return have
		}
	}
	w.rules, w.used = append(w.rules, r), append(w.used, r)
	return r
}

func (e MasqueradeEntry) want(w *wanted) error {
	r := w.rule(w.leaving(e.Subnet.Masked()))
	w.element(Masquerade, r.members.name, element{key: e.Addr.AsSlice()}).set = r.members
	return nil
}

func (e PortEntry) want(w *wanted) error {
	f := familyOf(e.Addr)
	every := pack(packProtocol(e.Protocol), packPort(e.HostPort))
	key, plain, conditional := every, w.inet.set(of(setPorts, f)), w.inet.set(of(setPortsIf, f))
	var rivals []*element
	if e.HostIP.IsValid() {
		// It would take connections away from the pod that has the port on all addresses. (The other way round, that one gets what is left.)
		rivals = []*element{{set: plain, key: every}, {set: conditional, key: every}}
		key = pack(e.HostIP.AsSlice(), every)
		plain, conditional = w.inet.set(of(setPortsAt, f)), w.inet.set(of(setPortsAtIf, f))
	}
	target := pack(e.Addr.AsSlice(), packPort(e.Port))
	if len(e.Conditions) == 0 {
		w.element(PortMap, plain.name, element{key: key, value: target}).rivals = append(rivals, &element{set: conditional, key: key})
	} else {
		ch, err := conditionalChain(w.owner, w.conditional(), e)
		if err != nil {
			return err
		}
		w.chains = append(w.chains, wantedChain{w.inet, w.owner, ch})
		w.element(PortMap, conditional.name, element{key: key, chain: ch.name}).rivals = append(rivals, &element{set: plain, key: key})
	}
	e.wantMapped(w, pack(packPort(e.Port), packPort(e.HostPort), e.Addr.AsSlice(), packProtocol(e.Protocol)))
	return nil
}

// conditional is how many of the owner's mappings with conditions there are so far.
func (w *wanted) conditional() (n int) {
	for _, ch := range w.chains {
		if ch.owner == w.owner {
			n++
		}
	}
	return n
}

// wantMapped has the sources of the mapping's connections looked at, if there is a SourceNATEntry for its address.
func (e PortEntry) wantMapped(w *wanted, key []byte) {
	f := familyOf(e.Addr)
	for _, other := range w.entries {
		s, ok := other.(SourceNATEntry)
		if !ok || s.Addr != e.Addr {
			continue
		}
		name := of(setMappedAll, f)
		if !s.All {
			name = of(setMapped, f)
			w.rule(w.neighbours(s.Subnet.Masked()))
		}
		if !w.has(w.inet.set(name), key) { // mappings of several host addresses lead to one port of the pod
			w.element(PortMap, name, element{key: key})
		}
		return
	}
}

func (w *wanted) has(s *set, key []byte) bool {
	for _, have := range w.elements {
		if have.set.same(s) && string(have.key) == string(key) {
			return true
		}
	}
	return false
}

func (SourceNATEntry) want(*wanted) error { return nil } // PortEntry.wantMapped has seen to it

func (e ForwardEntry) want(w *wanted) error {
	g := group{e.Subnet.Masked(), e.Link, e.Zone, e.Legacy}
	for _, r := range w.admitting(g) {
		w.rule(r)
	}
	members := w.inet.memberSet(g.setName())
	w.element(Forward, members.name, element{key: e.Addr.AsSlice()}).set = members
	if e.Admin != "" {
		w.rule(w.administered(e.Admin))
	}
	return nil
}

func isForward(e Entry) bool { return e.feature() == Forward }

func (e IngressEntry) want(w *wanted) error {
	f := familyOf(e.Addr)
	w.element(Forward, of(setGuarded, f), element{key: e.Addr.AsSlice()})
	if e.From != "" {
		w.element(Forward, of(setNear, f), element{key: pack(e.Addr.AsSlice(), packName(e.From))})
	}
	return nil
}

func (e IsolateEntry) want(w *wanted) error {
	w.rule(w.isolating())
	w.element(Isolation, setIsolated, element{key: packName(e.Port)})
	return nil
}

// portEntry is the mapping that an element of one of the maps of ports stands for.
func (e *element) portEntry() (p PortEntry, ok bool) {
	if len(e.set.value) != 2 {
		return PortEntry{}, false
	}
	key := e.key
	size := e.set.value[0].size()
	if e.set.key[0] != protocol {
		p.HostIP, _ = netip.AddrFromSlice(key[:size])
		key = key[size:]
	}
	p.Protocol, p.HostPort = key[0], uint16(key[4])<<8|uint16(key[5])
	p.Addr, _ = netip.AddrFromSlice(e.value[:size])
	p.Port = uint16(e.value[size])<<8 | uint16(e.value[size+1])
	return p, true
}
