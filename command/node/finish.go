package node

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/cnibox/cnibox/netutil/nft"
)

// finish puts together what is told of each attachment, judges it, and sorts them.
func (r *reader) finish() {
	for _, a := range r.node.Attachments {
		if r.confOf(a) == nil && slices.ContainsFunc(r.node.Overlays, func(o *Overlay) bool { return o.Network == a.Network }) {
			a.Type = "vxlan"
		}
		a.Ports = portsOf(a, r.confOf(a))
		a.Limits = r.limitsOf(a)
		a.Rules = rulesOf(a)
		r.judge(a)
		a.State = a.state()
	}
	slices.SortFunc(r.node.Attachments, func(a, b *Attachment) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.ContainerID, b.ContainerID), cmp.Compare(a.IfName, b.IfName))
	})
}

// addressOf is the address of a pod that an entry is about; the zero Addr if it is about none.
func addressOf(e nft.Entry) netip.Addr {
	switch e := e.(type) {
	case nft.MasqueradeEntry:
		return e.Addr
	case nft.PortEntry:
		return e.Addr
	case nft.ForwardEntry:
		return e.Addr
	case nft.AddressCheckEntry:
		if !e.Addr.IsLinkLocalUnicast() {
			return e.Addr
		}
	}
	return netip.Addr{}
}

// portsOf are the ports that the packet filter leads to an attachment; where it knows of none, those that the runtime asked for, if a plugin of the
// list was to make them.
func portsOf(a *Attachment, c *conf) (out []*Port) {
	for _, h := range a.sources.held {
		for _, p := range h.Ports {
			port := &Port{Protocol: nft.ProtocolName(p.Protocol), HostIP: p.HostIP, HostPort: p.HostPort, Addr: p.Addr, Port: p.Port}
			for _, c := range p.Conditions {
				not := ""
				if c.Negate {
					not = "not "
				}
				port.Conditions = append(port.Conditions, not+c.Key+" "+c.Value)
			}
			out = append(out, port)
		}
	}
	if len(out) == 0 && c.has("portmap") {
		for _, m := range a.sources.asked {
			host, _ := netip.ParseAddr(m.HostIP)
			out = append(out, &Port{Protocol: cmp.Or(m.Protocol, "tcp"), HostIP: host, HostPort: uint16(m.HostPort), Port: uint16(m.ContainerPort)})
		}
	}
	slices.SortFunc(out, func(a, b *Port) int {
		return cmp.Or(cmp.Compare(a.HostPort, b.HostPort), cmp.Compare(a.Protocol, b.Protocol), a.HostIP.Compare(b.HostIP), a.Addr.Compare(b.Addr))
	})
	return out
}

// rulesOf are the features that an attachment has in the packet filter.
func rulesOf(a *Attachment) (out []Rules) {
	for _, h := range a.sources.held {
		out = append(out, Rules{h.Feature.String(), h.Elements, h.Missing})
	}
	return out
}
