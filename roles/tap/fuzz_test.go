package tap

import (
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
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
	f.Fuzz(func(t *testing.T, text string) {
		c, err := load(&roles.Request{Conf: []byte(text)})
		if err != nil {
			if code := errcode.Of(err); code != errcode.InvalidConfig && code != errcode.DecodingFailure {
				t.Fatalf("code %d: %v", code, err)
			}
			return
		}
		l := role{}.plan(c).Link
		if roles.CheckMTU(l.MTU) != nil || l.MAC != nil && len(l.MAC) != 6 || l.Tap.Owner != nil && *l.Tap.Owner == 1<<32-1 {
			t.Fatalf("link %+v, %+v", l, l.Tap)
		}
	})
}
