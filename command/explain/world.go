package explain

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft/eval"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// world is the spaces that a packet may come through: the host's, those of its containers, and what they are linked to. Others that the machine may
// have, and that have the same addresses perhaps, are none of its.
type world struct {
	node   *node.Node
	host   *space
	spaces []*space // the host's first, containers' next
	others []*space // that are not known to be linked to any of them
}

// openWorld opens the namespaces of a snapshot.
func openWorld(n *node.Node) (*world, error) {
	current, err := netutil.Current()
	if err != nil {
		return nil, err
	}
	w := &world{node: n, host: &space{Namespace: current, host: true, number: rtnl.NoNamespace, name: "host"}}
	w.spaces = []*space{w.host}
	if err := w.host.load(); err != nil {
		w.close()
		return nil, err
	}
	names := namesOf(n)
	for _, ns := range n.Namespaces {
		opened, err := netutil.Open(ns.Path)
		if err != nil {
			continue // gone meanwhile
		}
		s := &space{Namespace: opened, number: ns.NSID, name: names[ns.Path], seen: ns}
		if s.name != "" {
			w.spaces = append(w.spaces, s)
			continue
		}
		s.name = "namespace " + ns.Path
		w.others = append(w.others, s)
	}
	w.connect()
	return w, nil
}

// namesOf are what people call sandboxes, by path.
func namesOf(n *node.Node) map[string]string {
	out := map[string]string{}
	for _, a := range n.Attachments {
		switch {
		case a.Sandbox == "":
		case a.Pod != "":
			out[a.Sandbox] = "pod " + a.Pod
		default:
			out[a.Sandbox] = "container " + short(a.ContainerID)
		}
	}
	return out
}

// short is as much of a container ID as people write.
func short(id string) string {
	const enough, long = 12, 32
	if len(id) < long {
		return id
	}
	return id[:enough]
}

// connect finds the spaces that are linked to the host, or to one that is. Containers are not looked behind: they are ends.
func (w *world) connect() {
	ends := len(w.spaces)
	for at := 0; at < len(w.spaces); at++ {
		s := w.spaces[at]
		if at > 0 && at < ends || !s.ready() {
			continue
		}
		for _, l := range s.links {
			if l.PeerNamespace != rtnl.NoNamespace {
				w.join(w.numberedOf(w.others, s, l.PeerNamespace))
			}
		}
	}
}

// join notes that a space is linked to the host.
func (w *world) join(s *space) {
	if s != nil {
		w.spaces = append(w.spaces, s)
		w.others = slices.DeleteFunc(w.others, func(o *space) bool { return o == s })
	}
}

func (w *world) close() {
	for _, s := range slices.Concat(w.spaces, w.others) {
		s.close()
	}
}

// peer is where a link's other end is, of a veth, or what it is made on; nil if it cannot be found.
func (w *world) peer(l *link) *link {
	s := l.space
	if l.PeerNamespace != rtnl.NoNamespace {
		s = w.numberedOf(w.spaces, l.space, l.PeerNamespace)
	}
	if s == nil || !s.ready() {
		return nil
	}
	return s.links[l.Peer]
}

// numberedOf is the one of the spaces that another knows by a number (ip-netns(8)); nil if there is none.
func (w *world) numberedOf(among []*space, of *space, number int) *space {
	for _, s := range among {
		if of == w.host {
			if s.number == number && s != of {
				return s
			}
			continue
		}
		body, failed, err := of.ask(rtnl.GetNSID(s.FD()))
		if err == nil && failed == 0 && rtnl.ParseNSID(body) == number {
			return s
		}
	}
	return nil
}

// siblings are links of the kind that are made on the same link.
func (w *world) siblings(l *link) (out []*link) {
	parent := w.peer(l)
	for _, s := range w.spaces {
		if parent == nil || !s.has(l.Kind) || !s.ready() {
			continue
		}
		for _, other := range s.links {
			if other != l && other.Kind == l.Kind && w.peer(other) == parent {
				out = append(out, other)
			}
		}
	}
	return out
}

// childFor is the link, made on another, that takes a frame which comes in there: one of the VLAN, or one of the MAC address or the address. Why says
// that nobody takes it.
func (w *world) childFor(l *link, p *eval.Packet, tag uint16) (child *link, why string) {
	if tag != 0 {
		for _, c := range l.space.links {
			if c.Kind == "vlan" && c.Child.ID == tag && w.peer(c) == l {
				return c, ""
			}
		}
		return nil, fmt.Sprintf("%s has no link for VLAN %d", l.Name, tag)
	}
	for _, c := range w.children(l) {
		if c.Kind == "macvlan" && len(p.DstMAC) == 6 && bytes.Equal(c.MAC, p.DstMAC) {
			return c, ""
		}
		if own, ok := c.space.at(p.Dst); c.Kind == "ipvlan" && ok && own == c {
			return c, ""
		}
	}
	return nil, ""
}

// children are the links that are made on one, and have addresses of their own on its segment.
func (w *world) children(l *link) (out []*link) {
	for _, s := range w.spaces {
		if s.seen != nil && !s.has("macvlan") && !s.has("ipvlan") || !s.ready() {
			continue
		}
		for _, c := range s.links {
			if (c.Kind == "macvlan" || c.Kind == "ipvlan") && w.peer(c) == l {
				out = append(out, c)
			}
		}
	}
	return out
}

// owner is the space that an address is in: the host's before containers', and those before others'; nil if nobody has it.
func (w *world) owner(addr netip.Addr) *space {
	if addr.IsLoopback() {
		return w.host
	}
	for _, s := range w.spaces {
		if s.seen != nil && !slices.ContainsFunc(s.seen.Links, func(l *node.Link) bool {
			return slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr() == addr })
		}) {
			continue
		}
		if _, ok := s.at(addr); ok {
			return s
		}
	}
	return nil
}

// sandbox is the space of a path; nil if there is none.
func (w *world) sandbox(path string) *space {
	for _, s := range w.spaces {
		if !s.host && s.Path() == path && path != "" && s.ready() {
			return s
		}
	}
	return nil
}

// nodeAt is the name of the node that has an address on an overlay's underlay; empty if there is none.
func (w *world) nodeAt(addr netip.Addr) string {
	for _, o := range w.node.Overlays {
		for i := range o.Peers {
			if slices.Contains(o.Peers[i].Underlay, addr) {
				return o.Peers[i].Name + " of network " + o.Network
			}
		}
	}
	return ""
}

// downTo is the link of a space that leads to a container with an address, and is down; nil if there is none.
func (w *world) downTo(s *space, addr netip.Addr) *link {
	owner := w.owner(addr)
	if owner == nil || owner == s {
		return nil
	}
	for _, l := range s.links {
		if l.broken() == "" {
			continue
		}
		if peer := w.peer(l); peer != nil && peer.space == owner {
			return l
		}
	}
	return nil
}
