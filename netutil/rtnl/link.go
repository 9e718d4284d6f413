// Package rtnl is the part of rtnetlink(7) that every attachment needs: requests to be sent together by package rawnl, and
// their answers. They are plain bytes on both sides, without a library.
package rtnl

import (
	"encoding/binary"
	"net"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// Link is a network interface as the kernel tells of it.
type Link struct {
	Index, Master int
	Peer          int // IFLA_LINK, in that one's namespace: of a veth the other end, of a child the link that it is made on
	Name, Alias   string
	Kind          string // "veth", "bridge"; empty for hardware
	MAC           net.HardwareAddr
	MTU           int    // bytes
	Flags         uint32 // IFF_
	OperState     uint8  // IF_OPER_
	Promisc       uint32 // how often it was asked for
	TxQLen        int    // packets
	Group         uint32

	Child             Child
	VLANFiltering     bool   // of a bridge
	Hairpin, Isolated bool   // of a bridge's port
	NeighSuppress     Switch // of a bridge's port, see Change; Unset: the kernel has no such thing
}

// Switch is what is on or off, or not told of.
type Switch uint8

// The values of Switch.
const (
	Unset Switch = iota
	Off
	On
)

// SwitchOf is On if on.
func SwitchOf(on bool) Switch {
	if on {
		return On
	}
	return Off
}

// Up tells whether it is administratively up.
func (l *Link) Up() bool { return l.Flags&unix.IFF_UP != 0 }

// What linux/if_link.h and linux/veth.h have beyond package unix.
const (
	operUp           = 6  // IF_OPER_UP (RFC 2863)
	vethPeer         = 1  // VETH_INFO_PEER
	bridgeVLANFilter = 7  // IFLA_BR_VLAN_FILTERING
	portMode         = 4  // IFLA_BRPORT_MODE: hairpin
	portSuppress     = 32 // IFLA_BRPORT_NEIGH_SUPPRESS, since 4.15
	portIsolated     = 33 // IFLA_BRPORT_ISOLATED
	infoKind         = 1  // IFLA_INFO_KIND
	infoData         = 2  // IFLA_INFO_DATA
	infoSlaveKind    = 4  // IFLA_INFO_SLAVE_KIND
	infoSlaveData    = 5  // IFLA_INFO_SLAVE_DATA
	skipStatistics   = 8  // RTEXT_FILTER_SKIP_STATS
	addrGenMode      = 8  // IFLA_INET6_ADDR_GEN_MODE
	addrGenNone      = 1  // IN6_ADDR_GEN_MODE_NONE
	headerOfLink     = unix.SizeofIfInfomsg
	headerOfAddress  = unix.SizeofIfAddrmsg
	headerOfRoute    = unix.SizeofRtMsg
)

// Running tells whether it carries traffic (RFC 2863, ifOperStatus up).
func (l *Link) Running() bool { return l.OperState == operUp }

// body is the header of a request about a link, with attributes behind it. Of the flags those in the mask are changed.
func body(index int, flags, mask uint32, attrs rawnl.Attrs) []byte {
	b := make([]byte, headerOfLink, headerOfLink+len(attrs))
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], mask)
	return append(b, attrs...)
}

// GetLink asks for the link of a name. The kernel answers unix.ENODEV if there is none.
func GetLink(name string) rawnl.Message {
	var a rawnl.Attrs
	a.Text(unix.IFLA_IFNAME, name)
	a.Uint32(unix.IFLA_EXT_MASK, skipStatistics)
	return rawnl.Message{Type: unix.RTM_GETLINK, Body: body(0, 0, 0, a)}
}

// GetLinkByIndex asks for a link by its number.
func GetLinkByIndex(index int) rawnl.Message {
	var a rawnl.Attrs
	a.Uint32(unix.IFLA_EXT_MASK, skipStatistics)
	return rawnl.Message{Type: unix.RTM_GETLINK, Body: body(index, 0, 0, a)}
}

// GetLinks asks for all links.
func GetLinks() rawnl.Message {
	var a rawnl.Attrs
	a.Uint32(unix.IFLA_EXT_MASK, skipStatistics)
	return rawnl.Message{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_DUMP, Body: body(0, 0, 0, a)}
}

// ParseLink reads the answer to a request for a link; nil if it is none.
func ParseLink(b []byte) *Link {
	if len(b) < headerOfLink {
		return nil
	}
	l := &Link{Index: int(binary.NativeEndian.Uint32(b[4:])), Flags: binary.NativeEndian.Uint32(b[8:])}
	rawnl.Each(b[headerOfLink:], func(kind uint16, v []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.Name = rawnl.String(v)
		case unix.IFLA_IFALIAS:
			l.Alias = rawnl.String(v)
		case unix.IFLA_ADDRESS:
			l.MAC = append(net.HardwareAddr(nil), v...)
		case unix.IFLA_MTU:
			l.MTU = int(number(v))
		case unix.IFLA_MASTER:
			l.Master = int(number(v))
		case unix.IFLA_LINK:
			l.Peer = int(number(v))
		case unix.IFLA_PROMISCUITY:
			l.Promisc = number(v)
		case unix.IFLA_TXQLEN:
			l.TxQLen = int(number(v))
		case unix.IFLA_GROUP:
			l.Group = number(v)
		case unix.IFLA_OPERSTATE:
			l.OperState = byteOf(v)
		case unix.IFLA_LINKINFO:
			l.parseInfo(v)
		}
	})
	return l
}

func (l *Link) parseInfo(info []byte) {
	l.Kind = rawnl.String(rawnl.Find(info, infoKind))
	if l.Kind == "bridge" {
		l.VLANFiltering = byteOf(rawnl.Find(rawnl.Find(info, infoData), bridgeVLANFilter)) != 0
	}
	l.Child = parseChild(l.Kind, rawnl.Find(info, infoData))
	port := rawnl.Find(info, infoSlaveData)
	l.Hairpin, l.Isolated = byteOf(rawnl.Find(port, portMode)) != 0, byteOf(rawnl.Find(port, portIsolated)) != 0
	if suppress := rawnl.Find(port, portSuppress); suppress != nil {
		l.NeighSuppress = SwitchOf(byteOf(suppress) != 0)
	}
}

func number(v []byte) uint32 {
	if len(v) != 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(v)
}

func byteOf(v []byte) byte {
	if len(v) == 0 {
		return 0
	}
	return v[0]
}

// End is one end of a pair to be made.
type End struct {
	Name string
	MTU  int              // bytes; 0: the kernel's default
	MAC  net.HardwareAddr // nil: a random one
}

func (e End) attrs() (a rawnl.Attrs) {
	a.Text(unix.IFLA_IFNAME, e.Name)
	if e.MTU != 0 {
		a.Uint32(unix.IFLA_MTU, uint32(e.MTU))
	}
	if e.MAC != nil {
		a.Bytes(unix.IFLA_ADDRESS, e.MAC)
	}
	return a
}

// create asks for a new link, and for what has become of it (NLM_F_ECHO).
func create(up bool, a rawnl.Attrs) rawnl.Message {
	var flags uint32
	if up {
		flags = unix.IFF_UP
	}
	return rawnl.Message{
		Type: unix.RTM_NEWLINK, Flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL | unix.NLM_F_ECHO,
		Body: body(0, flags, flags, a),
	}
}

// New is a link to be made, besides its name, MTU and MAC address.
type New struct {
	End
	Kind      string // "macvlan", "vrf"
	Parent    int    // index of the link that it is made on, in the namespace of the socket; 0: none
	Master    int    // index of the link that it is enslaved to; 0: none
	Namespace int    // descriptor of the namespace that it is made in; 0: that of the socket
	Up        bool
	Data      func(*rawnl.Attrs) // what the kind has of its own (IFLA_INFO_DATA); nil: nothing
}

// NewLink makes a link. The answer tells what has become of it, unless it is made in another namespace: there the kernel would tell whatever
// socket has this one's number.
func NewLink(n New) rawnl.Message {
	a := n.attrs()
	for kind, number := range map[uint16]int{unix.IFLA_LINK: n.Parent, unix.IFLA_MASTER: n.Master, unix.IFLA_NET_NS_FD: n.Namespace} {
		if number != 0 {
			a.Uint32(kind, uint32(number))
		}
	}
	a.Nested(unix.IFLA_LINKINFO, func(a *rawnl.Attrs) {
		a.Text(infoKind, n.Kind)
		if n.Data != nil {
			a.Nested(infoData, n.Data)
		}
	})
	m := create(n.Up, a)
	if n.Namespace != 0 {
		m.Flags &^= unix.NLM_F_ECHO
	}
	return m
}

// NewVeth makes a pair, both ends down. The peer is made in the namespace of the descriptor, or beside the first end if that is 0. With a
// master the first end is a port of that bridge.
func NewVeth(end, peer End, namespace, master int) rawnl.Message {
	return NewLink(New{End: end, Kind: "veth", Master: master, Data: func(a *rawnl.Attrs) {
		attrs := peer.attrs()
		if namespace != 0 {
			attrs.Uint32(unix.IFLA_NET_NS_FD, uint32(namespace))
		}
		a.Bytes(vethPeer, body(0, 0, 0, attrs))
	}})
}

// Bridge is what a bridge has of its own (linux/if_link.h).
type Bridge struct {
	VLANFiltering bool
	MostLearned   uint32 // MAC addresses that it learns at most; 0: no limit, as of all before Linux 6.7
}

// NewBridge makes a bridge.
func NewBridge(end End, b Bridge, up bool) rawnl.Message {
	return NewLink(New{End: end, Kind: "bridge", Up: up, Data: func(a *rawnl.Attrs) {
		if b.VLANFiltering {
			a.Uint8(bridgeVLANFilter, 1)
		}
		if b.MostLearned > 0 {
			a.Uint32(unix.IFLA_BR_FDB_MAX_LEARNED, b.MostLearned)
		}
	}})
}

// Change is what SetLink changes; what is left out stays as it is.
type Change struct {
	Alias             string
	MAC               net.HardwareAddr
	MTU               int // bytes
	Master            int
	Group             uint32
	Hairpin, Isolated bool   // of a bridge's port; only on
	NeighSuppress     Switch // of a bridge's port: it gets no ARP request and no neighbour solicitation that the kernel can answer (bridge(8))
	Up, Down, Promisc bool
	NoLinkLocal       bool // IPv6: give it no link-local address when it comes up
	VLANFiltering     bool // of a bridge; only on
	// Flags are the IFF_ that are set as they are in Flags, of those in FlagsMask.
	Flags, FlagsMask uint32
	TxQLen           *int // packets
}

// SetLink changes a link.
func SetLink(index int, c Change) rawnl.Message {
	var a rawnl.Attrs
	if c.Alias != "" {
		a.Bytes(unix.IFLA_IFALIAS, []byte(c.Alias))
	}
	if c.MAC != nil {
		a.Bytes(unix.IFLA_ADDRESS, c.MAC)
	}
	for kind, n := range map[uint16]uint32{unix.IFLA_MTU: uint32(c.MTU), unix.IFLA_MASTER: uint32(c.Master), unix.IFLA_GROUP: c.Group} {
		if n != 0 {
			a.Uint32(kind, n)
		}
	}
	if c.TxQLen != nil {
		a.Uint32(unix.IFLA_TXQLEN, uint32(*c.TxQLen))
	}
	if c.Hairpin || c.Isolated || c.NeighSuppress != Unset {
		a.Nested(unix.IFLA_LINKINFO, c.port)
	}
	if c.VLANFiltering {
		a.Nested(unix.IFLA_LINKINFO, func(a *rawnl.Attrs) {
			a.Text(infoKind, "bridge")
			a.Nested(infoData, func(a *rawnl.Attrs) { a.Uint8(bridgeVLANFilter, 1) })
		})
	}
	if c.NoLinkLocal {
		a.Nested(unix.IFLA_AF_SPEC, func(a *rawnl.Attrs) {
			a.Nested(unix.AF_INET6, func(a *rawnl.Attrs) { a.Uint8(addrGenMode, addrGenNone) })
		})
	}
	flags, mask := c.flags()
	return rawnl.Message{Type: unix.RTM_NEWLINK, Body: body(index, flags, mask, a)}
}

func (c Change) port(a *rawnl.Attrs) {
	a.Text(infoSlaveKind, "bridge")
	a.Nested(infoSlaveData, func(a *rawnl.Attrs) {
		if c.Hairpin {
			a.Uint8(portMode, 1)
		}
		if c.Isolated {
			a.Uint8(portIsolated, 1)
		}
		if c.NeighSuppress != Unset {
			a.Uint8(portSuppress, uint8(c.NeighSuppress-Off))
		}
	})
}

func (c Change) flags() (flags, mask uint32) {
	flags, mask = c.Flags, c.FlagsMask
	if c.Up {
		flags, mask = flags|unix.IFF_UP, mask|unix.IFF_UP
	}
	if c.Down {
		mask |= unix.IFF_UP
	}
	if c.Promisc {
		flags, mask = flags|unix.IFF_PROMISC, mask|unix.IFF_PROMISC
	}
	return flags, mask
}

// DelLink removes the link of a name, and with it its peer, its addresses and its routes. The kernel answers unix.ENODEV if there is none.
func DelLink(name string) rawnl.Message {
	var a rawnl.Attrs
	a.Text(unix.IFLA_IFNAME, name)
	return rawnl.Message{Type: unix.RTM_DELLINK, Body: body(0, 0, 0, a)}
}

// DelGroup removes all links of a group at once, which takes little longer than to remove one.
func DelGroup(group uint32) rawnl.Message {
	var a rawnl.Attrs
	a.Uint32(unix.IFLA_GROUP, group)
	return rawnl.Message{Type: unix.RTM_DELLINK, Body: body(0, 0, 0, a)}
}
