package ptp

import (
	"net/netip"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// FuzzConf reads any configuration: a refusal has a code for just that, and what is accepted makes a plan that the kernel has numbers for.
func FuzzConf(f *testing.F) {
	for _, s := range []string{
		`{"ipMasq":true,"ipMasqBackend":"nftables","mtu":1400,"dns":{"nameservers":["10.0.0.53"]},"ipam":{"type":"x"}}`,
		`{"mtu":67,"ipam":{"type":"x"}}`, `{"ipam":{}}`, `{"IPAM":{"TYPE":"x"},"mtu":65535}`, `{"mtu":1e3,"ipam":{"type":"x"}}`, `[]`, `{`,
	} {
		f.Add(s)
	}
	o := owner.Owner{Network: "net", ContainerID: "pod", IfName: "eth0"}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := load(&roles.Request{Conf: []byte(text)})
		if err != nil {
			if code := errcode.Of(err); code != errcode.InvalidConfig && code != errcode.DecodingFailure {
				t.Fatalf("code %d: %v", code, err)
			}
			return
		}
		ips := []roles.IP{
			{Prefix: netip.MustParsePrefix("10.0.0.5/24"), Gateway: netip.MustParseAddr("10.0.0.1")},
			{Prefix: netip.MustParsePrefix("fd00::5/64"), Gateway: netip.MustParseAddr("fe80::1")},
		}
		p, err := roles.PlanRouted(o, o.MAC(), c.routed(), ips, nil)
		if roles.CheckMTUFor(ips, c.MTU) != nil {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := roles.CheckMTU(p.Links[0].MTU); err != nil || p.Links[0].MTU != p.Links[0].Peer.MTU {
			t.Fatalf("link %+v, %v", p.Links[0], err)
		}
		if want := map[bool]int{true: len(ips)}[c.IPMasq]; len(p.Filter) != want {
			t.Fatalf("%d filter entries, want %d", len(p.Filter), want)
		}
	})
}
