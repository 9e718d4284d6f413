package fused_test

import (
	"net/netip"
	"testing"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/bridge"
	"github.com/cnibox/cnibox/roles/fused"
	"github.com/cnibox/cnibox/roles/portmap"
	"github.com/cnibox/cnibox/roles/roletest"
)

// A list of a bridge and port mappings, as one plugin.
func TestFamilies(t *testing.T) {
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		table := roles.Table{fused.Name: fused.New(), "bridge": bridge.New(), "host-local": hostlocal.New(), "portmap": portmap.New()}
		n, dir := roletest.NewNode(t, table), t.TempDir()
		outside := n.Outside()
		n.Server(outside, 80)
		n.NamedServer("pod saw ", n.Pod("families").NS, 80)
		keys := `"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}, "plugins": [
			{"type": "bridge", "isDefaultGateway": true, "ipMasq": true, ` + f.IPAM(dir, `{"subnet": "10.9.0.0/16"}`, `{"subnet": "fd00:9::/64"}`) + `},
			{"type": "portmap", "capabilities": {"portMappings": true}}]`
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir, Links: []string{"cni0"}, Plugins: []roletest.Plugin{{Role: fused.Name, Keys: keys}},
			Reach: func(p *roletest.Pod) {
				n.WantMasqueraded(p)
				n.WantSeen(outside, "tcp", "192.0.2.1:8080", map[bool]string{true: "pod saw 192.0.2.100"}[f.V4])
				n.WantSeen(outside, "tcp", "[2001:db8::1]:8080", map[bool]string{true: "pod saw 2001:db8::100"}[f.V6])
			},
			Damage: func(_ *roletest.Pod, addr netip.Addr) string { // of the second plugin
				ports := map[bool]string{false: "ports_ipv4", true: "ports_ipv6"}[addr.Is6()]
				n.Host.Run("nft", "delete element inet cnibox "+ports+" { tcp . 8080 }")
				return "plugins[1] portmap: "
			},
		})
	})
}
