package nft_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/nft"
)

func twoNodes(network string) *nft.Overlay {
	return &nft.Overlay{
		Network: network, Port: 4789, VNI: 42,
		Peers: []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")},
		Subnets: []netip.Prefix{
			netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("10.244.2.0/24"), netip.MustParsePrefix("fd00:1::/64"), netip.MustParsePrefix("255.255.255.0/24"),
		},
		Device: "vxlan42",
		Local:  []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:1::/64")},
		Direct: []netip.Prefix{netip.MustParsePrefix("10.244.2.0/24")},
	}
}

// setOverlay is the number of differences that were found.
func (h *host) setOverlay(o *nft.Overlay) int {
	h.t.Helper()
	n, err := h.tables().SetOverlay(o)
	if err != nil {
		h.t.Fatalf("overlay: %v", err)
	}
	return n
}

func (h *host) wantOverlay(o *nft.Overlay, differences int) {
	h.t.Helper()
	n, err := h.tables().VerifyOverlay(o)
	if err != nil || n != differences {
		h.t.Errorf("%d differences, %v; want %d", n, err, differences)
	}
}

func TestAnOverlayIsWhatItsListSays(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	o := twoNodes("podnet")
	h.wantOverlay(o, 1)
	if h.setOverlay(o) == 0 {
		t.Error("nothing was missing")
	}
	if n := h.setOverlay(o); n != 0 {
		t.Errorf("%d differences the second time", n)
	}
	h.wantOverlay(o, 0)
	list := h.list()
	for _, want := range []string{
		`4789 . 0x2a comment "overlay podnet"`, `192.0.2.2 . 4789 . 0x2a comment "overlay podnet"`, `2001:db8::2 . 4789 . 0x2a comment "overlay podnet"`,
		`"vxlan42" comment "overlay podnet"`, `10.244.1.0/24 comment "overlay podnet 10.244.1.0/24"`, `10.244.2.0/24 comment`, `fd00:1::/64 comment`, `255.255.255.0/24 comment`,
	} {
		if !strings.Contains(list, want) {
			t.Errorf("no %s in\n%s", want, list)
		}
	}
	// A peer goes, another comes.
	o.Peers = []netip.Addr{netip.MustParseAddr("192.0.2.3")}
	o.Subnets = append(o.Subnets[:1], netip.MustParsePrefix("10.244.3.0/24"))
	o.Local, o.Direct, o.Device = o.Local[:1], nil, ""
	h.setOverlay(o)
	list = h.list()
	for _, gone := range []string{"192.0.2.2", "2001:db8", "10.244.2.0", "fd00:1", "255.255.255.0", "vxlan42"} {
		if strings.Contains(list, gone) {
			t.Errorf("%s is left", gone)
		}
	}
	if !strings.Contains(list, "192.0.2.3 . 4789 . 0x2a") || !strings.Contains(list, "10.244.3.0/24") {
		t.Errorf("what has come is not there:\n%s", list)
	}
	// Another network's stays.
	other := &nft.Overlay{Network: "other", Port: 4790, Subnets: []netip.Prefix{netip.MustParsePrefix("10.245.0.0/16")}}
	h.setOverlay(other)
	for range 2 {
		if err := h.tables().RemoveOverlay("podnet"); err != nil {
			t.Fatal(err)
		}
	}
	h.wantOverlay(other, 0)
	if list := h.list(); strings.Contains(list, "podnet") {
		t.Errorf("left is\n%s", list)
	}
}

func TestOverlaysOfOnePort(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	one, two := twoNodes("one"), twoNodes("two")
	two.VNI = 43
	two.Subnets = []netip.Prefix{netip.MustParsePrefix("10.245.0.0/16")}
	two.Device, two.Local, two.Direct = "vxlan43", two.Subnets, nil
	two.Peers = append(two.Peers[:1:1], netip.MustParseAddr("192.0.2.4"))
	h.plugin(func(t *nft.Tables) error { _, err := t.SetOverlay(one); return err })
	h.plugin(func(t *nft.Tables) error { _, err := t.SetOverlay(two); return err })
	for _, o := range []*nft.Overlay{one, two} {
		h.wantOverlay(o, 0)
		if right, err := h.tables().SpotOverlay(o); err != nil || !right {
			t.Errorf("%s is right: %t, %v", o.Network, right, err)
		}
	}
	h.plugin(func(t *nft.Tables) error { return t.RemoveOverlay("one") })
	h.wantOverlay(two, 0)
	if list := h.list(); strings.Contains(list, "2001:db8::2") || strings.Contains(list, "overlay one") || !strings.Contains(list, `192.0.2.2 . 4789 . 0x2b comment "overlay two"`) {
		t.Errorf("left is\n%s", list)
	}
	h.plugin(func(t *nft.Tables) error { return t.RemoveOverlay("two") })
	if list := h.list(); strings.Contains(list, "overlay") {
		t.Errorf("left is\n%s", list)
	}
}

func TestAnOverlayComesBack(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	o := twoNodes("podnet")
	h.setOverlay(o)
	for _, spoil := range []string{
		"delete element inet cnibox inside_ipv4 { 10.244.1.0/24 }", "delete element inet cnibox tunnels { 4789 . 42 }",
		"delete element inet cnibox tunnel_peers_ipv4 { 192.0.2.2 . 4789 . 42 }", "flush set inet cnibox inside_ipv4",
		"flush set inet cnibox local_ipv6", "flush set inet cnibox direct_ipv4", "flush set inet cnibox tunnel_devices",
	} {
		h.Run("nft", spoil)
		if h.setOverlay(o) == 0 {
			t.Errorf("%s: nothing was missing", spoil)
		}
		h.wantOverlay(o, 0)
	}
	// With the next operation of anybody.
	h.plugin(func(t *nft.Tables) error { _, err := t.SetOverlay(o); return err })
	h.Run("nft", "flush", "ruleset")
	h.plugin(func(t *nft.Tables) error { return t.Heal() })
	h.wantOverlay(o, 0)
	h.Run("nft", "flush", "set", "inet", "cnibox", "inside_ipv6")
	h.plugin(func(t *nft.Tables) error { _, err := t.Restore(); return err })
	h.wantOverlay(o, 0)
	h.plugin(func(t *nft.Tables) error { return t.RemoveOverlay("podnet") })
	h.Run("nft", "flush", "ruleset")
	h.plugin(func(t *nft.Tables) error { return t.Heal() })
	if list := strings.TrimSpace(h.list()); list != "" {
		t.Errorf("there is\n%s", list)
	}
}
