package netutil_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/nstest"
)

// flow is a line of the conntrack table: a client's packets to one address, answered from another.
type flow struct {
	what               string
	protocol           uint8
	client, to, answer string // address and port
}

func (f flow) kernel() *netlink.ConntrackFlow {
	client, to, answer := netip.MustParseAddrPort(f.client), netip.MustParseAddrPort(f.to), netip.MustParseAddrPort(f.answer)
	tuple := func(src, dst netip.AddrPort) netlink.IPTuple {
		return netlink.IPTuple{
			Protocol: f.protocol, SrcIP: src.Addr().AsSlice(), SrcPort: src.Port(), DstIP: dst.Addr().AsSlice(), DstPort: dst.Port(),
		}
	}
	out := &netlink.ConntrackFlow{FamilyType: unix.AF_INET, Forward: tuple(client, to), Reverse: tuple(answer, client), TimeOut: 100}
	if client.Addr().Is6() {
		out.FamilyType = unix.AF_INET6
	}
	if f.protocol == unix.IPPROTO_TCP {
		out.ProtoInfo = &netlink.ProtoInfoTCP{State: 3} // established (linux/netfilter/nf_conntrack_tcp.h)
	}
	return out
}

const (
	udp = unix.IPPROTO_UDP
	tcp = unix.IPPROTO_TCP
)

// The host's addresses are 192.0.2.1, 192.0.2.2 and fd00::1; the pod's 10.9.0.5 and fd09::5.
var flows = []flow{
	{"to the host itself", udp, "198.51.100.1:1001", "192.0.2.1:53", "192.0.2.1:53"},
	{"to a former pod", udp, "198.51.100.1:1002", "192.0.2.2:53", "10.9.0.4:5353"},
	{"from the host over loopback", udp, "127.0.0.1:1003", "127.0.0.1:53", "127.0.0.1:53"},
	{"to the pod", udp, "198.51.100.1:1004", "192.0.2.1:53", "10.9.0.5:5353"},
	{"to another port of the pod", udp, "198.51.100.1:1005", "192.0.2.1:53", "10.9.0.5:5354"},
	{"to another host port", udp, "198.51.100.1:1006", "192.0.2.1:54", "10.9.0.4:5353"},
	{"to the same port of another host", udp, "10.9.0.7:1007", "203.0.113.1:53", "203.0.113.1:53"},
	{"by TCP", tcp, "198.51.100.1:1008", "192.0.2.1:53", "192.0.2.1:53"},
	{"by IPv6 to the host itself", udp, "[fd01::1]:1009", "[fd00::1]:53", "[fd00::1]:53"},
	{"by IPv6 to the pod", udp, "[fd01::1]:1010", "[fd00::1]:53", "[fd09::5]:5353"},
}

func TestEndFlowsOfAMappingOnly(t *testing.T) {
	mapping := nft.PortEntry{Protocol: udp, HostPort: 53, Addr: netip.MustParseAddr("10.9.0.5"), Port: 5353}
	with := func(change func(*nft.PortEntry)) []nft.PortEntry {
		m := mapping
		change(&m)
		return []nft.PortEntry{m}
	}
	tests := []struct {
		name  string
		end   func(*netutil.Namespace, []nft.PortEntry) error
		ports []nft.PortEntry
		gone  []string
	}{
		{
			"added, every address", netutil.EndStaleFlows,
			with(func(*nft.PortEntry) {}),
			[]string{"to the host itself", "to a former pod", "from the host over loopback", "to another port of the pod"},
		},
		{
			"added, several ports", netutil.EndStaleFlows,
			append(with(func(m *nft.PortEntry) { m.HostPort = 55 }), mapping),
			[]string{"to the host itself", "to a former pod", "from the host over loopback", "to another port of the pod"},
		},
		{
			"added, one address", netutil.EndStaleFlows,
			with(func(m *nft.PortEntry) { m.HostIP = netip.MustParseAddr("192.0.2.2") }),
			[]string{"to a former pod"},
		},
		{
			"added, with conditions", netutil.EndStaleFlows,
			with(func(m *nft.PortEntry) {
				m.Conditions = []nft.Condition{
					{Key: "saddr", Value: "198.51.100.0/24"}, {Key: "daddr", Value: "192.0.2.2/32", Negate: true}, {Key: "mark", Value: "0x1"},
				}
			}),
			[]string{"to the host itself", "to another port of the pod"},
		},
		{
			"added, IPv6", netutil.EndStaleFlows,
			with(func(m *nft.PortEntry) { m.Addr = netip.MustParseAddr("fd09::5") }),
			[]string{"by IPv6 to the host itself"},
		},
		{"added, TCP", netutil.EndStaleFlows, with(func(m *nft.PortEntry) { m.Protocol = tcp }), nil},
		{"added, nothing", netutil.EndStaleFlows, nil, nil},
		{"removed", netutil.EndFlows, with(func(*nft.PortEntry) {}), []string{"to the pod"}},
		{
			"removed, one address", netutil.EndFlows,
			with(func(m *nft.PortEntry) { m.HostIP = netip.MustParseAddr("192.0.2.2") }), nil,
		},
		{
			"removed, both families", netutil.EndFlows,
			append(with(func(m *nft.PortEntry) { m.Addr = netip.MustParseAddr("fd09::5") }), mapping),
			[]string{"to the pod", "by IPv6 to the pod"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := hostWithFlows(t)
			if err := tt.end(n, tt.ports); err != nil {
				t.Fatal(err)
			}
			left := flowsLeft(t, n)
			for _, f := range flows {
				if got, want := !slices.Contains(left, f.what), slices.Contains(tt.gone, f.what); got != want {
					t.Errorf("flow %s: gone: %t, want %t", f.what, got, want)
				}
			}
		})
	}
}

func hostWithFlows(t *testing.T) *netutil.Namespace {
	t.Helper()
	ns := nstest.New(t, "host")
	ns.Run("ip", "link", "add", "br0", "up", "type", "bridge")
	for _, a := range []string{"192.0.2.1/24", "192.0.2.2/24", "fd00::1/64"} {
		ns.Run("ip", "addr", "add", a, "dev", "br0", "nodad")
	}
	ns.Run("ip", "route", "add", "default", "via", "192.0.2.99")
	// A busy kernel takes its time to make an IPv6 address its own.
	for end := time.Now().Add(10 * time.Second); !strings.Contains(ns.Run("ip", "-6", "route", "show", "table", "local"), "fd00::1"); {
		if time.Now().After(end) {
			t.Fatal("fd00::1 is not local")
		}
	}
	n := open(t, ns)
	h := conntrackHandle(t, n)
	for _, f := range flows {
		k := f.kernel()
		if err := h.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(k.FamilyType), k); err != nil {
			t.Fatalf("make the flow %s: %v", f.what, err)
		}
	}
	return n
}

func conntrackHandle(t *testing.T, n *netutil.Namespace) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandleAt(netns.NsHandle(n.FD()), unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// flowsLeft names the flows that the kernel still has.
func flowsLeft(t *testing.T, n *netutil.Namespace) []string {
	t.Helper()
	h := conntrackHandle(t, n)
	var left []string
	for _, fam := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		list, err := h.ConntrackTableList(netlink.ConntrackTable, fam)
		for errors.Is(err, netlink.ErrDumpInterrupted) {
			list, err = h.ConntrackTableList(netlink.ConntrackTable, fam)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list {
			client := netip.AddrPortFrom(addr(k.Forward.SrcIP), k.Forward.SrcPort).String()
			for _, f := range flows {
				if f.client == client {
					left = append(left, f.what)
				}
			}
		}
	}
	return left
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
