package firewall

import (
	"encoding/json"
	"net"
	"net/netip"
	"reflect"
	"testing"

	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/roletest"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	pod := netip.MustParsePrefix("10.1.0.5/16")
	subnet, alone := pod.Masked(), netip.MustParsePrefix("10.1.0.5/32")
	onBridge := surroundings{link: "br0.7", bridge: "br0", port: "vethx"}
	filtered := onBridge
	filtered.filtered, filtered.mac = true, net.HardwareAddr{0x0a, 0x58, 10, 1, 0, 5}
	local := netip.MustParseAddr("fe80::858:aff:fe01:5")
	forward := nft.ForwardEntry{Addr: pod.Addr(), Link: "br0.7", Subnet: subnet, Admin: "CNI-ADMIN"}
	routed, unknown := forward, forward
	routed.Link, unknown.Link, unknown.Subnet = "veth*", "", alone
	for _, tt := range []struct {
		name, policy string
		s            surroundings
		want         []nft.Entry
	}{
		{"open", policyOpen, onBridge, []nft.Entry{forward}},
		{"same bridge", policySameBridge, onBridge, []nft.Entry{forward, nft.IngressEntry{Addr: pod.Addr(), From: "br0.7"}}},
		{"isolated", policyIsolated, onBridge, []nft.Entry{forward, nft.IngressEntry{Addr: pod.Addr()}, nft.IsolateEntry{Port: "vethx"}}},
		{"isolated by IP's packet filter", policyIsolated, filtered, []nft.Entry{forward, nft.IngressEntry{Addr: pod.Addr()}, nft.IngressEntry{Addr: local}}},
		{"routed", policyIsolated, surroundings{link: "veth*"}, []nft.Entry{routed, nft.IngressEntry{Addr: pod.Addr()}}},
		{"link not known", policyOpen, surroundings{}, []nft.Entry{unknown}},
	} {
		c := &conf{IngressPolicy: tt.policy}
		c.setDefaults()
		p, err := c.plan(owner.Owner{}, []roles.IP{{Prefix: pod}}, tt.s)
		if err != nil || !reflect.DeepEqual(p.Filter, tt.want) {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, p, err, tt.want)
		}
	}
}

// The README's examples are configurations that the role takes.
func TestReadmeExamples(t *testing.T) {
	t.Parallel()
	examples := roletest.ReadmeExamples(t, 2) // a list, and a plugin alone
	var list struct{ Plugins []json.RawMessage }
	if err := json.Unmarshal([]byte(examples[0]), &list); err != nil {
		t.Fatal(err)
	}
	for conf, want := range map[string]conf{
		string(list.Plugins[1]): {backendNFTables, "CNI-ADMIN", "trusted", policySameBridge},
		examples[1]:             {backendFirewalld, "CNI-ADMIN", "trusted", policyOpen},
	} {
		if got, err := load(&roles.Request{Conf: []byte(conf)}); err != nil || *got != want {
			t.Errorf("%s: %+v, %v; want %+v", conf, got, err, want)
		}
	}
}
