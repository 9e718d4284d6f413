package netutil

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rtnl"
)

// announce tells the neighbours of a link whose addresses ask for it which MAC address these have now: who still knows another, of the
// address's former holder, learns the new one at once. Nobody answers to that, so whether it arrives cannot be known, and that it
// could not be sent is no reason to fail.
func (a *applier) announce(context.Context) error {
	for i := range a.plan.Addrs {
		ad := &a.plan.Addrs[i]
		if !ad.Announce {
			continue
		}
		l, err := a.link(ad.Place, ad.Link)
		if err != nil {
			return err
		}
		if l.Flags&unix.IFF_NOARP == 0 && len(l.MAC) == 6 {
			_ = sendFrame(a.kernel.at(ad.Place), l, announcement(l.MAC, ad.Prefix.Addr()))
		}
	}
	return nil
}

// sendFrame sends an Ethernet frame out of a link.
func sendFrame(n *Namespace, l *rtnl.Link, frame []byte) error {
	return n.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // protocol 0: it receives nothing
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Index})
	})
}

func announcement(mac net.HardwareAddr, addr netip.Addr) []byte {
	if addr.Is4() {
		return gratuitousARP(mac, addr)
	}
	return unsolicitedNA(mac, addr)
}

// gratuitousARP is an ARP announcement (RFC 5227, section 2.3): a broadcast request for the sender's own address.
func gratuitousARP(mac net.HardwareAddr, addr netip.Addr) []byte {
	const ethernet, request = 1, 1
	f := ethernetHeader(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac, unix.ETH_P_ARP)
	f = binary.BigEndian.AppendUint16(f, ethernet)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_IP)
	f = append(f, byte(len(mac)), 4)
	f = binary.BigEndian.AppendUint16(f, request)
	f = append(append(f, mac...), addr.AsSlice()...)
	return append(append(f, make([]byte, len(mac))...), addr.AsSlice()...)
}

// unsolicitedNA is an unsolicited neighbour advertisement to all nodes (RFC 4861, section 7.2.6) that overrides what they knew.
func unsolicitedNA(mac net.HardwareAddr, addr netip.Addr) []byte {
	const (
		neighborAdvertisement = 136
		override              = 0x20
		targetLinkAddress     = 2 // option, of one unit of 8 bytes
	)
	allNodes := netip.MustParseAddr("ff02::1")
	icmp := append([]byte{neighborAdvertisement, 0, 0, 0, override, 0, 0, 0}, addr.AsSlice()...)
	icmp = append(append(icmp, targetLinkAddress, 1), mac...)

	f := ethernetHeader(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, mac, unix.ETH_P_IPV6) // RFC 2464, section 7
	return append(f, NeighborPacket(addr, allNodes, icmp)...)
}

// NeighborPacket is an IPv6 packet with a message of neighbour discovery (RFC 4861), which has an even number of bytes, at most 255. Its checksum is
// filled in.
func NeighborPacket(from, to netip.Addr, icmp []byte) []byte {
	const hopLimit = 255 // section 7.1.1: so that it cannot have come through a router
	ip := []byte{6 << 4, 0, 0, 0, 0, byte(len(icmp)), unix.IPPROTO_ICMPV6, hopLimit}
	ip = append(append(ip, from.AsSlice()...), to.AsSlice()...)
	// RFC 8200, section 8.1: the pseudo-header is the addresses, the length and the protocol.
	pseudo := append([]byte{0, 0, 0, byte(len(icmp)), 0, 0, 0, unix.IPPROTO_ICMPV6}, ip[8:]...)
	binary.BigEndian.PutUint16(icmp[2:], Checksum(append(pseudo, icmp...)))
	return append(ip, icmp...)
}

func ethernetHeader(to, from net.HardwareAddr, kind uint16) []byte {
	return binary.BigEndian.AppendUint16(append(append([]byte{}, to...), from...), kind)
}

// Checksum is that of the Internet (RFC 1071) of an even number of bytes.
func Checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
