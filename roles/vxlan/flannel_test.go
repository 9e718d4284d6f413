package vxlan_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/roles/roletest"
)

// The nodes of a cluster leave Flannel one by one, as docs/migration-flannel.md has it. Meanwhile pods of all nodes reach each other.
func TestNodesLeaveFlannel(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, false)
	var pods []*roletest.Pod
	for _, n := range c.nodes {
		pods = append(pods, c.flannel(n))
	}
	wantPairs(c.nodes[0], pods)

	changed := map[*node]string{} // the MAC addresses of their new devices
	for i, n := range c.nodes {
		n.Host.Run("sh", "-ec", "ip link del flannel.1; ip link del cni0; ip link del pod-flannel") // it is drained, and flanneld has stopped
		pods[i] = n.Add("vxlan", fmt.Sprint("new", n.number), c.leaving(n, changed))
		n.Server(pods[i].NS, 80)
		changed[n] = strings.Fields(n.Host.Run("ip", "-br", "link", "show", "vxlan1"))[2]
		for _, other := range c.nodes {
			switch {
			case other == n:
			case changed[other] != "": // its next pod reads the list anew
				other.Del("vxlan", "look", c.leaving(other, changed))
				other.Add("vxlan", "look", c.leaving(other, changed))
			default: // what flanneld does when the annotation of the node changes
				other.Host.Run("sh", "-ec", fmt.Sprintf(`ip neigh replace 10.244.%[1]d.0 lladdr %[2]s dev flannel.1 nud permanent
					bridge fdb del %[3]s dev flannel.1
					bridge fdb add %[2]s dev flannel.1 dst 192.0.2.%[1]d`, n.number, changed[n], flannelMAC(n)))
			}
		}
		wantPairs(c.nodes[0], pods)
	}
}

func flannelMAC(n *node) string { return fmt.Sprintf("02:00:00:00:00:%02x", n.number) }

// flannel sets a node up as flanneld and its plugin do, with a pod.
func (c *cluster) flannel(n *node) *roletest.Pod {
	c.t.Helper()
	n.Host.Run("sh", "-ec", fmt.Sprintf(`sysctl -qw net.ipv4.ip_forward=1
		ip link add flannel.1 address %[2]s mtu 1450 type vxlan id 1 dstport 8472 local 192.0.2.%[1]d nolearning
		ip addr add 10.244.%[1]d.0/32 dev flannel.1
		ip link set flannel.1 up
		ip link add cni0 mtu 1450 type bridge
		ip addr add 10.244.%[1]d.1/24 dev cni0
		ip link set cni0 up`, n.number, flannelMAC(n)))
	for _, other := range c.nodes {
		if other != n {
			n.Host.Run("sh", "-ec", fmt.Sprintf(`ip neigh add 10.244.%[1]d.0 lladdr %[2]s dev flannel.1 nud permanent
				bridge fdb add %[2]s dev flannel.1 dst 192.0.2.%[1]d
				ip route add 10.244.%[1]d.0/24 via 10.244.%[1]d.0 dev flannel.1 onlink`, other.number, flannelMAC(other)))
		}
	}
	p := n.Pod(fmt.Sprint("old", n.number))
	n.Host.Run("ip", "link", "add", "pod-flannel", "mtu", "1450", "master", "cni0", "up", "type", "veth", "peer", "name", "eth0", "mtu", "1450", "netns", p.Path)
	p.Run("sh", "-ec", fmt.Sprintf(`ip addr add 10.244.%[1]d.200/24 dev eth0
		ip link set eth0 up
		ip route add default via 10.244.%[1]d.1`, n.number))
	p.Addrs = []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.244.%d.200", n.number))}
	n.Server(p.NS, 80)
	return p
}

// leaving is a node's configuration while some nodes still are Flannel's: their devices' MAC addresses stand in the list.
func (c *cluster) leaving(n *node, changed map[*node]string) string {
	var peers []string
	for _, other := range c.nodes {
		mac := ""
		if other != n && changed[other] == "" {
			mac = fmt.Sprintf(`, "mac": %q`, flannelMAC(other))
		}
		peers = append(peers, fmt.Sprintf(`{"name": "node%[1]d", "underlay": ["192.0.2.%[1]d"], "subnets": ["10.244.%[1]d.0/24"]%[2]s}`, other.number, mac))
	}
	ipam := roletest.Family{V4: true}.IPAM(n.dir, fmt.Sprintf(`{"subnet": "10.244.%d.0/24"}`, n.number), "")
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "cbr0", "type": "vxlan", "vni": 1, "port": 8472, "ipMasq": true, "underlay": %q, "peers": [%s], %s}`,
		c.underlay(n), strings.Join(peers, ", "), ipam)
}
