package bandwidth

import (
	"testing"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
	"github.com/cnibox/cnibox/roles"
)

// FuzzConf reads any configuration: a refusal has a code for just that, and what is accepted makes a plan that the kernel has numbers for.
func FuzzConf(f *testing.F) {
	for _, s := range []string{
		`{"ingressRate":8000000,"ingressBurst":800000,"unshapedSubnets":["10.0.0.0/8"],"qdisc":"fq_codel"}`,
		`{"runtimeConfig":{"bandwidth":{"IngressRate":1000000,"IngressBurst":4294967295,"EgressRate":2000000,"EgressBurst":4294967295}}}`,
		`{"egressRate":8,"egressBurst":7}`, `{"egressRate":18446744073709551615,"egressBurst":18446744073709551615}`, `{"runtimeConfig":{"bandwidth":null}}`, `[]`, `{`,
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
		link := rtnl.Link{Name: "veth0", MTU: 1500}
		if c.checkBurst(link.MTU) != nil {
			return
		}
		p := c.plan(o, &link, o.IFBName())
		if len(p.Links) != len(p.Redirects) {
			t.Fatalf("%d devices, %d redirects", len(p.Links), len(p.Redirects))
		}
		for _, s := range p.Shapers {
			if !sound(&s) {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func sound(s *netutil.Shaper) bool {
	return s.Rate > 0 && s.Burst > 0 && s.Burst <= mostBurst && s.Link != "" && len(s.Only)*len(s.Except) == 0
}
