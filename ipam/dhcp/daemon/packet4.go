package daemon

import (
	"encoding/binary"
	"net"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Ports of DHCP (RFC 2131, section 4.1).
const (
	serverPort = 67
	clientPort = 68
)

// packetSocket opens a socket for IP packets in link-layer frames, which need no address on the link.
func packetSocket(n *netutil.Namespace, l *rtnl.Link, protocol uint16, filter []unix.SockFilter) (*socket, error) {
	// Of no protocol until it is bound: else it would take in what other links receive.
	return openSocket(n, "packet socket on "+l.Name, unix.AF_PACKET, unix.SOCK_DGRAM, 0, func(fd int) error {
		program := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, program); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(protocol), Ifindex: l.Index})
	})
}

func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// repliesOnly lets only unfragmented UDP datagrams to the client's port in (linux/filter.h).
func repliesOnly() []unix.SockFilter {
	const (
		loadByte, loadHalf, loadHalfX, lengthOfIP = 0x30, 0x28, 0x48, 0xb1
		equal, anySet, accept                     = 0x15, 0x45, 0x06
	)
	return []unix.SockFilter{
		{Code: loadByte, K: 9},
		{Code: equal, K: unix.IPPROTO_UDP, Jf: 6},
		{Code: loadHalf, K: 6},
		{Code: anySet, K: 0x1fff, Jt: 4},
		{Code: lengthOfIP, K: 0},
		{Code: loadHalfX, K: 2},
		{Code: equal, K: clientPort, Jf: 1},
		{Code: accept, K: 0xffff},
		{Code: accept, K: 0},
	}
}

// broadcast sends a message to all, from the address that the client has, or none.
func (c *client4) broadcast(m *dhcpv4.DHCPv4) error { return c.send(m, net.IPv4bcast) }

// send sends a message to an address, in a frame to all.
func (c *client4) send(m *dhcpv4.DHCPv4, address net.IP) error {
	to := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_IP), Ifindex: c.link.Index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	return c.s.send(udpPacket(m.ClientIPAddr, address, m.ToBytes()), to)
}

// udpPacket is an IPv4 packet (RFC 791) with a UDP datagram (RFC 768) in it, without a checksum of that, which is optional.
func udpPacket(from, to net.IP, payload []byte) []byte {
	const header, udpHeader, ttl = 20, 8, 64
	if from.To4() == nil {
		from = net.IPv4zero
	}
	p := make([]byte, header+udpHeader, header+udpHeader+len(payload))
	p[0] = 4<<4 | header/4
	binary.BigEndian.PutUint16(p[2:], uint16(cap(p)))
	p[8], p[9] = ttl, unix.IPPROTO_UDP
	copy(p[12:], from.To4())
	copy(p[16:], to.To4())
	binary.BigEndian.PutUint16(p[10:], netutil.Checksum(p[:header]))
	udp := p[header:]
	binary.BigEndian.PutUint16(udp, clientPort)
	binary.BigEndian.PutUint16(udp[2:], serverPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeader+len(payload)))
	return append(p, payload...)
}

// parseReply reads a DHCP reply out of an IP packet; nil if it is none.
func parseReply(packet []byte) *dhcpv4.DHCPv4 {
	const least, udpHeader = 20, 8
	if len(packet) < least {
		return nil
	}
	header := int(packet[0]&0xf) * 4
	if header < least || len(packet) < header+udpHeader {
		return nil
	}
	size := int(binary.BigEndian.Uint16(packet[header+4:]))
	if size < udpHeader || header+size > len(packet) {
		return nil
	}
	m, err := dhcpv4.FromBytes(packet[header+udpHeader : header+size])
	if err != nil || m.OpCode != dhcpv4.OpcodeBootReply {
		return nil
	}
	return m
}

// unicast sends a message to a server from the address that the client has, by the namespace's own routes.
func unicast(n *netutil.Namespace, from, server net.IP, m *dhcpv4.DHCPv4) error {
	return n.Do(func() error {
		local := &net.UDPAddr{IP: from, Port: clientPort}
		c, err := net.DialUDP("udp4", local, &net.UDPAddr{IP: server, Port: serverPort})
		if err != nil { // the port is somebody's: a server does not mind
			c, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: server, Port: serverPort})
		}
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		_, err = c.Write(m.ToBytes())
		return err
	})
}
