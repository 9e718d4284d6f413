package eval

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/netutil/nft"

	"golang.org/x/sys/unix"
)

// kind is how people write a value: the numbers of nft(8)'s data types (nftables/datatype.h), and one of our own.
type kind uint8

const (
	kindVerdict  kind = 1
	kindInteger  kind = 4
	kindIPv4     kind = 7
	kindIPv6     kind = 8
	kindEther    kind = 9
	kindEtherTyp kind = 10
	kindProtocol kind = 12
	kindPort     kind = 13
	kindMark     kind = 19
	kindIndex    kind = 20
	kindState    kind = 26
	kindDir      kind = 27
	kindStatus   kind = 28
	kindFamily   kind = 37 // nf_proto
	kindName     kind = 41
	kindAddrType kind = 42
	kindNumber   kind = 63 // in the machine's order
)

// size is that of a value of the kind in bytes.
func (k kind) size() int {
	switch k {
	case kindIPv6, kindName:
		return 16
	case kindEther:
		return 6
	case kindEtherTyp, kindPort:
		return 2
	case kindProtocol, kindDir, kindFamily:
		return 1
	}
	return 4
}

// format writes a value.
func (k kind) format(b []byte) string {
	switch k {
	case kindIPv4, kindIPv6:
		if a, ok := netip.AddrFromSlice(b); ok {
			return a.String()
		}
	case kindEther:
		if len(b) == 6 {
			return net.HardwareAddr(b).String()
		}
	case kindName:
		return formatName(b)
	case kindPort:
		if len(b) == 2 {
			return strconv.Itoa(int(binary.BigEndian.Uint16(b)))
		}
	case kindProtocol, kindFamily:
		if len(b) == 1 {
			return protocolName(b[0], k)
		}
	case kindState, kindStatus, kindAddrType, kindDir:
		if n, ok := nativeNumber(b); ok {
			return k.bitNames(n)
		}
	case kindMark, kindIndex, kindNumber:
		if n, ok := nativeNumber(b); ok && k == kindMark {
			return "0x" + strconv.FormatUint(n, 16)
		} else if ok {
			return strconv.FormatUint(n, 10)
		}
	case kindEtherTyp:
		if len(b) == 2 {
			return etherTypeName(binary.BigEndian.Uint16(b))
		}
	case kindInteger:
		if len(b) <= 2 {
			return strconv.FormatUint(bigNumber(b), 10)
		}
	}
	return "0x" + hex.EncodeToString(b)
}

// formatName writes a link's name, or the beginning of one.
func formatName(b []byte) string {
	if name, _, whole := strings.Cut(string(b), "\x00"); whole {
		return strconv.Quote(name)
	}
	return strconv.Quote(string(b) + "*")
}

func nativeNumber(b []byte) (uint64, bool) {
	switch len(b) {
	case 1:
		return uint64(b[0]), true
	case 2:
		return uint64(binary.NativeEndian.Uint16(b)), true
	case 4:
		return uint64(binary.NativeEndian.Uint32(b)), true
	case 8:
		return binary.NativeEndian.Uint64(b), true
	}
	return 0, false
}

func bigNumber(b []byte) (n uint64) {
	for _, x := range b[:min(len(b), 8)] {
		n = n<<8 | uint64(x)
	}
	return n
}

func protocolName(n byte, k kind) string {
	if k == kindFamily {
		switch n {
		case unix.NFPROTO_IPV4:
			return "ipv4"
		case unix.NFPROTO_IPV6:
			return "ipv6"
		}
		return strconv.Itoa(int(n))
	}
	return nft.ProtocolName(n)
}

func etherTypeName(n uint16) string {
	switch n {
	case unix.ETH_P_IP:
		return "ip"
	case unix.ETH_P_IPV6:
		return "ip6"
	case unix.ETH_P_ARP:
		return "arp"
	}
	return "0x" + strconv.FormatUint(uint64(n), 16)
}

// bitNames writes numbers of which each value, or each bit, has a name.
func (k kind) bitNames(n uint64) string {
	switch k {
	case kindState:
		return names(n, map[uint64]string{stateInvalid: "invalid", stateEstablished: "established", 4: "related", stateNew: "new", stateUntracked: "untracked"})
	case kindStatus:
		return names(n, map[uint64]string{1: "expected", statusSeenReply: "seen-reply", 4: "assured", statusConfirmed: "confirmed", statusSNAT: "snat", statusDNAT: "dnat"})
	case kindDir:
		if n < 2 {
			return [...]string{"original", "reply"}[n]
		}
	case kindAddrType:
		if n > 0 && n < 9 {
			return [...]string{"unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit"}[n-1]
		}
	}
	return strconv.FormatUint(n, 10)
}

func names(n uint64, of map[uint64]string) string {
	var out []string
	for bit := uint64(1); bit != 0 && bit <= n; bit <<= 1 {
		if n&bit == 0 {
			continue
		}
		name := of[bit]
		if name == "" {
			name = "0x" + strconv.FormatUint(bit, 16)
		}
		out = append(out, name)
	}
	if out == nil {
		return "0"
	}
	return strings.Join(out, ",")
}

// formatKey writes a key of several parts.
func formatKey(kinds []kind, key []byte) string {
	if len(kinds) == 1 {
		return kinds[0].format(key)
	}
	var out []string
	for _, k := range kinds {
		if len(key) == 0 {
			break
		}
		n := min(k.size(), len(key))
		out = append(out, k.format(key[:n]))
		key = key[min((n+3)&^3, len(key)):]
	}
	return strings.Join(out, " . ")
}

// kindsOf are the parts of a data type of nft(8): six bits for each.
func kindsOf(datatype uint32) (out []kind) {
	for ; datatype != 0; datatype >>= 6 {
		out = append([]kind{kind(datatype & 63)}, out...)
	}
	return out
}
