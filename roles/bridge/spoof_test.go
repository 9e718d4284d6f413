package bridge_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles/roletest"
)

// host is what a frame says that it is from, or to.
type host struct {
	mac    net.HardwareAddr
	v4, v6 netip.Addr
}

func hostOf(t *testing.T, p *roletest.Pod) host {
	t.Helper()
	h := host{v4: p.Addrs[0], v6: p.Addrs[1]}
	err := p.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err == nil {
			h.mac = link.HardwareAddr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// linkLocal is the address that the kernel makes of the MAC address.
func (h host) linkLocal() netip.Addr {
	m := h.mac
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// place is where each frame gets a name by which the receiver knows it.
const place = "<place of a name>"

func frame(to, from net.HardwareAddr, kind uint16, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint16(append(bytes.Clone(to), from...), kind), payload...)
}

func arp(operation byte, mac net.HardwareAddr, sender, target netip.Addr) []byte {
	b := append([]byte{0, 1, 8, 0, 6, 4, 0, operation}, mac...)
	b = append(append(b, sender.AsSlice()...), make([]byte, 6)...)
	return append(append(b, target.AsSlice()...), place...)
}

func udp(port uint16) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, 68}, port)
	return append(binary.BigEndian.AppendUint32(b, uint32(8+len(place))<<16), place...)
}

func ip4(from, to netip.Addr, payload []byte) []byte {
	b := append([]byte{0x45, 0, 0, byte(20 + len(payload)), 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}, from.AsSlice()...)
	b = append(b, to.AsSlice()...)
	sum := uint32(0) // a bridge that asks the IP packet filter drops what has another
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
	return append(b, payload...)
}

func ip6(next byte, from, to netip.Addr, payload []byte) []byte {
	b := append([]byte{0x60, 0, 0, 0, 0, byte(len(payload)), next, 255}, from.AsSlice()...)
	return append(append(b, to.AsSlice()...), payload...)
}

// icmp6 is a message of neighbour discovery.
func icmp6(from, to netip.Addr, kind byte, target netip.Addr) []byte {
	return ip6(unix.IPPROTO_ICMPV6, from, to, append(append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...), place...))
}

// forged are frames from a that claim to be of another host, or of a router.
func forged(a, b, other host) map[string][]byte {
	const ip, ipv6, vlan, experiment = unix.ETH_P_IP, unix.ETH_P_IPV6, unix.ETH_P_8021Q, 0x88b5
	tagged := append([]byte{0, 7, 8, 0}, ip4(other.v4, b.v4, udp(7))...)
	return map[string][]byte{
		"another's MAC address":                frame(b.mac, other.mac, ip, ip4(a.v4, b.v4, udp(7))),
		"an IPv4 packet from another":          frame(b.mac, a.mac, ip, ip4(other.v4, b.v4, udp(7))),
		"an IPv6 packet from another":          frame(b.mac, a.mac, ipv6, ip6(unix.IPPROTO_UDP, other.v6, b.v6, udp(7))),
		"an IPv6 packet from another's fe80":   frame(b.mac, a.mac, ipv6, ip6(unix.IPPROTO_UDP, other.linkLocal(), b.v6, udp(7))),
		"an ARP reply for another":             frame(b.mac, a.mac, unix.ETH_P_ARP, arp(2, a.mac, other.v4, b.v4)),
		"an ARP request from another":          frame(b.mac, a.mac, unix.ETH_P_ARP, arp(1, a.mac, other.v4, b.v4)),
		"an ARP reply with another's MAC":      frame(b.mac, a.mac, unix.ETH_P_ARP, arp(2, other.mac, a.v4, b.v4)),
		"an advertisement for another":         frame(b.mac, a.mac, ipv6, icmp6(a.v6, b.v6, 136, other.v6)),
		"a claim of another's address":         frame(b.mac, a.mac, ipv6, icmp6(netip.IPv6Unspecified(), b.v6, 135, other.v6)),
		"a solicitation from another":          frame(b.mac, a.mac, ipv6, icmp6(other.v6, b.v6, 135, b.v6)),
		"a router advertisement":               frame(b.mac, a.mac, ipv6, icmp6(a.linkLocal(), b.v6, 134, netip.IPv6Unspecified())),
		"a redirect":                           frame(b.mac, a.mac, ipv6, icmp6(a.linkLocal(), b.v6, 137, other.v6)),
		"a frame with a VLAN tag":              frame(b.mac, a.mac, vlan, tagged),
		"a frame that is neither IP nor ARP":   frame(b.mac, a.mac, experiment, []byte(place)),
		"a packet from nobody, not for DHCP":   frame(b.mac, a.mac, ip, ip4(netip.IPv4Unspecified(), b.v4, udp(7))),
		"an IPv6 packet from nobody, not ND":   frame(b.mac, a.mac, ipv6, ip6(unix.IPPROTO_UDP, netip.IPv6Unspecified(), b.v6, udp(7))),
		"an ARP probe with another's MAC":      frame(b.mac, a.mac, unix.ETH_P_ARP, arp(1, other.mac, netip.IPv4Unspecified(), b.v4)),
		"an advertisement of the gateway's":    frame(b.mac, a.mac, ipv6, icmp6(a.linkLocal(), b.v6, 136, netip.MustParseAddr("fd00:244::1"))),
		"an ARP announcement of the gateway's": frame(b.mac, a.mac, unix.ETH_P_ARP, arp(1, a.mac, netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("10.244.0.1"))),
	}
}

// honest are frames as any host sends them.
func honest(a, b host) map[string][]byte {
	const ip, ipv6 = unix.ETH_P_IP, unix.ETH_P_IPV6
	return map[string][]byte{
		"an IPv4 packet":                 frame(b.mac, a.mac, ip, ip4(a.v4, b.v4, udp(7))),
		"an IPv6 packet":                 frame(b.mac, a.mac, ipv6, ip6(unix.IPPROTO_UDP, a.v6, b.v6, udp(7))),
		"an ARP request":                 frame(b.mac, a.mac, unix.ETH_P_ARP, arp(1, a.mac, a.v4, b.v4)),
		"an ARP probe":                   frame(b.mac, a.mac, unix.ETH_P_ARP, arp(1, a.mac, netip.IPv4Unspecified(), b.v4)),
		"a DHCP request":                 frame(b.mac, a.mac, ip, ip4(netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255}), udp(67))),
		"a solicitation":                 frame(b.mac, a.mac, ipv6, icmp6(a.linkLocal(), b.v6, 135, b.v6)),
		"an advertisement":               frame(b.mac, a.mac, ipv6, icmp6(a.v6, b.v6, 136, a.v6)),
		"the search for an equal":        frame(b.mac, a.mac, ipv6, icmp6(netip.IPv6Unspecified(), b.v6, 135, a.v6)),
		"the search for a router":        frame(b.mac, a.mac, ipv6, icmp6(netip.IPv6Unspecified(), b.v6, 133, netip.IPv6Unspecified())),
		"what it listens to (multicast)": frame(b.mac, a.mac, ipv6, icmp6(netip.IPv6Unspecified(), b.v6, 143, netip.IPv6Unspecified())),
	}
}

// packetSocket sends and receives whole frames on a pod's interface.
func packetSocket(t *testing.T, ns *nstest.NS) int {
	t.Helper()
	all := int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)))
	var fd int
	err := ns.Do(func() (err error) {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: link.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// named is a name of the size of place.
func named(name string) []byte { return fmt.Appendf(nil, "<%*s>", len(place)-2, name) }

// arrive sends frames from one pod to another, and tells which of them have come; an honest one, which must, is sent behind them.
func arrive(t *testing.T, from, to *roletest.Pod, frames map[string][]byte, last []byte) map[string]bool {
	t.Helper()
	sender, receiver := packetSocket(t, from.NS), packetSocket(t, to.NS)
	names, end := map[string][]byte{}, named("the last")
	send := func(f, name []byte) {
		if _, err := unix.Write(sender, bytes.ReplaceAll(f, []byte(place), name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, f := range frames {
		names[name] = named(fmt.Sprint(len(names)))
		send(f, names[name])
	}
	send(last, end)
	limit := unix.NsecToTimeval((5 * time.Second).Nanoseconds())
	if err := unix.SetsockoptTimeval(receiver, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	seen, buffer := map[string]bool{}, make([]byte, 2000)
	for {
		n, err := unix.Read(receiver, buffer)
		if err != nil {
			t.Fatalf("an honest frame does not arrive: %v", err)
		}
		if bytes.Contains(buffer[:n], end) {
			return seen
		}
		for name, mark := range names {
			if bytes.Contains(buffer[:n], mark) {
				seen[name] = true
			}
		}
	}
}

// routerAdvertisement is one that is good, but for whom it is from.
func routerAdvertisement(from host) []byte {
	all := netip.MustParseAddr("ff02::1")
	message := []byte{134, 0, 0, 0, 64, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0} // a router for 60 s
	b := ip6(unix.IPPROTO_ICMPV6, from.linkLocal(), all, message)
	sum := uint32(len(message) + unix.IPPROTO_ICMPV6)
	for i := 8; i < len(b); i += 2 { // addresses and message
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[42:], ^uint16(sum+sum>>16))
	return frame(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, from.mac, unix.ETH_P_IPV6, b)
}

// A host that routes no IPv6 would believe a router.
func TestTheHostTakesNoPodForARouter(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := n.Add("bridge", "a", conf(t.TempDir(), `"isGateway": false`))
	socket := packetSocket(t, p.NS)
	advertise := func() string {
		for range 3 {
			if _, err := unix.Write(socket, routerAdvertisement(hostOf(t, p))); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(50 * time.Millisecond) // nothing tells that it was not taken
		return n.Host.Run("ip", "-6", "route", "show", "default")
	}
	if out := advertise(); out != "" {
		t.Errorf("the host has a router: %s", out)
	}
	n.Host.Run("sysctl", "-qw", "net.ipv6.conf.cni0.accept_ra=1")
	if out := advertise(); !strings.Contains(out, "via fe80::") {
		t.Errorf("the advertisement is no good: %q", out)
	}
}

// With ipspoofchk a pod can claim to be nobody else; without, it can.
func TestAPodThatForgesReachesNobody(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		t.Run(fmt.Sprint(on), func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			c := conf(t.TempDir(), fmt.Sprintf(`"isGateway": true, "ipspoofchk": %t`, on))
			a, b, other := n.Add("bridge", "a", c), n.Add("bridge", "b", c), n.Add("bridge", "other", c)
			ping(t, a.NS, b, true)
			ping(t, a.NS, other, true)
			ping(t, n.Host, a, true)
			from, to := hostOf(t, a), hostOf(t, b)
			plain := frame(to.mac, from.mac, unix.ETH_P_IP, ip4(from.v4, to.v4, udp(7)))
			frames := forged(from, to, hostOf(t, other))
			seen := arrive(t, a, b, frames, plain)
			for name := range frames {
				if seen[name] == on {
					t.Errorf("%s arrives: %t", name, seen[name])
				}
			}
			good := honest(from, to)
			seen = arrive(t, a, b, good, plain)
			for name := range good {
				if !seen[name] {
					t.Errorf("%s does not arrive", name)
				}
			}
			for _, p := range []string{"a", "b", "other"} {
				if err := n.Check("bridge", p, c); err != nil {
					t.Errorf("CHECK: %v", err)
				}
				n.Del("bridge", p, c)
			}
			n.Clean("cni0")
		})
	}
}

func TestAddressCheckNeedsAddresses(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for keys, want := range map[string]string{
		`"ipspoofchk": true`: "ipspoofchk: without ipam",
		`"ipspoofchk": true, "vlanTrunk": [{"id": 7}], "ipam": {"type": "static", "addresses": [{"address": "10.1.2.3/24"}]}`: "ipspoofchk: not together with vlanTrunk",
	} {
		_, err := n.Do(roletest.Call{Verb: "ADD", Role: "bridge", Pod: n.Pod("a"), Conf: `{"cniVersion": "1.1.0", "name": "mynet", "type": "bridge", ` + keys + `}`})
		errtest.WantKey(t, err, errcode.InvalidConfig, want)
	}
}
