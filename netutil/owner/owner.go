// Package owner names who a kernel object or an address belongs to: one attachment of one network.
// Everything that cnibox creates carries its owner, so that DEL and GC find it without any state.
package owner

import (
	"hash/fnv"
	"net"
	"net/netip"
	"strings"
)

// Owner is an attachment within its network. The runtime chooses all three parts (CNI spec, section 2).
type Owner struct {
	Network     string // "name" of the network configuration
	ContainerID string // CNI_CONTAINERID
	IfName      string // CNI_IFNAME
}

// LinkPrefix begins the name of every host side link. It is the one that host tools (NetworkManager, systemd-networkd, firewalld) leave alone by default.
const LinkPrefix = "veth"

// LinkName is the name of the attachment's host side link: 15 characters, the most that the kernel allows (IFNAMSIZ),
// of which 11 are 55 bits of the owner's hash. DEL needs nothing else to find the link.
func (o Owner) LinkName() string {
	return LinkPrefix + o.hash()[:11]
}

// IFBPrefix begins the name of every device that takes in what a container sends, to be limited (role bandwidth).
const IFBPrefix = "ifb"

// IFBName is the name of that device: 15 characters, as of LinkName, of which 12 are the hash.
func (o Owner) IFBName() string { return IFBPrefix + o.hash()[:12] }

// MAC is the address of the attachment's host side link: locally administered, and always the same for one owner.
func (o Owner) MAC() net.HardwareAddr { return macOf(0x02, []byte(o.String())) }

// PodMAC is the address of the container's side where nobody asked for one. It follows the pod's first IP address, so that
// a neighbour that still remembers the address's former holder reaches the new one all the same; nothing need be announced.
// Without an address it follows the owner.
func (o Owner) PodMAC(first netip.Addr) net.HardwareAddr {
	if first.Is4() {
		ip := first.As4()
		return net.HardwareAddr{0x0a, 0x58, ip[0], ip[1], ip[2], ip[3]}
	}
	if first.IsValid() {
		return macOf(0x06, first.AsSlice())
	}
	return macOf(0x06, []byte("pod/"+o.String()))
}

// NodeMAC is the address of a node's device in a network of many, by what the node is known by there.
func NodeMAC(identity string) net.HardwareAddr { return macOf(0x0e, []byte(identity)) }

// LinkLocal is the IPv6 address that the kernel makes of a link's MAC address, which must have 6 bytes (RFC 4291, appendix A).
func LinkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

// macOf makes an address from 40 bits of a hash below a first byte, which says that it is unicast and locally administered.
func macOf(first byte, seed []byte) net.HardwareAddr {
	h := fnv.New64a()
	_, _ = h.Write(seed)
	sum := mix(h.Sum64())
	return net.HardwareAddr{first, byte(sum >> 32), byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}
}

// hash is the owner as 13 characters of base32hex, in lower case.
func (o Owner) hash() string {
	h := fnv.New64a()
	for _, part := range []string{o.Network, o.ContainerID, o.IfName} {
		_, _ = h.Write([]byte(part))
		_, _ = h.Write([]byte{0})
	}
	return base32(mix(h.Sum64()))
}

// mix spreads every input bit over all output bits: the last bytes that FNV sees reach only a part of its result.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func base32(h uint64) string {
	const digits = "0123456789abcdefghijklmnopqrstuv"
	var out [13]byte
	for i := range out {
		out[i] = digits[h>>59]
		h <<= 5
	}
	return string(out[:])
}

// String is the owner as people read it: network/containerID/interface.
func (o Owner) String() string {
	return o.Network + "/" + o.ContainerID + "/" + o.IfName
}

// Text is String in at most limit bytes: where it is longer, network and container ID are cut, and the hash takes the
// place of what is missing, so that two owners never share a text. The limit must leave room for 34 bytes and the interface name.
func (o Owner) Text(limit int) string {
	if s := o.String(); len(s) <= limit {
		return s
	}
	room := limit - len(o.IfName) - len("//") - tailSize
	network := NetworkText(o.Network, room/2)
	id := o.ContainerID
	if keep := room - len(network); len(id) > keep {
		id = id[:max(keep, 0)]
	}
	return network + "/" + id + "~" + o.hash() + "/" + o.IfName
}

// NetworkText is a network's name in at most limit bytes, of which there must be 14, made unambiguous by a hash where it is cut.
// GC compares it to tell its own network's objects from others'.
func NetworkText(network string, limit int) string {
	if len(network) <= max(limit, tailSize) { // what is cut never gets longer by it
		return network
	}
	return network[:max(limit-tailSize, 0)] + "~" + Owner{Network: network}.hash()
}

// tailSize is the length of what takes the place of a part that was cut: '~', which no name has (CNI spec, section 1), and a hash.
const tailSize = 14

// InNetwork tells whether a text made by Text, whatever its limit, belongs to the network.
func InNetwork(text, network string) bool {
	name, _, ok := strings.Cut(text, "/")
	if !ok {
		return false
	}
	if name == network {
		return true
	}
	begin, cut := strings.CutSuffix(name, "~"+Owner{Network: network}.hash())
	return cut && len(name) <= len(network) && strings.HasPrefix(network, begin)
}
