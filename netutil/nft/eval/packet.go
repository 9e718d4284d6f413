// Package eval finds out what the packet filter (nf_tables, ours and everybody's) does with a packet, without sending one: it reads the rules from the
// kernel and evaluates their expressions as the kernel does. What a rule asks for that is not known, such as a random number or the owner of a
// socket, makes it one that may apply.
package eval

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Packet is the first packet of a connection, or an answer to it, and what the kernel keeps beside it while it is on its way through a namespace.
type Packet struct {
	Src, Dst         netip.Addr // of one family
	Proto            uint8      // IPPROTO_
	SrcPort, DstPort uint16     // of TCP, UDP and SCTP; SrcPort 0: not known
	SrcMAC, DstMAC   net.HardwareAddr
	Payload          []byte // what is known of what follows the transport header
	Reply            bool   // it is an answer
	Follows          bool   // it is neither the first nor an answer: the connection is established

	In, Out  Device // none: the zero Device
	Mark     uint32
	NoMark   bool  // the mark is not known
	Conn     *Conn // nil: the namespace has not looked at the connection yet
	NoTrack  bool  // a rule has said that the connection is not to be tracked
	Received bool  // it came in from a link, so its frame's header can be read
}

// Device is a link as rules know it.
type Device struct {
	Index int
	Name  string
	Kind  string // "veth"
	Group uint32
}

// Tuple is one direction of a connection.
type Tuple struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
}

// Conn is a connection as a namespace tracks it.
type Conn struct {
	Proto      uint8
	First, Now Tuple // as its first packet came, and as it goes on
	SourceNAT  bool
	DestNAT    bool
	Mark       uint32
	NoMark     bool // the mark is not known

	sourceDecided, destDecided bool // what translates has been asked
}

// Tuple is the packet's direction.
func (p *Packet) Tuple() Tuple { return Tuple{p.Src, p.Dst, p.SrcPort, p.DstPort} }

// Is6 tells the family.
func (p *Packet) Is6() bool { return p.Dst.Is6() }

// family is the NFPROTO_.
func (p *Packet) family() byte {
	if p.Is6() {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

func (p *Packet) etherType() uint16 {
	if p.Is6() {
		return unix.ETH_P_IPV6
	}
	return unix.ETH_P_IP
}

// header is the bytes from a base (NFT_PAYLOAD_) on, as far as they are known; ok is false if there is no such header.
func (p *Packet) header(base uint32) (v value, ok bool) {
	switch base {
	case unix.NFT_PAYLOAD_LL_HEADER:
		return p.ether(), p.Received
	case unix.NFT_PAYLOAD_NETWORK_HEADER:
		return p.network().and(p.transport()), true
	case unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		return p.transport(), true
	}
	return value{}, true
}

func (p *Packet) ether() (v value) {
	for _, mac := range []net.HardwareAddr{p.DstMAC, p.SrcMAC} {
		if len(mac) == 6 {
			v = v.add(mac...)
		} else {
			v = v.unknown(6)
		}
	}
	return v.add(be16(p.etherType())...)
}

func (p *Packet) network() (v value) {
	if p.Is6() {
		const version = 0x60
		v = v.add(version).unknown(5).add(p.Proto).unknown(1)
	} else {
		const versionAndLength = 0x45
		const mayBeCut = 0x40 // the flag "don't fragment", which is not known; the packet is whole
		v = v.add(versionAndLength).unknown(5).add(0, 0).unknown(1).add(p.Proto).unknown(2)
		v.known[6] = 0xff &^ mayBeCut
	}
	return v.add(p.Src.AsSlice()...).add(p.Dst.AsSlice()...)
}

// Types of ICMP's echo (RFC 792, RFC 4443).
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

func (p *Packet) transport() (v value) {
	ports := func() {
		if p.SrcPort == 0 {
			v = v.unknown(2)
		} else {
			v = v.add(be16(p.SrcPort)...)
		}
		if p.DstPort == 0 {
			v = v.unknown(2)
		} else {
			v = v.add(be16(p.DstPort)...)
		}
	}
	switch p.Proto {
	case unix.IPPROTO_TCP:
		const syn, ack = 0x02, 0x10
		flags := byte(syn)
		switch {
		case p.Follows:
			flags = ack
		case p.Reply:
			flags |= ack
		}
		ports()
		v = v.unknown(9).add(flags).unknown(6)
	case unix.IPPROTO_UDP:
		ports()
		v = v.unknown(4)
	case unix.IPPROTO_SCTP:
		ports()
		v = v.unknown(8)
	case unix.IPPROTO_ICMP:
		v = v.add(choose(p.Reply, echoReply4, echoRequest4), 0).unknown(6)
	case unix.IPPROTO_ICMPV6:
		v = v.add(choose(p.Reply, echoReply6, echoRequest6), 0).unknown(6)
	}
	return v.add(p.Payload...)
}

func choose(first bool, a, b byte) byte {
	if first {
		return a
	}
	return b
}

func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func native32(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
