package rtnl

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// Neighbor is an entry of a link's neighbour table: the MAC address that an IP address has.
type Neighbor struct {
	Link     int
	Addr     netip.Addr
	MAC      net.HardwareAddr
	State    uint16 // NUD_
	Protocol uint8  // RTPROT_, who made it; kernels before 5.0 do not keep it
}

// FDB is an entry of a VXLAN device's forwarding table: the host that a MAC address is behind.
type FDB struct {
	Link   int
	MAC    net.HardwareAddr
	Remote netip.Addr
	Via    int    // index of the link on the way to Remote; 0: that of the route there
	Port   uint16 // UDP; 0: that of the device
	VNI    uint32 // 0: that of the device
	// External marks those that a program keeps up to date by itself (NTF_EXT_LEARNED); entries made by hand do not have it.
	External bool
	State    uint16 // NUD_
}

// ForAll is the MAC address of the entries by which frames go that are for all, or for nobody known.
var ForAll = net.HardwareAddr{0, 0, 0, 0, 0, 0}

// What linux/neighbour.h has beyond package unix.
const (
	headerOfNeighbor  = unix.SizeofNdMsg
	neighborDst       = 1  // NDA_DST
	neighborMAC       = 2  // NDA_LLADDR
	neighborPort      = 6  // NDA_PORT
	neighborVNI       = 7  // NDA_VNI
	neighborVia       = 8  // NDA_IFINDEX
	neighborProtocol  = 12 // NDA_PROTOCOL
	neighborFlagSelf  = 0x02
	neighborFlagExt   = 0x10 // NTF_EXT_LEARNED
	neighborPermanent = 0x80 // NUD_PERMANENT
	neighborNoARP     = 0x40 // NUD_NOARP
)

// Permanent tells whether the kernel would never forget or change the entry by itself.
func (f *FDB) Permanent() bool { return f.State&neighborPermanent != 0 }

// Permanent tells whether the kernel would never forget or change the entry by itself.
func (n *Neighbor) Permanent() bool { return n.State&neighborPermanent != 0 }

func neighborBody(family byte, link int, state uint16, flags byte, attrs rawnl.Attrs) []byte {
	b := make([]byte, headerOfNeighbor, headerOfNeighbor+len(attrs))
	b[0] = family
	binary.NativeEndian.PutUint32(b[4:], uint32(link))
	binary.NativeEndian.PutUint16(b[8:], state)
	b[10] = flags
	return append(b, attrs...)
}

// SetNeighbor adds a permanent entry, or replaces one.
func SetNeighbor(n Neighbor) rawnl.Message {
	var a rawnl.Attrs
	a.Bytes(neighborDst, n.Addr.AsSlice())
	a.Bytes(neighborMAC, n.MAC)
	if n.Protocol != 0 {
		a.Uint8(neighborProtocol, n.Protocol)
	}
	return rawnl.Message{
		Type: unix.RTM_NEWNEIGH, Flags: unix.NLM_F_CREATE | unix.NLM_F_REPLACE,
		Body: neighborBody(family(n.Addr), n.Link, neighborPermanent, 0, a),
	}
}

// DelNeighbor removes an entry. The kernel answers unix.ENOENT if there is none.
func DelNeighbor(n Neighbor) rawnl.Message {
	var a rawnl.Attrs
	a.Bytes(neighborDst, n.Addr.AsSlice())
	return rawnl.Message{Type: unix.RTM_DELNEIGH, Body: neighborBody(family(n.Addr), n.Link, 0, 0, a)}
}

// GetNeighbor asks for the entry of an address.
func GetNeighbor(link int, addr netip.Addr) rawnl.Message {
	var a rawnl.Attrs
	a.Bytes(neighborDst, addr.AsSlice())
	return rawnl.Message{Type: unix.RTM_GETNEIGH, Body: neighborBody(family(addr), link, 0, 0, a)}
}

// GetNeighbors asks for all entries of a link, of the family of like.
func GetNeighbors(link int, like netip.Addr) rawnl.Message {
	var a rawnl.Attrs
	a.Uint32(neighborVia, uint32(link))
	return rawnl.Message{Type: unix.RTM_GETNEIGH, Flags: unix.NLM_F_DUMP, Body: neighborBody(family(like), 0, 0, 0, a)}
}

// ParseNeighbor reads an answer to GetNeighbor or GetNeighbors.
func ParseNeighbor(b []byte) (n Neighbor, ok bool) {
	if len(b) < headerOfNeighbor {
		return n, false
	}
	n.Link, n.State = int(binary.NativeEndian.Uint32(b[4:])), binary.NativeEndian.Uint16(b[8:])
	rawnl.Each(b[headerOfNeighbor:], func(kind uint16, v []byte) {
		switch kind {
		case neighborDst:
			n.Addr = addr(v, n.Addr)
		case neighborMAC:
			n.MAC = append(net.HardwareAddr(nil), v...)
		case neighborProtocol:
			n.Protocol = byteOf(v)
		}
	})
	return n, n.Addr.IsValid()
}

func (f *FDB) attrs() (a rawnl.Attrs) {
	a.Bytes(neighborDst, f.Remote.AsSlice())
	a.Bytes(neighborMAC, f.MAC)
	if f.Port != 0 {
		a.Bytes(neighborPort, binary.BigEndian.AppendUint16(nil, f.Port))
	}
	for kind, n := range map[uint16]uint32{neighborVNI: f.VNI, neighborVia: uint32(f.Via)} {
		if n != 0 {
			a.Uint32(kind, n)
		}
	}
	return a
}

func (f *FDB) flags() byte {
	if f.External {
		return neighborFlagSelf | neighborFlagExt
	}
	return neighborFlagSelf
}

// SetFDB adds an entry, or has the one of the MAC address lead elsewhere.
func SetFDB(f FDB) rawnl.Message {
	return rawnl.Message{
		Type: unix.RTM_NEWNEIGH, Flags: unix.NLM_F_CREATE | unix.NLM_F_REPLACE,
		Body: neighborBody(unix.AF_BRIDGE, f.Link, neighborPermanent|neighborNoARP, f.flags(), f.attrs()),
	}
}

// AppendFDB adds one of the hosts to which all frames for a MAC address go. The kernel answers unix.EEXIST if it is one already.
func AppendFDB(f FDB) rawnl.Message {
	m := SetFDB(f)
	m.Flags = unix.NLM_F_CREATE | unix.NLM_F_APPEND
	return m
}

// DelFDB removes an entry. The kernel answers unix.ENOENT if there is none.
func DelFDB(f FDB) rawnl.Message {
	return rawnl.Message{Type: unix.RTM_DELNEIGH, Body: neighborBody(unix.AF_BRIDGE, f.Link, 0, f.flags(), f.attrs())}
}

// GetFDB asks for the entry of a MAC address.
func GetFDB(link int, mac net.HardwareAddr) rawnl.Message {
	var a rawnl.Attrs
	a.Bytes(neighborMAC, mac)
	return rawnl.Message{Type: unix.RTM_GETNEIGH, Body: neighborBody(unix.AF_BRIDGE, link, 0, neighborFlagSelf, a)}
}

// GetFDBs asks for all entries of a VXLAN device.
func GetFDBs(link int) rawnl.Message {
	return rawnl.Message{Type: unix.RTM_GETNEIGH, Flags: unix.NLM_F_DUMP, Body: neighborBody(unix.AF_BRIDGE, link, 0, 0, nil)}
}

// ParseFDB reads an answer to GetFDB or GetFDBs. An entry without a remote host is that of the device itself.
func ParseFDB(b []byte) (f FDB, ok bool) {
	if len(b) < headerOfNeighbor || b[0] != unix.AF_BRIDGE {
		return f, false
	}
	f.Link, f.State, f.External = int(binary.NativeEndian.Uint32(b[4:])), binary.NativeEndian.Uint16(b[8:]), b[10]&neighborFlagExt != 0
	rawnl.Each(b[headerOfNeighbor:], func(kind uint16, v []byte) {
		switch kind {
		case neighborDst:
			f.Remote = addr(v, f.Remote)
		case neighborPort:
			if len(v) == 2 {
				f.Port = binary.BigEndian.Uint16(v)
			}
		case neighborVNI:
			f.VNI = number(v)
		case neighborVia:
			f.Via = int(number(v))
		case neighborMAC:
			f.MAC = append(net.HardwareAddr(nil), v...)
		}
	})
	return f, len(f.MAC) == 6
}
