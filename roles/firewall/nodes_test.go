package firewall_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/firewall"
	"github.com/cnibox/cnibox/roles/roletest"
	"github.com/cnibox/cnibox/roles/vxlan"
)

// This file is about the pods of a network over many nodes (role vxlan).

// newNodes makes hosts on one link, and on it a stranger, who has routes to their pods as well. Addresses:
//
//	stranger        192.0.2.100  2001:db8::100
//	host i          192.0.2.i    2001:db8::i
//	pods of host i  10.244.i.2   fd00:i::2     and so on
func newNodes(t *testing.T, count int, keys string) (nodes []*node) {
	t.Helper()
	lan, stranger := nstest.New(t, "underlay"), nstest.New(t, "stranger")
	lan.Run("ip", "link", "add", "lan", "up", "type", "bridge")
	joinLAN(lan, stranger, 100)
	var peers []string
	for i := 1; i <= count; i++ {
		peers = append(peers, fmt.Sprintf(`{"name": "node%[1]d", "underlay": ["192.0.2.%[1]d"], "subnets": ["10.244.%[1]d.0/24", "fd00:%[1]d::/64"]}`, i))
		if strings.Contains(keys, "directRouting") {
			peers[i-1] = strings.Replace(peers[i-1], `"]`, fmt.Sprintf(`", "2001:db8::%d"]`, i), 1)
		}
	}
	for i := 1; i <= count; i++ {
		table := roles.Table{"firewall": firewall.New(), "host-local": hostlocal.New(), "vxlan": vxlan.New()}
		n := &node{Node: roletest.NewNode(t, table), t: t, main: "vxlan", outside: stranger, dataDir: t.TempDir()}
		n.Host.VarLib = t.TempDir()
		joinLAN(lan, n.Host, i)
		for family, subnet := range map[string][2]string{"-4": {fmt.Sprintf("10.244.%d.0/24", i), fmt.Sprintf("192.0.2.%d", i)}, "-6": {fmt.Sprintf("fd00:%d::/64", i), fmt.Sprintf("2001:db8::%d", i)}} {
			stranger.Run("ip", family, "route", "add", subnet[0], "via", subnet[1])
		}
		ranges := fmt.Sprintf(`[{"subnet": "10.244.%[1]d.0/24"}], [{"subnet": "fd00:%[1]d::/64"}]`, i)
		if strings.Contains(keys, "bridged") {
			ranges = fmt.Sprintf(`[{"subnet": "10.244.0.0/16", "rangeStart": "10.244.%[1]d.2", "rangeEnd": "10.244.%[1]d.99", "gateway": "10.244.%[1]d.1"}],
				[{"subnet": "fd00::/16", "rangeStart": "fd00:%[1]d::2", "rangeEnd": "fd00:%[1]d::99", "gateway": "fd00:%[1]d::1"}]`, i)
		}
		n.conf = fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net1", "type": "vxlan", "vni": 42, "underlay": "192.0.2.%[1]d", "peers": [%[2]s], %[3]s
			"ipam": {"type": "host-local", "dataDir": %[4]q, "ranges": [%[5]s],
			"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`, i, strings.Join(peers, ", "), keys, n.dataDir, ranges)
		nodes = append(nodes, n)
	}
	return nodes
}

// joinLAN links a host to the others.
func joinLAN(lan, host *nstest.NS, number int) {
	port := fmt.Sprintf("port%d", number)
	host.Run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
	host.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", lan.Path)
	lan.Run("ip", "link", "set", port, "master", "lan", "up")
	host.Run("ip", "link", "set", "eth0", "up")
	host.Run("ip", "addr", "add", fmt.Sprintf("192.0.2.%d/24", number), "dev", "eth0")
	host.Run("ip", "addr", "add", fmt.Sprintf("2001:db8::%d/64", number), "dev", "eth0", "nodad")
}

// detach takes a pod's interface away.
func (p *pod) detach() {
	p.node.t.Helper()
	p.node.Must(roletest.Call{Verb: "DEL", Role: p.node.main, Pod: p.Pod, Conf: p.node.mainConf(p.net)})
}

// ways runs the test with pods that reach other nodes' through the tunnel, and beside it, and with all on one link.
func ways(t *testing.T, test func(t *testing.T, keys string)) {
	for name, keys := range map[string]string{"tunnel": "", "beside the tunnel": `"directRouting": true, `, "one link": `"mode": "bridged", `} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, keys)
		})
	}
}

// Pods of all nodes reach each other where another program drops what is forwarded, and nobody else on the underlay reaches them.
func TestPodsOfOtherNodes(t *testing.T) {
	t.Parallel()
	for name, on := range map[string]struct {
		keys string
		drop func(*node)
	}{
		"iptables with FORWARD DROP": {"", func(n *node) { n.iptables(iptablesDrop) }},
		"Docker":                     {"", func(n *node) { n.iptables(nstest.DockerFilter) }},
		"nftables":                   {"", func(n *node) { feed(n.t, n.Host, nftables, "nft", "-f", "-") }},
		"legacy iptables": {`"backend": "iptables"`, func(n *node) {
			for _, program := range []string{"iptables-legacy-restore", "ip6tables-legacy-restore"} {
				feed(n.t, n.Host, iptablesDrop, program)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ways(t, func(t *testing.T, keys string) {
				nodes := newNodes(t, 2, keys)
				var pods []*pod
				var before []string
				for _, n := range nodes {
					on.drop(n)
					before = append(before, n.foreignRules()+n.legacySaved())
					pods = append(pods, n.pod("a", 1).admit(on.keys))
				}
				both := func() {
					t.Helper()
					pods[0].reaches(pods[1])
					pods[1].reaches(pods[0])
					pods[1].fromOutside(false)
				}
				both()

				n := nodes[1]
				if !strings.Contains(name, "legacy") { // whose rules nft(8) cannot take away
					n.Host.Run("nft", "flush", "ruleset")
				}
				on.drop(n)
				n.sync()
				pods[1].admitted(on.keys)
				both()
				if done := n.sync(); len(done) != 0 {
					t.Errorf("put back with nothing missing: %v", done)
				}
				if !strings.Contains(name, "legacy") {
					n.Host.Run("nft", "flush", "ruleset")
				}
				on.drop(n)
				next := n.pod("next", 1).admit(on.keys)
				both()
				pods[0].reaches(next)

				for _, p := range append(pods, next) {
					p.dismiss()
					p.detach()
				}
				for i, n := range nodes {
					if after := n.foreignRules() + n.legacySaved(); after != before[i] {
						t.Errorf("after the last pod:\n%s\nbefore the first:\n%s", after, before[i])
					}
				}
			})
		})
	}
}

// With firewalld too: by its zone, and by a rule in its own chain.
func TestPodsOfOtherNodesWithFirewalld(t *testing.T) {
	t.Parallel()
	for name, backend := range map[string]string{"by zone": `"backend": "firewalld"`, "by rule": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ways(t, func(t *testing.T, keys string) {
				nodes := newNodes(t, 2, keys)
				n := nodes[0]
				n.runFirewalld()
				n.Host.Run("firewall-cmd", "--add-port=4789/udp")
				a, b := n.pod("a", 1).admit(backend), nodes[1].pod("b", 1)
				reach := func() {
					t.Helper()
					b.reaches(a)
					a.reaches(b)
					a.fromOutside(false)
				}
				reach()
				n.reload()
				n.Host.Run("firewall-cmd", "--add-port=4789/udp")
				n.sync()
				a.admitted(backend)
				reach()
				c := n.pod("c", 1).admit(backend)
				a.dismiss()
				b.reaches(c)
				c.dismiss()
				if backend != "" {
					n.wantSources("trusted")
					if links := n.Host.Run("firewall-cmd", "--zone=trusted", "--list-interfaces"); strings.TrimSpace(links) != "" {
						t.Errorf("left in the zone: %s", links)
					}
				}
				c.fromOutside(false)
				b.misses(c)
			})
		})
	}
}

// A pod that is isolated is so from those of other nodes too, to which it connects all the same.
func TestIsolatedFromOtherNodes(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, keys string) {
		nodes := newNodes(t, 2, keys)
		for _, n := range nodes {
			n.iptables(iptablesDrop)
		}
		a, b := nodes[0].pod("a", 1).admit(isolated), nodes[1].pod("b", 1).admit("")
		b.misses(a)
		a.reaches(b)
		a.dismiss()
		a.admit("")
		b.reaches(a)
	})
}

// A node that is new in the list of peers is let through from then on, and one that is gone no longer. Nothing changes for pods of a network that has
// no other nodes.
func TestNodesComeAndGo(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, keys string) {
		if strings.Contains(keys, "bridged") {
			return // no rule there depends on who the nodes are
		}
		nodes := newNodes(t, 3, keys)
		n := nodes[0]
		n.iptables(iptablesDrop)
		whole := n.conf
		n.conf = whole[:strings.Index(whole, `, {"name": "node3"`)] + whole[strings.Index(whole, "}], ")+1:]
		a := n.pod("a", 1).admit("")
		b, c := nodes[1].pod("b", 1), nodes[2].pod("c", 1)
		b.reaches(a)
		c.misses(a)

		less := n.conf
		n.conf = whole
		n.pod("next", 1) // of which firewall is not told
		c.reaches(a)
		n.conf = less
		n.pod("last", 1)
		b.reaches(a)
		c.misses(a)

		rules := n.saved()
		if want := map[bool]string{true: "-s 10.244.2.0/24 -d 10.244.1.0/24", false: "-d 10.244.1.0/24 -i vxlan42"}[keys != ""]; !strings.Contains(rules, want) {
			t.Errorf("no %q in\n%s", want, rules)
		}
		for _, program := range []string{"iptables-nft", "ip6tables-nft"} {
			feed(t, n.Host, n.Host.Run(program+"-save"), program+"-restore")
		}
		if after := n.saved(); after != rules {
			t.Errorf("after iptables-restore:\n%s\nbefore:\n%s", after, rules)
		}
		a.admitted("")
		for _, program := range []string{"iptables-nft", "ip6tables-nft"} {
			n.Host.Run(program, "-P", "FORWARD", "ACCEPT")
		}
		a.fromOutside(true) // so it was the policy that kept the stranger out, not the way
	})
}
