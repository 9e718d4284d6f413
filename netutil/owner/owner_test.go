package owner

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var pod = Owner{Network: "mynet", ContainerID: "4b1f", IfName: "eth0"}

// What is written into the kernel outlives an upgrade: another name would be found by no DEL.
func TestNamesStayTheSame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{pod.String(), "mynet/4b1f/eth0"},
		{pod.LinkName(), "vethks970avks0s"},
		{pod.MAC().String(), "02:d3:71:d0:58:24"},
		{pod.PodMAC(netip.Addr{}).String(), "06:4f:78:2d:99:06"},
		{pod.PodMAC(netip.MustParseAddr("fd00::5")).String(), "06:60:76:23:4b:37"},
		{pod.PodMAC(netip.MustParseAddr("10.244.0.5")).String(), "0a:58:0a:f4:00:05"},
		{NetworkText("a-network-with-a-long-name", 20), "a-netw~98i1vndeheu96"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

// Names and addresses of links fit the kernel, and no two of many owners share one.
func TestLinkNamesAreUnique(t *testing.T) {
	t.Parallel()
	const many = 200_000
	names, macs := make(map[string]Owner, many), make(map[string]Owner, many)
	for i := range many / 4 {
		for _, o := range []Owner{
			{"net", fmt.Sprintf("%064x", i), "eth0"},
			{"net", fmt.Sprintf("%064x", i), "eth1"},
			{fmt.Sprint("net", i), "pod", "eth0"},
			{"n", fmt.Sprint("et", i), "podeth0"}, // the parts run together are those of others
		} {
			name, mac := o.LinkName(), o.MAC()
			if len(name) != 15 || !strings.HasPrefix(name, LinkPrefix) || strings.Trim(name[4:], "0123456789abcdefghijklmnopqrstuv") != "" {
				t.Fatalf("%v: %q", o, name)
			}
			if len(mac) != 6 || mac[0] != 0x02 {
				t.Fatalf("%v: MAC address %s", o, mac)
			}
			if other, ok := names[name]; ok {
				t.Fatalf("%v and %v share the name %s", o, other, name)
			}
			names[name] = o
			macs[mac.String()] = o
		}
	}
	if len(macs) < many-many/100 { // 40 bits: a few may meet
		t.Errorf("%d MAC addresses for %d owners", len(macs), many)
	}
	for _, o := range []Owner{{"a", "bc", "d"}, {"ab", "c", "d"}, {"a", "b", "cd"}, {"", "abc", "d"}} {
		if other, ok := names[o.LinkName()]; ok {
			t.Errorf("%v and %v share a name", o, other)
		}
		names[o.LinkName()] = o
	}
}

func TestPodMAC(t *testing.T) {
	t.Parallel()
	seen := map[string]netip.Addr{}
	for _, s := range []string{"10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "fd00:0:0:1::1"} {
		addr := netip.MustParseAddr(s)
		mac := pod.PodMAC(addr)
		if len(mac) != 6 || mac[0]&3 != 2 {
			t.Errorf("%s: %s is not unicast and locally administered", addr, mac)
		}
		if other := (Owner{Network: "other"}).PodMAC(addr); other.String() != mac.String() {
			t.Errorf("%s: %s and %s for two owners; it is to follow the address", addr, mac, other)
		}
		if before, ok := seen[mac.String()]; ok {
			t.Errorf("%s and %s share %s", before, addr, mac)
		}
		seen[mac.String()] = addr
	}
	if a, b := pod.PodMAC(netip.Addr{}), pod.MAC(); a.String() == b.String() || a[0]&3 != 2 {
		t.Errorf("without an address: %s, on the host side %s", a, b)
	}
}

// name is a random network's name or container ID as the specification allows them. Many begin alike, or differ at the end only.
func name(r *rand.Rand, longest int) string {
	b := []byte(strings.Repeat("ab", longest/3*r.IntN(2)) + "c")
	for range r.IntN(longest / 3) {
		b = append(b, "aab_.-"[r.IntN(6)])
	}
	return string(b)
}

// A text fits its limit, is no other owner's, and tells its network from all others, whatever limit it was made for.
func TestTexts(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	owners := map[string]Owner{}
	networks := map[string]bool{}
	for range 3000 {
		o := Owner{name(r, 70), name(r, 70), []string{"eth0", "e", "fifteen~bytes_x"}[r.IntN(3)]}
		networks[o.Network] = true
		for _, limit := range []int{34 + len(o.IfName), 49, 50, 64, 100, 128, 255} {
			text := o.Text(limit)
			if len(text) > limit {
				t.Fatalf("%v: %q has %d bytes, more than %d", o, text, len(text), limit)
			}
			if other, ok := owners[text]; ok && other != o {
				t.Fatalf("%v and %v share %q", o, other, text)
			}
			owners[text] = o
			if s := o.String(); len(s) <= limit && text != s {
				t.Fatalf("%v: %q was to be whole", o, text)
			}
			if !strings.HasSuffix(text, "/"+o.IfName) || strings.Count(text, "/") != 2 {
				t.Fatalf("%v: %q", o, text)
			}
		}
	}
	n := 0
	for text, o := range owners {
		for network := range networks {
			if InNetwork(text, network) != (network == o.Network) {
				t.Fatalf("%q of %v: in network %q: %t", text, o, network, network != o.Network)
			}
		}
		if n++; n == 500 {
			break
		}
	}
}

// Aliases and comments that others wrote are in no network of ours.
func TestInNetworkOfForeignTexts(t *testing.T) {
	t.Parallel()
	const long = "a-network-whose-name-is-too-long-for-most-limits"
	hash := Owner{Network: long}.hash()
	for text, want := range map[string]bool{
		"":                                  false,
		long:                                false,
		long + "/id/eth0":                   true,
		long[:9] + "~" + hash + "/id/eth0":  true,
		"~" + hash + "/id/eth0":             true,
		"~" + hash:                          false,
		hash + "/id/eth0":                   false,
		"~/id/eth0":                         false,
		long[:9] + "/id~" + hash + "/eth0":  false,
		"net/id~" + hash + "/eth0":          false,
		"other~" + hash + "/id/eth0":        false, // the name of a network that looks like a cut one
		long + "~" + hash + "/id/eth0":      false,
		long[:40] + "~" + hash + "/id/eth0": false, // longer than the name itself: it would not have been cut
	} {
		if got := InNetwork(text, long); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
	if InNetwork("/id/eth0", "net") || InNetwork("ne/id/eth0", "net") || InNetwork("net2/id/eth0", "net") {
		t.Error("a part of a name is not the name")
	}
}
