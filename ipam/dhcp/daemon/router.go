package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/ipam/dhcp/dhcpv6"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// This file listens to routers (RFC 4861). What they advertise of routes, MTU and prefixes the kernel takes over by itself; here is what DHCPv6 and
// the result of ADD need of it. A library for it would bring package crypto into every start of a plugin.

// advertisement is what a router says.
type advertisement struct {
	packet   []byte
	from     netip.Addr    // its link-local address
	managed  bool          // addresses are given out by DHCPv6
	other    bool          // what else there is to know is, such as name servers
	lifetime time.Duration // as a default router; 0: it is none
	prefixes []prefix      // in which hosts make addresses of their own
	servers  []netip.Addr  // for names (RFC 8106)
	search   []string
}

type prefix struct {
	netip.Prefix
	valid time.Duration
}

// way tells whether it says how to come by an address.
func (a *advertisement) way() bool { return a.managed || len(a.prefixes) > 0 }

// Types of messages and options of neighbour discovery (RFC 4861, section 4; RFC 8106, section 5).
const (
	routerSolicitation  = 133
	routerAdvertisement = 134
	sourceLinkAddress   = 1
	prefixInformation   = 3
	nameServers         = 25
	searchList          = 31
	headerOfIPv6        = 40 // bytes
)

// advertisementsOnly lets only router advertisements in that no router has passed on (linux/filter.h).
func advertisementsOnly() []unix.SockFilter {
	const loadByte, equal, accept = 0x30, 0x15, 0x06
	return []unix.SockFilter{
		{Code: loadByte, K: 6},
		{Code: equal, K: unix.IPPROTO_ICMPV6, Jf: 5},
		{Code: loadByte, K: 7},
		{Code: equal, K: 255, Jf: 3},
		{Code: loadByte, K: headerOfIPv6},
		{Code: equal, K: routerAdvertisement, Jf: 1},
		{Code: accept, K: 0xffff},
		{Code: accept, K: 0},
	}
}

// askRouters solicits an advertisement that says how to come by an address. If none does in time it is another one, or nil if there is none.
func askRouters(ctx context.Context, n *netutil.Namespace, l *rtnl.Link, local netip.Addr, t Timing, limit time.Duration) (*advertisement, error) {
	s, err := packetSocket(n, l, unix.ETH_P_IPV6, advertisementsOnly())
	if err != nil {
		return nil, err
	}
	defer s.close()
	solicitation := []byte{routerSolicitation, 0, 0, 0, 0, 0, 0, 0}
	if len(l.MAC) == 6 {
		solicitation = append(append(solicitation, sourceLinkAddress, 1), l.MAC...)
	}
	packet := netutil.NeighborPacket(local, netip.MustParseAddr("ff02::2"), solicitation)
	to := &unix.SockaddrLinklayer{ // RFC 2464, section 7
		Protocol: networkOrder(unix.ETH_P_IPV6), Ifindex: l.Index, Halen: 6, Addr: [8]byte{0x33, 0x33, 0, 0, 0, 2},
	}
	var heard *advertisement
	err = s.exchange(ctx, t, limit, func(time.Duration) error { return s.send(packet, to) }, func(packet []byte) (bool, error) {
		if a := parseAdvertisement(packet); a != nil {
			heard = a
		}
		return heard != nil && heard.way(), nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
		err = nil
	}
	return heard, err
}

// parseAdvertisement reads an IPv6 packet; nil if it is no advertisement, or one that hosts must pass over (RFC 4861, section 6.1.2).
func parseAdvertisement(packet []byte) *advertisement {
	const header = 16
	if len(packet) < headerOfIPv6+header {
		return nil
	}
	size := int(binary.BigEndian.Uint16(packet[4:]))
	from := netip.AddrFrom16([16]byte(packet[8:24]))
	icmp := packet[headerOfIPv6:]
	if size < header || size > len(icmp) || icmp[0] != routerAdvertisement || !from.IsLinkLocalUnicast() {
		return nil
	}
	a := &advertisement{packet: slices.Clone(packet[:headerOfIPv6+size]), from: from, managed: icmp[5]&0x80 != 0, other: icmp[5]&0x40 != 0, lifetime: seconds16(icmp[6:])}
	for options := icmp[header:size]; len(options) > 0; {
		const unit = 8 // bytes, in which an option's length is given
		if len(options) < unit || options[1] == 0 || int(options[1])*unit > len(options) {
			return nil
		}
		var option []byte
		option, options = options[:int(options[1])*unit], options[int(options[1])*unit:]
		a.take(option)
	}
	return a
}

// take reads an option.
func (a *advertisement) take(option []byte) {
	switch option[0] {
	case prefixInformation:
		const size, autonomous = 32, 0x40
		if len(option) < size || option[3]&autonomous == 0 {
			return
		}
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte(option[16:32])), int(option[2]))
		if valid := seconds32(option[4:]); p.IsValid() && valid > 0 && !p.Addr().IsLinkLocalUnicast() {
			a.prefixes = append(a.prefixes, prefix{p.Masked(), valid})
		}
	case nameServers:
		if seconds32(option[4:]) == 0 {
			return
		}
		for addrs := range slices.Chunk(option[8:], 16) {
			if len(addrs) == 16 {
				a.servers = append(a.servers, netip.AddrFrom16([16]byte(addrs)))
			}
		}
	case searchList:
		if seconds32(option[4:]) == 0 {
			return
		}
		names, _ := dhcpv6.Names(option[8:])
		a.search = append(a.search, names...)
	}
}

func seconds16(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint16(b)) * time.Second
}

func seconds32(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Second
}
