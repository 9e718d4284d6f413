package vxlan

import (
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// FuzzConf reads any configuration: a refusal has a code for just that.
func FuzzConf(f *testing.F) {
	for _, s := range []string{
		`{"vni":42,"port":4789,"underlay":"192.0.2.1","peers":[],"ipam":{"type":"x","ranges":[[{"subnet":"10.1.0.0/24"}]]}}`,
		`{"vni":1,"underlay":"eth0","mtu":1400,"peersFile":"/x","nodeSubnets":["fd00::/64"],"directRouting":true,"ipam":{"type":"x","subnet":"10.0.0.0/8"}}`,
		`{"vni":-1}`, `{"vni":1,"port":70000,"ipam":{"type":"x"}}`, `{"mode":"bridged"}`, `[]`, `{`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := load(&roles.Request{Conf: []byte(text), Owner: owner.Owner{Network: "net", ContainerID: "pod", IfName: "eth0"}})
		if err != nil {
			if code := errcode.Of(err); code != errcode.InvalidConfig && code != errcode.DecodingFailure {
				t.Fatalf("code %d: %v", code, err)
			}
			return
		}
		if err := c.overlay.Check(); err != nil {
			t.Errorf("accepted, but %v", err)
		}
		c.PeersFile = ""
		before, _ := c.stamp("")
		c.Peers = append(c.Peers, 'x')
		if after, _ := c.stamp(before); after.same(before) {
			t.Error("another list has the same stamp")
		}
	})
}
