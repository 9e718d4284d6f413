package nft

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// ProtocolName is what people, and nft(8), call a protocol of IP (IPPROTO_); the number of one that is none of those that packets are told apart by here.
func ProtocolName(n uint8) string {
	switch n {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		return "icmpv6"
	}
	return strconv.Itoa(int(n))
}
