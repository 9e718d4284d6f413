package firewall

import (
	"net/netip"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// FuzzConf reads any configuration: a refusal has a code for just that, and what is accepted makes a plan for all addresses.
func FuzzConf(f *testing.F) {
	for _, s := range []string{
		`{"backend":"nftables","iptablesAdminChainName":"CNI-ADMIN","firewalldZone":"trusted","ingressPolicy":"isolated"}`,
		`{"backend":"iptables","ingressPolicy":"same-bridge"}`, `{"backend":"firewalld","firewalldZone":"a/b"}`, `{"BACKEND":""}`, `null`, `[]`, `{`,
	} {
		f.Add(s)
	}
	ips := []roles.IP{{Prefix: netip.MustParsePrefix("10.0.0.5/24")}, {Prefix: netip.MustParsePrefix("fd00::5/64")}}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := load(&roles.Request{Conf: []byte(text)})
		if err != nil {
			if code := errcode.Of(err); code != errcode.InvalidConfig && code != errcode.DecodingFailure {
				t.Fatalf("code %d: %v", code, err)
			}
			return
		}
		p, err := c.plan(owner.Owner{Network: "net", ContainerID: "pod", IfName: "eth0"}, ips, surroundings{link: "br0", bridge: "br0"})
		if err != nil {
			t.Fatal(err)
		}
		admitted := 0
		for _, e := range p.Filter {
			if fwd, ok := e.(nft.ForwardEntry); ok && fwd.Admin != "" {
				admitted++
			}
		}
		if admitted != len(ips) {
			t.Fatalf("%d addresses admitted, want %d", admitted, len(ips))
		}
	})
}
