package explain

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nft/eval"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// transmit sends a packet to a neighbour by a link.
func (w *walker) transmit(l *link, nextHop netip.Addr) hop {
	return func() (hop, error) {
		s := l.space
		if why := l.broken(); why != "" {
			return w.drop(w.step(s, "link", "%s", l.Name), why)
		}
		if w.outer == nil && (w.mtu == 0 || l.MTU < w.mtu) {
			w.mtu = l.MTU
		}
		w.p.SrcMAC, w.p.DstMAC = l.MAC, nil
		if l.Flags&(unix.IFF_NOARP|unix.IFF_POINTOPOINT) == 0 {
			f := w.world.neighbor(l, nextHop)
			w.p.DstMAC = f.mac
			if f.mac == nil && !f.open {
				return w.drop(w.step(s, "link", "%s", l.Name), fmt.Sprintf("nobody there has the address %s", nextHop))
			}
		}
		return w.frame(l), nil
	}
}

// frame sends a frame by a link.
func (w *walker) frame(l *link) hop {
	return func() (hop, error) {
		s := l.space
		if why := l.broken(); why != "" {
			return w.drop(w.step(s, "link", "%s", l.Name), why)
		}
		if ok, err := w.filterAt(l, true); !ok || err != nil {
			return nil, err
		}
		switch l.Kind {
		case "veth":
			return w.throughVeth(l)
		case "bridge":
			return w.bridgeOut(l)
		case "vxlan":
			return w.encapsulate(l)
		case "macvlan", "ipvlan":
			return w.toSibling(l)
		case "vlan":
			parent := w.world.peer(l)
			if parent == nil {
				break
			}
			w.step(s, "link", "%s: tagged with VLAN %d, on %s", l.Name, l.Child.ID, parent.Name)
			w.crossed(s, parent.space)
			w.tag = l.Child.ID
			return w.frame(parent), nil
		case "dummy":
			return w.drop(w.step(s, "link", "%s", l.Name), "a dummy leads nowhere")
		case "tun":
			step := w.step(s, "link", "%s: to the program that has it open", l.Name)
			w.end(Unknown, s.name, fmt.Sprintf("UNKNOWN from step %d on: a program takes the packet from %s", step.Number, l.Name))
			return nil, nil
		}
		w.step(s, "link", "leaves by %s", l.Name)
		w.end(Leaves, s.name, "leaves the node by "+l.Name+": "+describe(w.p))
		return nil, nil
	}
}

func (w *walker) throughVeth(l *link) (hop, error) {
	peer := w.world.peer(l)
	if peer == nil {
		w.step(l.space, "link", "%s: its other end is in a namespace that cannot be found", l.Name)
		w.end(Leaves, l.space.name, "leaves by "+l.Name+" to a namespace that cannot be found: "+describe(w.p))
		return nil, nil
	}
	port := ""
	if master := peer.space.links[peer.Master]; master != nil {
		port = " (port of " + master.Name + ")"
	}
	w.step(l.space, "link", "%s -> %s: %s%s", l.Name, peer.space.name, peer.Name, port)
	w.crossed(l.space, peer.space)
	return w.receive(peer), nil
}

// toSibling is a frame by a link that is made on another: to one that is made on the same, or out by that.
func (w *walker) toSibling(l *link) (hop, error) {
	parent := w.world.peer(l)
	for _, other := range w.world.siblings(l) {
		s := other.space
		if own, ok := s.at(w.p.Dst); !ok || own != other {
			continue
		}
		w.step(l.space, "link", "%s -> %s: %s, on the same %s", l.Name, s.name, other.Name, parent.Name)
		if why := other.broken(); why != "" {
			return w.drop(w.last(), other.Name+": "+why)
		}
		w.crossed(l.space, s)
		w.p.DstMAC = nil
		return w.receive(other), nil
	}
	if parent == nil {
		w.step(l.space, "link", "leaves by %s", l.Name)
		w.end(Leaves, l.space.name, "leaves by "+l.Name+": "+describe(w.p))
		return nil, nil
	}
	w.step(l.space, "link", "%s: on %s", l.Name, parent.Name)
	w.crossed(l.space, parent.space)
	return w.frame(parent), nil
}

// encapsulate puts the packet into one to the VXLAN device's remote host (RFC 7348).
func (w *walker) encapsulate(l *link) (hop, error) {
	s := l.space
	v, _ := rtnl.ParseVXLAN(l.body)
	remote, why := s.remoteOf(l, &v, w.p)
	if why != "" {
		return w.drop(w.step(s, "tunnel", "%s (VNI %d)", l.Name, v.VNI), why)
	}
	step := w.step(s, "tunnel", "%s (VNI %d): the frame goes to %s port %d, in UDP", l.Name, v.VNI, remote, v.Port)
	if node := w.world.nodeAt(remote); node != "" {
		step.note("that is node %s", node)
	}
	const headerFlags = 0x08 // VXLAN_HF_VNI
	inner := w.p
	w.outer = append(w.outer, &tunnelled{inner, v.VNI, v.Port})
	w.p = &eval.Packet{
		Src: v.Local, Dst: remote, Proto: unix.IPPROTO_UDP, DstPort: v.Port,
		Payload: binary.BigEndian.AppendUint32([]byte{headerFlags, 0, 0, 0}, v.VNI<<8),
	}
	return w.send(s), nil
}

// remoteOf is the host behind which a MAC address is.
func (s *space) remoteOf(l *link, v *rtnl.VXLAN, p *eval.Packet) (remote netip.Addr, why string) {
	if len(p.DstMAC) == 6 {
		body, failed, err := s.ask(rtnl.GetFDB(l.Index, p.DstMAC))
		if err == nil && failed == 0 {
			if f, ok := rtnl.ParseFDB(body); ok && f.Remote.IsValid() {
				return f.Remote, ""
			}
		}
	}
	body, failed, err := s.ask(rtnl.GetFDB(l.Index, rtnl.ForAll))
	if err == nil && failed == 0 {
		if f, ok := rtnl.ParseFDB(body); ok && f.Remote.IsValid() {
			return f.Remote, ""
		}
	}
	if v.Group.IsValid() {
		return v.Group, ""
	}
	if len(p.DstMAC) == 6 {
		return remote, fmt.Sprintf("there is no forwarding entry for %s", p.DstMAC)
	}
	return remote, "there is no neighbour entry for the next hop"
}

// decapsulate takes a packet out of a tunnel's.
func (w *walker) decapsulate(s *space) (hop, error) {
	inner := w.outer[len(w.outer)-1]
	for _, l := range s.links {
		v, ok := rtnl.ParseVXLAN(l.body)
		if !ok || v.VNI != inner.vni || v.Port != w.p.DstPort || v.Port != inner.port {
			continue
		}
		w.outer = w.outer[:len(w.outer)-1]
		w.p = inner.p
		w.step(s, "tunnel", "%s (VNI %d): takes the frame out", l.Name, v.VNI)
		if why := l.broken(); why != "" {
			return w.drop(w.last(), l.Name+": "+why)
		}
		w.p.Mark, w.p.NoMark = 0, false
		return w.receive(l), nil
	}
	step := w.step(s, "tunnel", "%s", describe(w.p))
	return w.drop(step, fmt.Sprintf("there is no tunnel with VNI %d on port %d", inner.vni, w.p.DstPort))
}
