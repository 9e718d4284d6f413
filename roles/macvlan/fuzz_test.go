package macvlan

import (
	"testing"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// FuzzConf reads any configuration: a refusal has a code for just that, and what is accepted makes a plan that the kernel has numbers for.
func FuzzConf(f *testing.F) {
	for _, s := range []string{`{"master":"eth0","mode":"vepa","mtu":1400,"bcqueuelen":5,"mac":"02:00:00:00:00:01"}`, `{"mode":""}`, `{"bcqueuelen":4294967296}`, `{"linkInContainer":true,"runtimeConfig":{"mac":"x"}}`, `[]`, `{`} {
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
		x := c.plan(owner.Owner{Network: "net", ContainerID: "pod", IfName: "eth0"}, nil)
		if err := roles.CheckMTU(x.Link.MTU); err != nil || x.Link.Kind != netutil.Macvlan || x.Link.Child.Mode&(x.Link.Child.Mode-1) != 0 || x.Link.Child.Mode > 8 {
			t.Fatalf("link %+v, %v", x.Link, err)
		}
	})
}
