package sbr

import (
	"net/netip"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// FuzzConf reads any configuration: a refusal has a code for just that, and what is accepted makes a plan that the kernel has numbers for.
func FuzzConf(f *testing.F) {
	for _, s := range []string{
		`{"table":100}`, `{"table":4294967296}`, `{"gateways":["10.0.0.1","fd00::1"],"addSourceHints":true}`, `{"gateways":["::ffff:10.0.0.1"]}`, `[]`, `{`,
	} {
		f.Add(s)
	}
	ips := []roles.IP{{Prefix: netip.MustParsePrefix("10.0.0.5/24")}, {Prefix: netip.MustParsePrefix("fd00::5/64"), Gateway: netip.MustParseAddr("fd00::1")}}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := load(&roles.Request{Conf: []byte(text)})
		if err != nil {
			if code := errcode.Of(err); code != errcode.InvalidConfig && code != errcode.DecodingFailure {
				t.Fatalf("code %d: %v", code, err)
			}
			return
		}
		for i, st := range c.plan(ips) {
			for _, g := range st.Gateways {
				if g.Is6() != ips[i].Is6() || st.Table != 0 {
					t.Fatalf("%+v", st)
				}
			}
		}
	})
}
