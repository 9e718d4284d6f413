package vrf

import (
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// FuzzConf reads any configuration: a refusal has a code for just that, and what is accepted names a VRF and none of the kernel's own tables.
func FuzzConf(f *testing.F) {
	for _, s := range []string{
		`{"vrfname":"red","table":1001}`, `{"vrfname":"red"}`, `{"table":7}`, `{"vrfname":"a/b"}`, `{"vrfname":"x","table":254}`,
		`{"vrfname":"x","table":-1}`, `[]`, `{`,
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
		if v := c.vrf(); roles.CheckLinkName("vrfname", v.Name) != nil || v.Table >= 253 && v.Table <= 255 {
			t.Fatalf("%+v", v)
		}
	})
}
