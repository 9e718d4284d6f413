package vlan

import (
	"testing"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// FuzzConf reads any configuration: a refusal has a code for just that, and what is accepted makes a plan that the kernel has numbers for.
func FuzzConf(f *testing.F) {
	for _, s := range []string{`{"master":"eth0","vlanId":7,"mtu":1400,"protocol":"802.1AD"}`, `{"master":"x","vlanId":4095}`, `{"master":"x","vlanId":-1}`, `{"linkInContainer":true}`, `[]`, `{`} {
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
		if err := roles.CheckMTU(x.Link.MTU); err != nil || x.Link.Kind != netutil.VLANLink || x.Link.Child.ID > 4094 || x.Link.Parent == "" {
			t.Fatalf("link %+v, %v", x.Link, err)
		}
	})
}
