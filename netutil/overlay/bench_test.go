package overlay_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/overlay"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// manyPeers are peers with a subnet of each family.
func manyPeers(count int) (all []overlay.Peer) {
	for i := range count {
		a, b := byte(i>>8), byte(i)
		all = append(all, overlay.Peer{
			Name:     fmt.Sprintf("node%d", i),
			Underlay: []netip.Addr{netip.AddrFrom4([4]byte{172, 16 + a>>6, a & 63, b})},
			Subnets: []netip.Prefix{
				netip.PrefixFrom(netip.AddrFrom4([4]byte{10, a, b, 0}), 24),
				netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, a, b}), 64),
			},
		})
	}
	return all
}

// benchmark calls work with a node of so many peers.
func benchmark(b *testing.B, work func(b *testing.B, n *netutil.Namespace, c *overlay.Config)) {
	for _, count := range []int{1, 100, 1000, 5000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			host := nstest.New(b, "host")
			host.Run("ip", "link", "add", "eth0", "up", "type", "veth", "peer", "name", "eth1")
			host.Run("ip", "link", "set", "eth1", "up")
			host.Run("ip", "addr", "add", "172.31.255.1/12", "dev", "eth0")
			n, err := netutil.Open(host.Path)
			if err != nil {
				b.Fatal(err)
			}
			defer n.Close()
			work(b, n, &overlay.Config{
				Network: "podnet", VNI: 42, Port: overlay.DefaultPort, Underlay: netip.MustParseAddr("172.31.255.1"),
				Subnets: []netip.Prefix{netip.MustParsePrefix("10.255.0.0/24"), netip.MustParsePrefix("fd00:ff00::/64")}, Peers: manyPeers(count),
			})
		})
	}
}

func makeSo(b *testing.B, n *netutil.Namespace, c *overlay.Config) {
	b.Helper()
	if _, err := overlay.Sync(n, c); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkSync makes all of a node's part from nothing.
func BenchmarkSync(b *testing.B) {
	benchmark(b, func(b *testing.B, n *netutil.Namespace, c *overlay.Config) {
		for b.Loop() {
			makeSo(b, n, c)
			b.StopTimer()
			if err := overlay.Remove(n, c); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

// BenchmarkNothingToDo compares what is right.
func BenchmarkNothingToDo(b *testing.B) {
	benchmark(b, func(b *testing.B, n *netutil.Namespace, c *overlay.Config) {
		makeSo(b, n, c)
		for b.Loop() {
			makeSo(b, n, c)
		}
	})
}

// BenchmarkSpot is what ADD does where nothing has changed: it looks at 8 peers.
func BenchmarkSpot(b *testing.B) {
	benchmark(b, func(b *testing.B, n *netutil.Namespace, c *overlay.Config) {
		makeSo(b, n, c)
		some := *c
		some.Peers = c.Peers[:min(len(c.Peers), 8)]
		for b.Loop() {
			if right, _, err := overlay.Spot(n, &some); err != nil || !right {
				b.Fatal(right, err)
			}
		}
	})
}

// BenchmarkSpotBridged is the same where all pods are on one link, with so many pods that the tunnel's device has learnt of.
func BenchmarkSpotBridged(b *testing.B) {
	benchmark(b, func(b *testing.B, n *netutil.Namespace, c *overlay.Config) {
		pods := len(c.Peers)
		c.Bridge, c.Peers = "br0", c.Peers[:1]
		makeSo(b, n, c)
		learn(b, n, c, pods)
		for b.Loop() {
			if right, _, err := overlay.Spot(n, c); err != nil || !right {
				b.Fatal(right, err)
			}
		}
	})
}

func learn(b *testing.B, n *netutil.Namespace, c *overlay.Config, count int) {
	b.Helper()
	device, err := netutil.FindLink(n, c.DeviceName())
	if err != nil || device == nil {
		b.Fatal(device, err)
	}
	for i := range count {
		mac := net.HardwareAddr{0x0a, 0x58, 10, 244, byte(i >> 8), byte(i)}
		if _, err := netutil.Ask(n, rtnl.SetFDB(rtnl.FDB{Link: device.Index, MAC: mac, Remote: c.Peers[0].Underlay[0]})); err != nil {
			b.Fatal(err)
		}
	}
}
