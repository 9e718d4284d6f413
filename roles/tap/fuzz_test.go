package tap

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
		`{"multiQueue":true,"mtu":1400,"mac":"02:00:00:00:00:01","owner":107,"group":0,"bridge":"br0","selinuxContext":"a:b:c:s0"}`,
		`{"owner":4294967295}`, `{"group":-1}`, `{"mtu":67}`, `{"runtimeConfig":{"mac":"x"}}`, `[]`, `{`,
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
		ips := []roles.IP{{Prefix: netip.MustParsePrefix("10.0.0.5/24")}, {Prefix: netip.MustParsePrefix("fd00::5/64")}}
		p, err := c.plan(o, o.MAC(), ips, nil)
		if roles.CheckMTUFor(ips, c.MTU) != nil {
			return
		}
		if err != nil || roles.CheckMTU(p.Links[0].MTU) != nil || len(p.Addrs) != len(ips) {
			t.Fatalf("plan %+v, %v", p, err)
		}
	})
}
