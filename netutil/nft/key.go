package nft

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// field is one part of the key of a set, or of the value of a map. A key of several parts (a concatenation) pads each to a
// multiple of four bytes, the size of a register.
type field uint8

const (
	protocol field = iota // IPPROTO_
	port
	ipv4
	ipv6
	ifname
	ether
	target // the address that neighbour discovery is about: to nft(8), 16 bytes behind IP's header
	vni    // of a VXLAN packet: to nft(8), 3 bytes behind IP's header
	mark   // in the byte order of the machine
)

// integer is nft(8)'s type for bytes that it knows nothing more of.
const integer = 4

// kind is what nft(8) calls the field (nftables/datatype.h) and its size in bytes.
func (f field) kind() (number uint32, size int) {
	switch f {
	case protocol:
		return 12, 1 // inet_proto
	case port:
		return 13, 2 // inet_service
	case ipv4:
		return 7, 4 // ipv4_addr
	case ipv6:
		return 8, 16 // ipv6_addr
	case ifname:
		return 41, unix.IFNAMSIZ
	case ether:
		return 9, 6 // ether_addr
	case target:
		return integer, 16
	case vni:
		return integer, 3
	default:
		return 19, 4 // mark
	}
}

func (f field) datatype() uint32 { number, _ := f.kind(); return number }
func (f field) bytes() int       { _, n := f.kind(); return n }

// size is the length of the field in a concatenation, in bytes.
func (f field) size() int { return padded(f.bytes()) }

func padded(n int) int { return (n + 3) &^ 3 }

func packBytes(b []byte, size int) []byte { return append(make([]byte, 0, size), b...)[:size] }

func packProtocol(p uint8) []byte { return []byte{p, 0, 0, 0} }
func packPort(p uint16) []byte    { return []byte{byte(p >> 8), byte(p), 0, 0} }
func packVNI(n uint32) []byte     { return binary.BigEndian.AppendUint32(nil, n<<8) }
func packName(s string) []byte    { return packBytes([]byte(s), ifname.size()) }

func packMAC(mac net.HardwareAddr) []byte { return packBytes(mac, ether.size()) }
func packMark(m uint32) []byte            { return binary.NativeEndian.AppendUint32(nil, m) }

// pack puts the parts of a key together.
func pack(parts ...[]byte) []byte {
	var key []byte
	for _, p := range parts {
		key = append(key, p...)
	}
	return key
}

// protocols are those that a port mapping can have.
func protocols() map[uint8]string {
	return map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}
}

// separator stands between the parts of a concatenation, as nft(8) writes it.
const separator = " . "

// formatKey writes a key as nft(8) does.
func formatKey(fields []field, key []byte) string {
	var parts []string
	for _, f := range fields {
		n := min(f.size(), len(key))
		parts = append(parts, f.format(packBytes(key[:n], f.size())))
		key = key[n:]
	}
	return strings.Join(parts, separator)
}

func (f field) format(b []byte) string {
	switch f {
	case protocol:
		if name := protocols()[b[0]]; name != "" {
			return name
		}
		return strconv.Itoa(int(b[0]))
	case port:
		return strconv.Itoa(int(binary.BigEndian.Uint16(b)))
	case ipv4, ipv6, target:
		addr, _ := netip.AddrFromSlice(b)
		return addr.String()
	case vni:
		return strconv.Itoa(int(binary.BigEndian.Uint32(b) >> 8))
	case ifname:
		return strings.TrimRight(string(b), "\x00")
	case ether:
		return net.HardwareAddr(b[:6]).String()
	default:
		return strconv.FormatUint(uint64(binary.NativeEndian.Uint32(b)), 10)
	}
}

// parseKey reads what formatKey wrote.
func parseKey(fields []field, s string) (key []byte, ok bool) {
	parts := strings.Split(s, separator)
	if len(parts) != len(fields) {
		return nil, false
	}
	for i, f := range fields {
		b, ok := f.parse(parts[i])
		if !ok {
			return nil, false
		}
		key = append(key, b...)
	}
	return key, true
}

func (f field) parse(s string) ([]byte, bool) {
	switch f {
	case protocol:
		for number, name := range protocols() {
			if s == name {
				return packProtocol(number), true
			}
		}
		n, err := strconv.ParseUint(s, 10, 8)
		return packProtocol(uint8(n)), err == nil
	case port:
		n, err := strconv.ParseUint(s, 10, 16)
		return packPort(uint16(n)), err == nil
	case ipv4, ipv6, target:
		addr, err := netip.ParseAddr(s)
		return addr.AsSlice(), err == nil && addr.Zone() == "" && addr.Is4() == (f == ipv4)
	case vni:
		n, err := strconv.ParseUint(s, 10, 24)
		return packVNI(uint32(n)), err == nil
	case ifname:
		return packName(s), len(s) < f.size()
	case ether:
		mac, err := net.ParseMAC(s)
		return packMAC(mac), err == nil && len(mac) == 6
	default:
		n, err := strconv.ParseUint(s, 10, 32)
		return packMark(uint32(n)), err == nil
	}
}

// markOf reads what packMark wrote.
func markOf(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
