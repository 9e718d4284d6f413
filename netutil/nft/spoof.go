package nft

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/owner"
)

// This file is what keeps a pod on a bridge from being taken for another: its frames carry its MAC address (macspoofchk), and what they say of IP
// addresses is of its own (ipspoofchk).

// SpoofCheckEntry drops frames that enter the bridge port with another source MAC.
type SpoofCheckEntry struct {
	Port string // name of the bridge port
	MAC  net.HardwareAddr
}

// AddressCheckEntry drops what enters the bridge port and claims another address: as the source of a packet, in ARP or in neighbour discovery. There is
// one for each address of the port, and a SpoofCheckEntry with them. What is neither IP nor ARP is dropped too, and what only routers send.
type AddressCheckEntry struct {
	Port string
	Addr netip.Addr
}

func (SpoofCheckEntry) feature() Feature   { return SpoofCheck }
func (AddressCheckEntry) feature() Feature { return SpoofCheck }

func (e SpoofCheckEntry) want(w *wanted) error {
	w.element(SpoofCheck, setMACs, element{key: pack(packName(e.Port), packMAC(e.MAC))})
	w.element(SpoofCheck, setChecked, element{key: packName(e.Port)})
	return nil
}

func (e AddressCheckEntry) want(w *wanted) error {
	key := pack(packName(e.Port), e.Addr.AsSlice())
	w.element(SpoofCheck, of(setAddrs, familyOf(e.Addr)), element{key: key})
	if e.Addr.Is6() {
		w.element(SpoofCheck, setTargets, element{key: key})
	}
	if checked := w.bridge.set(setAddrChecked); !w.has(checked, packName(e.Port)) {
		w.element(SpoofCheck, checked.name, element{key: packName(e.Port)})
	}
	return nil
}

func (e SpoofCheckEntry) words() []string { return []string{"spoofcheck", e.Port, e.MAC.String()} }

func (e AddressCheckEntry) words() []string { return []string{"addresscheck", e.Port, e.Addr.String()} }

// AddressChecks are the entries for a bridge port with these addresses: each, and of IPv6 the link-local one that the kernel makes of the MAC address.
func AddressChecks(o owner.Owner, mac net.HardwareAddr, addrs []netip.Addr) (out []Entry) {
	var v6 bool
	for _, a := range addrs {
		out = append(out, AddressCheckEntry{o.LinkName(), a})
		v6 = v6 || a.Is6()
	}
	if v6 && len(mac) == 6 {
		out = append(out, AddressCheckEntry{o.LinkName(), owner.LinkLocal(mac)})
	}
	return out
}

// Names of the sets and the chain of the bridge table.
const (
	setAddrs       = "addrs"   // bridge port and address that it may send with
	setTargets     = "targets" // bridge port and address that it may claim in neighbour discovery
	setAddrChecked = "addrs_checked"
	chainAddrs     = "addrs"
)

// targetOffset is where an ICMPv6 message has the target, in bytes (RFC 4861, sections 4.3 and 4.4).
const targetOffset = 8

func addressSets(t *table) (out []*set) {
	for _, f := range families() {
		out = append(out, &set{table: t, name: of(setAddrs, f), key: []field{ifname, f.addr}})
	}
	return append(out, &set{table: t, name: setTargets, key: []field{ifname, target}}, &set{table: t, name: setAddrChecked, key: []field{ifname}})
}

// spoofChains are the chains that look at what enters by a checked port.
func spoofChains() []chain {
	port := inLink()
	spoofed := join(in(setChecked, port), notIn(setMACs, port, etherSource()), counter(), drop())
	rules := append(arpRules(port), ipv4Rules(port)...)
	rules = append(rules, ipv6Rules(port)...)
	return []chain{{
		name:  "prerouting",
		hook:  &hook{"filter", unix.NF_INET_PRE_ROUTING, priorityRaw},
		rules: []commented{{"macspoofchk", spoofed}, {"ipspoofchk", join(in(setAddrChecked, port), jump(chainAddrs))}},
	}, {
		name: chainAddrs, jumps: 1, rules: append(rules, commented{"neither IP nor ARP", join(counter(), drop())}),
	}}
}

// arpRules look at who an ARP packet is from (RFC 826); one that asks whether an address is free names none (RFC 5227).
func arpRules(port load) []commented {
	const senderMAC, senderIP = 8, 14 // offsets, in bytes
	arp, mac, ip := etherType(unix.ETH_P_ARP), networkLoad(senderMAC, ether), networkLoad(senderIP, ipv4)
	return []commented{
		{"ARP with another's MAC address", join(arp, notIn(setMACs, port, mac), counter(), drop())},
		{"", join(arp, equals(ip, make([]byte, 4)), leave())},
		{"ARP with another's address", join(arp, notIn(of(setAddrs, families()[0]), port, ip), counter(), drop())},
		{"", join(arp, leave())},
	}
}

func ipv4Rules(port load) []commented {
	f := families()[0]
	ip, source := etherType(unix.ETH_P_IP), f.address(f.source)
	return []commented{
		{"a client of DHCP", join(ip, equals(source, make([]byte, 4)), l4protoIs(unix.IPPROTO_UDP), equals(destPort(), []byte{0, 67}), leave())},
		{"another's address", join(ip, notIn(of(setAddrs, f), port, source), counter(), drop())},
		{"", join(ip, leave())},
	}
}

// ipv6Rules look at neighbour discovery too (RFC 4861): who advertises himself as a router or redirects, and which address a host claims to have or, as
// long as it has none (RFC 4862), asks for.
func ipv6Rules(port load) []commented {
	const routerAdvertisement, neighbourSolicitation, neighbourAdvertisement, redirect = 134, 135, 136, 137
	f := families()[1]
	kind := func(number byte) rule {
		return join(etherType(unix.ETH_P_IPV6), l4protoIs(unix.IPPROTO_ICMPV6), equals(transportLoad(0, 1), []byte{number}))
	}
	source, claimed := f.address(f.source), transportLoad(targetOffset, uint32(target.bytes()))
	unspecified := equals(source, make([]byte, 16))
	return []commented{
		{"a router's", join(kind(routerAdvertisement), counter(), drop())},
		{"a router's", join(kind(redirect), counter(), drop())},
		{"another's address", join(kind(neighbourAdvertisement), notIn(setTargets, port, claimed), counter(), drop())},
		{"another's address", join(kind(neighbourSolicitation), unspecified, notIn(setTargets, port, claimed), counter(), drop())},
		{"a host without an address", join(etherType(unix.ETH_P_IPV6), l4protoIs(unix.IPPROTO_ICMPV6), unspecified, leave())},
		{"another's address", join(etherType(unix.ETH_P_IPV6), notIn(of(setAddrs, f), port, source), counter(), drop())},
		{"", join(etherType(unix.ETH_P_IPV6), leave())},
	}
}
