package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/owner"
)

// Each fault is told, once and of whom it is, and nothing else.
func TestFaults(t *testing.T) {
	t.Parallel()
	a := owner.Owner{Network: "lan", ContainerID: "a", IfName: "eth0"}
	for _, tt := range []struct {
		name  string
		fault func(*testNode)
		want  string // parts, apart by "...": of one finding; empty: none at all
	}{
		{"none", func(*testNode) {}, ""},
		{"the sandbox dies", func(n *testNode) { n.Pod("a").Kill() }, "orphan lan/a/eth0: its sandbox is gone...reserved 10.1.0.2...masquerade"},
		{"a link of nobody", func(n *testNode) {
			o := owner.Owner{Network: "lan", ContainerID: "lost", IfName: "eth0"}
			n.Host.Run("ip", "link", "add", o.LinkName(), "type", "veth", "peer", "name", "other")
			n.Host.Run("ip", "link", "set", o.LinkName(), "alias", o.String())
		}, "orphan lan/lost/eth0: its sandbox is gone...interface veth"},
		{"a reservation of nobody", func(n *testNode) {
			path := filepath.Join(n.Host.VarLib, "cni/networks/lan/10.1.0.9")
			if err := os.WriteFile(path, []byte("lost\r\neth0"), 0o600); err != nil {
				n.t.Fatal(err)
			}
		}, "orphan lan/lost/eth0: its sandbox is gone, and there is left: reserved 10.1.0.9"},
		{"a lease of nobody", func(n *testNode) {
			dir := filepath.Join(n.Host.VarLib, "cni/dhcp")
			text := `{"owner": {"Network": "lan", "ContainerID": "lost", "IfName": "eth0"}, "netns": "/run/netns/lost"}`
			if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "x.json"), []byte(text), 0o600)); err != nil {
				n.t.Fatal(err)
			}
		}, "orphan lan/lost/eth0: its sandbox is gone, and there is left: a lease"},
		{"an empty reservation", func(n *testNode) {
			if err := os.WriteFile(filepath.Join(n.Host.VarLib, "cni/networks/lan/10.1.0.9"), nil, 0o600); err != nil {
				n.t.Fatal(err)
			}
		}, "orphan: address 10.1.0.9 of the network lan is reserved for nobody"},
		{
			"no interface", func(n *testNode) {
				n.Pod("a").Run("ip", "link", "set", "eth0", "down")
				n.Pod("a").Run("ip", "link", "set", "eth0", "name", "x")
			},
			"drift lan/a/eth0: interface x of the sandbox is down",
		},
		{"an address is gone", func(n *testNode) { n.Pod("a").Run("ip", "addr", "flush", "dev", "eth0") }, "drift lan/a/eth0: the sandbox does not have 10.1.0.2"},
		{"an element is gone", func(n *testNode) {
			n.Host.Run("sh", "-c", "nft delete element inet cnibox ports_ipv4 '{ tcp . 8080 }' || nft list ruleset")
		}, "drift lan/a/eth0: packet filter: port mappings lacks tcp . 8080 in inet cnibox ports"},
		{"all elements are gone", func(n *testNode) { n.Host.Run("nft", "flush", "ruleset") }, "drift lan/a/eth0: packet filter: ...lacks"},
		{"the port left its bridge", func(n *testNode) { n.Host.Run("ip", "link", "set", a.LinkName(), "nomaster") }, ""}, // a result would tell
		{"the host's side is down", func(n *testNode) { n.Host.Run("ip", "link", "set", a.LinkName(), "down") }, "drift lan/a/eth0: interface " + a.LinkName() + " of the host is down"},
		{"another MTU", func(n *testNode) { n.Host.Run("ip", "link", "set", a.LinkName(), "mtu", "1400") }, "drift lan/a/eth0: MTU 1500 of eth0 is not that of...1400"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			for _, pod := range []string{"a", "b"} {
				port := map[string]string{"a": "8080", "b": "8081"}[pod]
				n.add(pod, "lan", `bridge, "bridge": "br0", "isGateway": true, "ipMasq": true, `+local("10.1.0.0/24"),
					`portmap, "runtimeConfig": {"portMappings": [{"hostPort": `+port+`, "containerPort": 80}]}`)
			}
			tt.fault(n)
			matches := func(f string) bool {
				for _, part := range strings.Split(tt.want, "...") {
					if !strings.Contains(f, part) {
						return false
					}
				}
				return true
			}
			got := findings(n.read())
			for end := time.Now().Add(3 * time.Second); tt.want != "" && !slices.ContainsFunc(got, matches) && time.Now().Before(end); {
				got = findings(n.read()) // the kernel takes a dead namespace's links away at leisure
			}
			if tt.want == "" && len(got) > 0 || tt.want != "" && !slices.ContainsFunc(got, matches) {
				t.Errorf("found %q, want %q", got, tt.want)
			}
			for _, f := range got {
				if strings.Contains(f, "lan/b/") && tt.name != "all elements are gone" {
					t.Errorf("of the healthy pod: %s", f)
				}
			}
		})
	}
}
