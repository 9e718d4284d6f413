package explain

import (
	"bytes"
	"encoding/binary"
	"net"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// fdbEntry is an entry of a bridge's forwarding table.
type fdbEntry struct {
	mac  net.HardwareAddr
	port int
	vlan uint16
}

// vlan is a VLAN that a bridge's port is in.
type vlan struct {
	id   uint16
	pvid bool
}

// linux/neighbour.h.
const (
	neighborMAC    = 2 // NDA_LLADDR
	neighborVLAN   = 5 // NDA_VLAN
	neighborMaster = 9 // NDA_MASTER
)

// forwardingTable is that of a bridge.
func (s *space) forwardingTable(bridge int) []fdbEntry {
	if have, ok := s.fdb[bridge]; ok {
		return have
	}
	var a rawnl.Attrs
	a.Uint32(neighborMaster, uint32(bridge))
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = unix.AF_BRIDGE
	bodies, err := netutil.List(s.Namespace, "list the forwarding table", rawnl.Message{Type: unix.RTM_GETNEIGH, Flags: unix.NLM_F_DUMP, Body: append(b, a...)})
	if err != nil {
		return nil
	}
	var out []fdbEntry
	for _, b := range bodies {
		if len(b) < unix.SizeofNdMsg {
			continue
		}
		attrs := b[unix.SizeofNdMsg:]
		e := fdbEntry{mac: rawnl.Find(attrs, neighborMAC), port: int(nativeUint32(b[4:]))}
		if v := rawnl.Find(attrs, neighborVLAN); len(v) == 2 {
			e.vlan = binary.NativeEndian.Uint16(v)
		}
		if m := rawnl.Find(attrs, neighborMaster); len(m) == 4 && int(nativeUint32(m)) == bridge {
			out = append(out, e)
		}
	}
	if s.fdb == nil {
		s.fdb = map[int][]fdbEntry{}
	}
	s.fdb[bridge] = out
	return out
}

// vlansOf are the VLANs that a port is in.
func (s *space) vlansOf(port int) []vlan {
	if s.vlans == nil {
		s.vlans = map[int][]vlan{}
		bodies, _ := netutil.List(s.Namespace, "list VLANs", rtnl.GetVLANs())
		for _, b := range bodies {
			rtnl.ParseVLANs(b, func(port int, id uint16, pvid bool) { s.vlans[port] = append(s.vlans[port], vlan{id, pvid}) })
		}
	}
	return s.vlans[port]
}

// ports are a bridge's.
func (s *space) ports(bridge *link) (out []*link) {
	for _, l := range s.links {
		if l.Master == bridge.Index {
			out = append(out, l)
		}
	}
	return out
}

// portFor is the port behind which a MAC address is: by the forwarding table, else by who is at the other ends of the ports. open says that
// some port leads to where we cannot see.
func (w *world) portFor(bridge *link, mac net.HardwareAddr, vlanID uint16, from *link) (port, open *link) {
	s := bridge.space
	for _, e := range s.forwardingTable(bridge.Index) {
		if bytes.Equal(e.mac, mac) && (vlanID == 0 || e.vlan == 0 || e.vlan == vlanID) && s.links[e.port] != nil && e.port != bridge.Index {
			return s.links[e.port], nil
		}
	}
	for _, p := range s.ports(bridge) {
		if p == from {
			continue
		}
		other := w.peer(p)
		switch {
		case p.Kind == "veth" && other != nil && bytes.Equal(other.MAC, mac):
			return p, nil
		case p.Kind != "veth" || other == nil || other.Master != 0:
			open = p
		}
	}
	return nil, open
}
