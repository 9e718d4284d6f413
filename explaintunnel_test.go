package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles/roletest"
)

// newTunnelled is two nodes on one underlay, 192.0.2.0/24 and 2001:db8::/64, with a pod each on a network over both: "a" here, "b" on the other. Cases
// know the other node as "there". Keys are those of the role vxlan.
func newTunnelled(t *testing.T, keys string, ranges func(number int) [2]string) *explained {
	t.Helper()
	nstest.Need(t, "vxlan")
	lan := nstest.New(t, "lan")
	lan.Run("ip", "link", "add", "lan", "up", "type", "bridge")
	e := &explained{t: t, places: map[string]*nstest.NS{}, pods: map[string]*roletest.Pod{}}
	var peers []string
	for i := 1; i <= 2; i++ {
		peers = append(peers, fmt.Sprintf(`{"name": "node%[1]d", "underlay": ["192.0.2.%[1]d"], "subnets": ["10.244.%[1]d.0/24", "fd00:%[1]d::/64"]}`, i))
	}
	for i, name := range []string{"a", "b"} {
		i++
		n := roletest.NewNode(t, roleTable())
		n.Host.VarLib = t.TempDir()
		port := fmt.Sprintf("port%d", i)
		n.Host.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", lan.Path)
		lan.Run("ip", "link", "set", port, "master", "lan", "up")
		n.Host.Run("ip", "link", "set", "eth0", "up")
		n.Host.Run("ip", "addr", "add", fmt.Sprintf("192.0.2.%d/24", i), "dev", "eth0")
		roletest.WaitUp(n.Host, "eth0")
		r := ranges(i)
		conf := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "podnet", "type": "vxlan", "vni": 42, "underlay": "192.0.2.%d", "ipMasq": true, %s, "peers": [%s],
			"ipam": {"type": "host-local", "ranges": [[%s], [%s]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`,
			i, keys, strings.Join(peers, ", "), r[0], r[1])
		pod := n.Add("vxlan", name, conf)
		n.Server(pod.NS, 80)
		e.pods[name], e.places[name] = pod, pod.NS
		if i == 1 {
			e.Node = n
			e.places["host"] = n.Host
		} else {
			e.places["there"] = n.Host
		}
	}
	return e
}

// The way through a tunnel is told on both sides, if both can be seen.
func TestExplainTunnels(t *testing.T) {
	t.Parallel()
	e := newTunnelled(t, `"mode": "routed"`, func(i int) [2]string {
		return [2]string{fmt.Sprintf(`{"subnet": "10.244.%d.0/24"}`, i), fmt.Sprintf(`{"subnet": "fd00:%d::/64"}`, i)}
	})
	for _, w := range append([]way{
		{name: "other node", from: "host", to: "b 80", want: true},
		{
			name: "no neighbour entry", from: "a", to: "b 80", says: "nobody there has the address",
			do:   "ip -o neigh show nud permanent >/run/neighbours; while read addr _ dev _ mac _; do ip neigh del $addr dev $dev; done </run/neighbours",
			undo: "while read addr _ dev _ mac _; do ip neigh replace $addr lladdr $mac dev $dev nud permanent; done </run/neighbours",
		},
		{name: "forwarding off there", from: "a", to: "b 80", says: "forwarding is off", do: "IN there: sysctl -qw net.ipv4.ip_forward=0", undo: "IN there: sysctl -qw net.ipv4.ip_forward=1"},
	}, tunnelWays()...) {
		e.check(w)
	}
}

// Where the pods of all nodes are on one link, frames go by the bridge into the tunnel.
func TestExplainBridgedTunnels(t *testing.T) {
	t.Parallel()
	e := newTunnelled(t, `"mode": "bridged"`, func(i int) [2]string {
		return [2]string{
			fmt.Sprintf(`{"subnet": "10.244.0.0/16", "rangeStart": "10.244.%[1]d.1", "rangeEnd": "10.244.%[1]d.99", "gateway": "10.244.%[1]d.254"}`, i),
			fmt.Sprintf(`{"subnet": "fd00::/64", "rangeStart": "fd00::%[1]d:1", "rangeEnd": "fd00::%[1]d:99", "gateway": "fd00::%[1]d:fe"}`, i),
		}
	})
	for _, w := range tunnelWays() {
		e.check(w)
	}
}

func tunnelWays() []way {
	return []way{
		{name: "other node's pod", from: "a", to: "b 80", want: true},
		{name: "other node's pod, IPv6", from: "a", to: "b6 80", want: true},
		{name: "other node's pod, UDP", from: "a", to: "b 80", proto: "udp", want: true},
		{
			name: "tunnel dropped there", from: "a", to: "b 80", says: "udp dport 4789 drop",
			do: "IN there: nft add table inet foreign; nft add chain inet foreign c '{ type filter hook input priority 0; }'; nft add rule inet foreign c udp dport 4789 drop", undo: "IN there: nft delete table inet foreign",
		},
		{
			name: "tunnel dropped here", from: "a", to: "b 80", says: "ip daddr 192.0.2.2 udp dport 4789 drop",
			do: foreign("ip", "output priority 0", "ip daddr 192.0.2.2 udp dport 4789 drop"), undo: "nft delete table ip foreign",
		},
		{name: "underlay down", from: "a", to: "b 80", says: "no carrier", do: "IN there: ip link set eth0 down", undo: "IN there: ip link set eth0 up; sleep 0.3"},
		{
			name: "tunnel's device down there", from: "a", to: "b 80", says: "the link is down",
			do: "IN there: ip -o link show type vxlan | cut -d: -f2 >/run/device; ip link set $(cat /run/device) down", undo: "IN there: true",
		},
	}
}

// What cnibox itself keeps from a pod is told too.
func TestExplainOwnRules(t *testing.T) {
	t.Parallel()
	e := newExplained(t)
	bridge := `"bridge": "cni0", "isGateway": true, "macspoofchk": true, "ipspoofchk": true`
	e.attach("bridge", "a", bridge, 11)
	e.attach("bridge", "b", bridge, 11)
	e.attach("bridge", "c", `"bridge": "cni1", "isGateway": true`, 12)
	e.attach("bridge", "g", `"bridge": "cni1", "isGateway": true`, 12)
	e.chained("firewall", "b", `"ingressPolicy": "isolated"`)
	e.chained("firewall", "c", `"ingressPolicy": "same-bridge"`)
	for _, w := range []way{
		{name: "isolated", from: "a", to: "b 80", says: "cnibox"},
		{name: "isolated, IPv6", from: "a", to: "b6 80", says: "cnibox"},
		{name: "isolated, from another bridge", from: "c", to: "b 80", says: "cnibox"},
		{name: "isolated, it may connect itself", from: "b", to: "a 80", want: true},
		{name: "guarded, from the same bridge", from: "g", to: "c 80", want: true},
		{name: "guarded, from another bridge", from: "a", to: "c 80", says: "cnibox"},
		{name: "guarded, from the host", from: "host", to: "c 80", want: true},
		{
			name: "admitted past a policy", from: "a", to: "192.0.2.100 80", says: "policy",
			do: foreign("inet", drops), undo: "nft delete table inet foreign",
		},
		{
			name: "somebody else's address", from: "a", to: "192.0.2.100 80", says: "another's address",
			do:   "IN a: ip addr add 10.11.0.200/24 dev eth0; ip route replace default via 10.11.0.1 src 10.11.0.200",
			undo: "IN a: ip route replace default via 10.11.0.1; ip addr del 10.11.0.200/24 dev eth0",
		},
	} {
		e.check(w)
	}
}

// VLANs part the ports of a bridge.
func TestExplainVLANs(t *testing.T) {
	t.Parallel()
	nstest.Need(t, "vlan_filtering", "vlan")
	e := newExplained(t)
	e.attach("bridge", "a", `"bridge": "cni0", "vlan": 7`, 11)
	e.attach("bridge", "b", `"bridge": "cni0", "vlan": 7`, 11)
	e.attach("bridge", "c", `"bridge": "cni0", "vlan": 8`, 11)
	for _, w := range []way{
		{name: "same VLAN", from: "a", to: "b 80", want: true},
		{name: "another VLAN", from: "a", to: "c 80", says: "VLAN 7"},
	} {
		e.check(w)
	}
}

// Links that are made on the same one reach each other without the host.
func TestExplainSiblings(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"macvlan", "ipvlan"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			nstest.Need(t, role)
			e := newExplained(t)
			for _, name := range []string{"a", "b"} {
				conf := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "lan", "type": %q, "master": "uplink", "ipam": {"type": "host-local",
					"ranges": [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.213"}]]}}`, role)
				pod := e.Add(role, name, conf)
				e.Server(pod.NS, 80)
				e.pods[name], e.places[name] = pod, pod.NS
			}
			for _, w := range []way{
				{name: "sibling", from: "a", to: "b 80", want: true},
				{name: "outside", from: "a", to: "192.0.2.100 80", want: true},
				{name: "from outside", from: "outside", to: "b 80", want: true},
				{name: "nobody outside", from: "a", to: "192.0.2.77 80", says: "nobody"},
			} {
				e.check(w)
			}
		})
	}
}
