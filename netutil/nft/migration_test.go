package nft_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
)

// The tests of this file are about rules as the reference plugins write them, in cases that their pods seldom come to. The rest is in the root
// package, with these plugins themselves.

// deleteReference removes an attachment's rules, of which the addresses are known.
func (h *host) deleteReference(o owner.Owner, feature nft.Feature, addrs ...netip.Addr) {
	h.t.Helper()
	if err := h.tables().DeleteReference(o, func() []netip.Addr { return addrs }, feature); err != nil {
		h.t.Fatalf("delete: %v", err)
	}
}

// A pod's chain that an administrator leads others to stays, while its own rule goes.
func TestReferenceChainOfOthersStays(t *testing.T) {
	h := newHost(t)
	const masquerade = `iptables -t nat -N CNI-1; iptables -t nat -A CNI-1 -j MASQUERADE;
		iptables -t nat -A POSTROUTING -s 10.1.0.2 -m comment --comment 'name: "mynet" id: "one"' -j CNI-1;
		iptables -t nat -A POSTROUTING -s 10.7.0.0/16 -j CNI-1`
	h.Run("sh", "-c", masquerade)
	h.deleteReference(pod("one"), nft.Masquerade, addr("10.1.0.2"))
	saved := h.Run("iptables-save", "-t", "nat")
	if strings.Contains(saved, "10.1.0.2") || !strings.Contains(saved, "-A POSTROUTING -s 10.7.0.0/16 -j CNI-1") || !strings.Contains(saved, "-A CNI-1 -j MASQUERADE") {
		t.Errorf("left is\n%s", saved)
	}
	h.Run("iptables", "-t", "nat", "-D", "POSTROUTING", "1")
	h.Run("sh", "-c", `iptables -t nat -A POSTROUTING -s 10.1.0.2 -m comment --comment 'name: "mynet" id: "one"' -j CNI-1`)
	h.deleteReference(pod("one"), nft.Masquerade, addr("10.1.0.2"))
	if saved := h.Run("iptables-save", "-t", "nat"); strings.Contains(saved, "CNI-1") {
		t.Errorf("left is\n%s", saved)
	}
}

// A comment has room for 128 bytes. Where so little of the container's ID is left that it could be another's, only the address tells.
func TestReferenceCommentThatIsCut(t *testing.T) {
	h := newHost(t)
	o := pod(strings.Repeat("0", 60) + "1")
	o.Network = strings.Repeat("n", 60)
	comment := strings.Repeat("h", 33) + ", net: " + o.Network + ", if: eth0, id: " + o.ContainerID
	h.Run("nft", `table inet cni_plugins_masquerade { chain masq_checks { ip saddr 10.1.0.2 masquerade comment "`+comment[:128]+`"; }; }`)
	left := func() bool { return strings.Contains(h.list(), "10.1.0.2") }
	h.deleteReference(o, nft.Masquerade)
	h.deleteReference(o, nft.Masquerade, addr("10.1.0.3"))
	if !left() {
		t.Error("another's rule is gone")
	}
	h.deleteReference(o, nft.Masquerade, addr("10.1.0.2"))
	if left() {
		t.Errorf("left is\n%s", h.list())
	}
}

// A container's name and a network's are told apart, however they begin.
func TestReferenceRulesOfOthersStay(t *testing.T) {
	h := newHost(t)
	for i, id := range []string{"one", "one1"} {
		for j, network := range []string{"mynet", "mynet2"} {
			name := string(rune('a' + 2*i + j))
			h.Run("sh", "-c", `iptables -t nat -N CNI-`+name+`; iptables -t nat -A POSTROUTING -m comment --comment 'name: "`+network+`" id: "`+id+`"' -j CNI-`+name)
		}
	}
	chains := func() string {
		var out []string
		for _, name := range []string{"a", "b", "c", "d"} {
			if strings.Contains(h.Run("iptables-save", "-t", "nat"), "-j CNI-"+name) {
				out = append(out, name)
			}
		}
		return strings.Join(out, "")
	}
	h.deleteReference(pod("one"), nft.Masquerade)
	if got := chains(); got != "bcd" {
		t.Errorf("after DEL there are %q", got)
	}
	if err := h.tables().GCReference("mynet", nil, nft.Masquerade, nft.PortMap); err != nil {
		t.Fatal(err)
	}
	if got := chains(); got != "bd" {
		t.Errorf("after GC there are %q", got)
	}
}
