package node

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// This file finds the links of attachments: on the host by their alias and name, in sandboxes by what is known of them.

// takeLinks gives attachments the links of the host that say whose they are: by an alias, as cnibox gives them, or by an alternative name.
func (r *reader) takeLinks() {
	cut := r.cutNames()
	for _, l := range r.node.Host.Links {
		switch {
		case l.Kind == "ifb" && strings.HasPrefix(l.Name, owner.IFBPrefix):
			if a := r.ofAlias(l, cut); a != nil {
				a.sources.ifb = l
			}
		case strings.HasPrefix(l.Name, owner.LinkPrefix):
			if a := r.ofAlias(l, cut); a != nil && (a.HostLink == nil || l.Name == a.Owner().LinkName()) {
				a.HostLink = l
			}
		}
		for _, name := range l.AltNames {
			if a := r.byLink[name]; a != nil {
				a.sources.returned = l
			}
		}
	}
}

// cutNames are the attachments whose names an alias does not tell whole, by what their devices for limits are called.
func (r *reader) cutNames() map[string]*Attachment {
	out := map[string]*Attachment{}
	for o, a := range r.all {
		out[o.IFBName()] = a
	}
	return out
}

// ofAlias is the attachment that a link of the host says it belongs to; nil if it says nothing.
func (r *reader) ofAlias(l *Link, byIFB map[string]*Attachment) *Attachment {
	if _, ok := parseOwner(l.Alias); !ok {
		return nil
	}
	if a := byIFB[l.Name]; a != nil {
		return a
	}
	return r.ofText(l.Name, l.Alias)
}

// spot is a link in a sandbox.
type spot struct {
	ns   *Namespace
	link *Link
}

// atlas is sandboxes' links by what they are found by.
type atlas struct {
	byInode map[uint64]*Namespace
	byNSID  map[int]*Namespace
	byAlias map[string][]spot
	byMark  map[string]spot // alternative name
	byAddr  map[netip.Addr][]spot
}

func (r *reader) survey() *atlas {
	m := &atlas{map[uint64]*Namespace{}, map[int]*Namespace{}, map[string][]spot{}, map[string]spot{}, map[netip.Addr][]spot{}}
	for _, ns := range r.node.Namespaces {
		m.byInode[ns.Inode] = ns
		if ns.NSID != rtnl.NoNamespace {
			m.byNSID[ns.NSID] = ns
		}
		for _, l := range ns.Links {
			at := spot{ns, l}
			if l.Alias != "" {
				m.byAlias[l.Alias] = append(m.byAlias[l.Alias], at)
			}
			for _, name := range l.AltNames {
				m.byMark[name] = at
			}
			for _, p := range l.Addresses {
				m.byAddr[p.Addr()] = append(m.byAddr[p.Addr()], at)
			}
		}
	}
	return m
}

// locate finds each attachment's sandbox and the link in it.
func (r *reader) locate() {
	m := r.survey()
	for _, a := range r.node.Attachments {
		if !r.behindHostLink(a, m) && !r.marked(a, m) && !r.byPath(a, m) {
			r.byAddress(a, m)
		}
		r.describe(a)
	}
}

// behindHostLink follows a veth of the host to its other end.
func (r *reader) behindHostLink(a *Attachment, m *atlas) bool {
	l := a.HostLink
	if l == nil || l.Kind != "veth" || l.PeerNSID == rtnl.NoNamespace {
		return false
	}
	ns := m.byNSID[l.PeerNSID]
	if ns == nil { // the kernel would have removed the link if it were gone
		a.sources.unseen, a.NSID = true, l.PeerNSID
		return true
	}
	a.at(ns, ns.At(l.Peer))
	return true
}

// marked finds a link that says whose it is.
func (r *reader) marked(a *Attachment, m *atlas) bool {
	const aliasLimit = 255 // IFALIASZ, less its final NUL
	o := a.Owner()
	if at, ok := m.byMark[o.LinkName()]; ok {
		a.at(at.ns, at.link)
		return true
	}
	var found *spot
	for _, at := range m.byAlias[o.Text(aliasLimit)] {
		switch {
		case at.link.Name == o.LinkName() || !at.near(): // another node's, in a namespace of this machine
		case found != nil:
			return false // more than one
		default:
			found = &at
		}
	}
	if found != nil {
		a.at(found.ns, found.link)
	}
	return found != nil
}

// byPath looks where a runtime said that the sandbox is. A process's number may be another's by now, so what leads through /proc must have a link that fits.
func (r *reader) byPath(a *Attachment, m *atlas) bool {
	for _, path := range a.sources.netns {
		inode, ok := namespaceAt(path)
		ns := m.byInode[inode]
		if !ok || ns == nil {
			continue
		}
		l := ns.Named(a.IfName)
		if strings.HasPrefix(path, "/proc/") && (l == nil || !a.fits(l)) {
			continue
		}
		a.at(ns, l)
		return true
	}
	return false
}

// fits tells whether a link has one of the attachment's addresses, or none is known.
func (a *Attachment) fits(l *Link) bool {
	known := a.known()
	return len(known) == 0 || slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return slices.Contains(known, p.Addr()) })
}

// known are the addresses that anything but the kernel tells of.
func (a *Attachment) known() []netip.Addr {
	out := slices.Clone(a.Reserved)
	for _, p := range a.Result {
		out = append(out, p.Addr())
	}
	for _, h := range a.sources.held {
		for _, e := range h.Entries {
			if addr := addressOf(e); addr.IsValid() {
				out = append(out, addr)
			}
		}
		for _, p := range h.Ports {
			out = append(out, p.Addr)
		}
	}
	return out
}

// byAddress looks for the one link that has an address of the attachment, its name, and to do with this host. Other nodes may be in namespaces of the
// same machine, with the same addresses. If there are several, as of networks with one subnet, one of them may be it: then the attachment counts as
// living, and nothing more is told.
func (r *reader) byAddress(a *Attachment, m *atlas) bool {
	var found *spot
	for _, addr := range a.known() {
		for _, at := range m.byAddr[addr] {
			switch {
			case a.IfName != "" && at.link.Name != a.IfName || !at.near():
			case found != nil && *found != at:
				a.sources.unseen = true
				return true
			default:
				found = &at
			}
		}
	}
	if found == nil {
		return false
	}
	a.at(found.ns, found.link)
	return true
}

// near tells whether a link has to do with this host: it leads there, or to nowhere else.
func (s spot) near() bool {
	return s.link.PeerNSID == rtnl.NoNamespace && s.link.Peer == 0 || s.leadsHere()
}

func (s spot) leadsHere() bool {
	return s.link.PeerNSID != rtnl.NoNamespace && s.link.PeerNSID == s.ns.hostNSID
}

// at says where an attachment is; the link may be nil. Of a sandbox that could not be read nothing is told but that it is there.
func (a *Attachment) at(ns *Namespace, l *Link) {
	a.sources.unseen = ns.byIndex == nil
	a.sources.sandbox, a.Link, a.NSID, a.Sandbox = ns, l, ns.NSID, ns.Path
	if l != nil && a.IfName == "" {
		a.IfName = l.Name
	}
}

// describe fills in what follows from the links.
func (r *reader) describe(a *Attachment) {
	host := r.node.Host
	if a.Sandbox == "" && len(a.sources.netns) > 0 {
		a.Sandbox = a.sources.netns[0]
	}
	if a.Link != nil {
		for _, p := range a.Link.Addresses {
			if !p.Addr().IsLinkLocalUnicast() {
				a.Addresses = append(a.Addresses, p)
			}
		}
		if at := (spot{a.sources.sandbox, a.Link}); at.leadsHere() {
			switch other := host.At(a.Link.Peer); {
			case other == nil:
			case a.Link.Kind != "veth" || a.handedOver(): // of a pair that somebody has made to hand an end over, the other is not ours
				a.Parent = other.Name
			default:
				a.HostLink = other
			}
		}
	}
	if a.HostLink != nil {
		if master := host.At(a.HostLink.Master); master != nil {
			a.Bridge = master.Name
		}
	}
	a.Type = r.typeOf(a)
}

// typeOf is the plugin that made the interface, by its configuration, or by what it has made.
func (r *reader) typeOf(a *Attachment) string {
	if main := r.confOf(a).main(); main != "" {
		return main
	}
	switch {
	case a.handedOver():
		return "host-device"
	case a.HostLink != nil && a.Bridge != "":
		return "bridge"
	case a.HostLink != nil && a.HostLink.Kind == "veth":
		return "ptp"
	case a.Link == nil:
		return ""
	case a.Link.Kind == "tun":
		return "tap"
	case slices.Contains([]string{"macvlan", "ipvlan", "vlan", "dummy"}, a.Link.Kind):
		return a.Link.Kind
	}
	return ""
}

// handedOver tells whether the link is a device of the host's that bears the mark of role host-device.
func (a *Attachment) handedOver() bool {
	return a.Link != nil && slices.Contains(a.Link.AltNames, a.Owner().LinkName())
}

// confOf is the configuration that an attachment was made by, or the network's as it is now; nil if neither is known.
func (r *reader) confOf(a *Attachment) *conf {
	if a.sources.conf != nil {
		return a.sources.conf
	}
	return r.confs[a.Network]
}
