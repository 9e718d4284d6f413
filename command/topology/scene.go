package topology

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/command/node"
)

// scene is what is to be drawn, however it is drawn.
type scene struct {
	name    string // of the node
	uplinks []*node.Link
	tunnels []*tunnel
	groups  []*group
	notes   []node.Finding // of no attachment
}

// tunnel is a VXLAN device, or an overlay whose device is missing.
type tunnel struct {
	name, title string
	device      *node.Link // nil: missing
	port        string     // bridge that it is a port of
	underlay    *node.Link // that it sends from; nil: not known
	peers       []peer
}

// peer is another node. Its lines are its addresses, and the subnets of its pods.
type peer struct {
	name           string
	addrs, subnets string
}

// group is attachments that have something in common: a bridge, that the host routes to them, a link that they are made on, or just their network.
type group struct {
	kind    groupKind
	name    string     // of the bridge, of the link, or of the network
	link    *node.Link // the bridge, or what else has ports; nil otherwise
	members []*node.Attachment
	others  []string // ports of the bridge that are nobody's
}

type groupKind int

const (
	bridged groupKind = iota // ports of one bridge, or of a link like one: Open vSwitch, a VRF
	routed                   // behind links of the host
	child                    // on a link of the host, beside the host
	alone                    // with nothing on the host
)

// title says what a group is.
func (g *group) title() string {
	switch g.kind {
	case bridged:
		return g.name
	case routed:
		return "routes to " + g.name
	case child:
		return "on " + g.name
	default:
		return g.name
	}
}

// detail says more of it: addresses, and the networks of its members where the title does not.
func (g *group) detail() string {
	var words []string
	switch g.kind {
	case bridged:
		words = append(words, kindOf(g.link))
		words = append(words, addressesOf(g.link)...)
	case routed:
		words = append(words, "a link for each pod")
	case child:
		words = append(words, "beside the host")
	default:
		words = append(words, "nothing on the host")
	}
	if g.kind == bridged || g.kind == child {
		if networks := g.networks(); len(networks) > 0 {
			words = append(words, "network "+strings.Join(networks, ", "))
		}
	}
	return strings.Join(words, " · ")
}

func (g *group) networks() (out []string) {
	for _, a := range g.members {
		if !slices.Contains(out, a.Network) {
			out = append(out, a.Network)
		}
	}
	return out
}

// newScene sorts what there is.
func newScene(name string, n *node.Node) *scene {
	s := &scene{name: name, notes: n.Findings}
	taken := map[*node.Link]bool{}
	for _, l := range n.Host.Links {
		if l.Kind == "bridge" || slices.ContainsFunc(n.Attachments, func(a *node.Attachment) bool { return a.Bridge == l.Name }) {
			s.groups = append(s.groups, &group{kind: bridged, name: l.Name, link: l})
			taken[l] = true
		}
	}
	s.addTunnels(n, taken)
	for _, a := range n.Attachments {
		if a.State != node.Gone {
			g := s.groupOf(a)
			g.members = append(g.members, a)
		}
		taken[a.HostLink] = true
	}
	for _, l := range n.Host.Links {
		if taken[l] || l.Name == "lo" || l.Kind == "ifb" {
			continue
		}
		if g := s.bridge(n.Host.At(l.Master)); g != nil && len(l.Addresses) == 0 {
			g.others = append(g.others, l.Name)
			continue
		}
		if l.Up || len(l.Addresses) > 0 {
			s.uplinks = append(s.uplinks, l)
		}
	}
	s.groups = slices.DeleteFunc(s.groups, func(g *group) bool { return len(g.members)+len(g.others) == 0 && !g.link.Up })
	slices.SortFunc(s.groups, func(a, b *group) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name)) })
	return s
}

func (s *scene) bridge(l *node.Link) *group {
	for _, g := range s.groups {
		if l != nil && g.link == l {
			return g
		}
	}
	return nil
}

// groupOf is the group that an attachment belongs to. One of which no link is there goes to others of its network.
func (s *scene) groupOf(a *node.Attachment) *group {
	kind, name := alone, a.Network
	switch {
	case a.Bridge != "":
		kind, name = bridged, a.Bridge
	case a.HostLink != nil:
		kind = routed
	case a.Parent != "":
		kind, name = child, a.Parent
	}
	for _, g := range s.groups {
		if g.kind == kind && g.name == name || kind == alone && a.Link == nil && slices.Contains(g.networks(), a.Network) {
			return g
		}
	}
	g := &group{kind: kind, name: name}
	s.groups = append(s.groups, g)
	return g
}

// addTunnels takes over the overlays, and VXLAN devices of others.
func (s *scene) addTunnels(n *node.Node, taken map[*node.Link]bool) {
	for _, o := range n.Overlays {
		t := &tunnel{name: o.Device, title: "VXLAN " + strconv.Itoa(int(o.VNI)) + " · network " + o.Network, device: n.Host.Named(o.Device), port: o.Bridge}
		if t.device != nil {
			taken[t.device] = true
		}
		t.underlay = holding(n.Host, o.Underlay)
		for _, p := range o.Peers {
			if !slices.Contains(p.Underlay, o.Underlay) { // the list may have this node in it
				t.peers = append(t.peers, peer{p.Name, words(p.Underlay), words(p.Subnets)})
			}
		}
		s.tunnels = append(s.tunnels, t)
	}
	for _, l := range n.Host.Links {
		if l.VXLAN == nil || taken[l] {
			continue
		}
		taken[l] = true
		t := &tunnel{name: l.Name, title: "VXLAN " + strconv.Itoa(int(l.VXLAN.VNI)), device: l, underlay: holding(n.Host, l.VXLAN.Local)}
		if master := n.Host.At(l.Master); master != nil {
			t.port = master.Name
		}
		s.tunnels = append(s.tunnels, t)
	}
}

// holding is the link that has an address; nil if none has.
func holding(ns *node.Namespace, addr netip.Addr) *node.Link {
	for _, l := range ns.Links {
		if addr.IsValid() && slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr() == addr }) {
			return l
		}
	}
	return nil
}

// words are values, apart by blanks.
func words[T interface{ String() string }](list []T) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return strings.Join(out, " ")
}

// addressesOf are a link's addresses, without link-local ones.
func addressesOf(l *node.Link) (out []string) {
	for _, p := range l.Addresses {
		if !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.String())
		}
	}
	return out
}

// addressesAt are what a pod is shown with: its addresses, or those that are kept for it.
func addressesAt(a *node.Attachment) (out []string) {
	for _, p := range a.Addresses {
		out = append(out, p.String())
	}
	if len(out) == 0 {
		for _, addr := range a.Addrs() {
			out = append(out, addr.String())
		}
	}
	return out
}

// kindOf is what a link is, in a word.
func kindOf(l *node.Link) string {
	switch {
	case l.Kind == "":
		return "NIC"
	case l.VLAN != 0:
		return "VLAN " + strconv.Itoa(l.VLAN)
	}
	return l.Kind
}
