package ipvlan

import (
	"testing"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// FuzzConf reads any configuration: a refusal has a code for just that, and what is accepted makes a plan that the kernel has numbers for.
func FuzzConf(f *testing.F) {
	for _, s := range []string{`{"master":"eth0","mode":"l3s","mtu":1400,"flag":"private"}`, `{"mode":""}`, `{"flag":"vepa"}`, `{"linkInContainer":true}`, `[]`, `{`} {
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
		x := c.plan(nil)
		if err := roles.CheckMTU(x.Link.MTU); err != nil || x.Link.Kind != netutil.IPvlan || x.Link.Child.Mode > 2 || x.Link.Child.Flags > 2 {
			t.Fatalf("link %+v, %v", x.Link, err)
		}
	})
}
