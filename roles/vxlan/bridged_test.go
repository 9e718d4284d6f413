package vxlan_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/roles/roletest"
)

// bridged is a node's configuration where all pods are on one link, 10.244.0.0/16 and fd00::/64. The node i has of it 10.244.i.1 to 10.244.i.99 and
// fd00::i:1 to fd00::i:99, and its bridge 10.244.i.254 and fd00::i:fe.
func (c *cluster) bridged(n *node, keys ...string) string {
	ipam := roletest.Family{V4: true, V6: true}.IPAM(n.dir,
		fmt.Sprintf(`{"subnet": "10.244.0.0/16", "rangeStart": "10.244.%[1]d.1", "rangeEnd": "10.244.%[1]d.99", "gateway": "10.244.%[1]d.254"}`, n.number),
		fmt.Sprintf(`{"subnet": "fd00::/64", "rangeStart": "fd00::%[1]d:1", "rangeEnd": "fd00::%[1]d:99", "gateway": "fd00::%[1]d:fe"}`, n.number))
	all := append([]string{`"mode": "bridged"`, fmt.Sprintf(`"underlay": %q`, c.underlay(n))}, keys...)
	if text := strings.Join(keys, ""); !strings.Contains(text, "peersFile") && !strings.Contains(text, `"group"`) {
		all = append(all, `"peers": `+c.flatPeers())
	}
	if !strings.Contains(strings.Join(keys, ""), `"isGateway": false`) {
		all = append(all, `"ipMasq": true`)
	}
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "podnet", "type": "vxlan", "vni": 42, %s, %s}`, strings.Join(all, ", "), ipam)
}

// flatPeers is the list of peers without subnets.
func (c *cluster) flatPeers() string {
	var list []string
	for _, n := range c.nodes {
		list = append(list, fmt.Sprintf(`{"name": "node%[1]d", "underlay": ["192.0.2.%[1]d", "2001:db8::%[1]d"]}`, n.number))
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// bridgedPod attaches a pod, on which a server tells who asks.
func (c *cluster) bridgedPod(n *node, name string, keys ...string) *roletest.Pod {
	c.t.Helper()
	p := n.Add("vxlan", name, c.bridged(n, keys...))
	n.Server(p.NS, 80)
	return p
}

func TestAllPodsOnOneLink(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		v6   bool
		keys []string
	}{
		"over IPv4":       {},
		"over IPv6":       {v6: true},
		"group over IPv4": {keys: []string{`"group": "239.1.2.3"`}},
		"group over IPv6": {v6: true, keys: []string{`"group": "ff05::1:2"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 4, tt.v6)
			var pods []*roletest.Pod
			for _, n := range c.nodes {
				for _, name := range []string{"a", "b"} {
					pods = append(pods, c.bridgedPod(n, fmt.Sprintf("%s%d", name, n.number), tt.keys...))
				}
			}
			wantPairs(c.nodes[0], pods)
			for _, n := range c.nodes {
				if err := n.Check("vxlan", fmt.Sprintf("a%d", n.number), c.bridged(n, tt.keys...)); err != nil {
					t.Errorf("CHECK: %v", err)
				}
				n.Must(roletest.Call{Verb: "STATUS", Role: "vxlan", Conf: c.bridged(n, tt.keys...)})
			}
			c.wantLargest(pods[0], pods[2])
			// What goes elsewhere carries the node's address, and the node's own programs reach other nodes' pods.
			c.nodes[0].Server(c.nodes[3].Host, 81)
			c.nodes[0].WantSeen(pods[0].NS, "tcp", "192.0.2.4:81", "192.0.2.1")
			c.nodes[0].WantSeen(pods[0].NS, "tcp", "[2001:db8::4]:81", "2001:db8::1")
			c.nodes[0].WantSeen(c.nodes[0].Host, "tcp", netip.AddrPortFrom(pods[7].Addrs[0], 80).String(), "10.244.1.254")
			for i, p := range pods {
				c.nodes[i/2].Del("vxlan", p.Name, c.bridged(c.nodes[i/2], tt.keys...))
			}
			for _, n := range c.nodes {
				n.wantNothingLeft()
			}
		})
	}
}

func TestTheNextPodRepairsTheBridge(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	n := c.nodes[0]
	pods := []*roletest.Pod{c.bridgedPod(n, "a"), c.bridgedPod(c.nodes[1], "b")}
	wantPairs(n, pods)
	for i, spoil := range []string{
		"ip link del vxlan42", "ip link del br-podnet", "ip link set vxlan42 nomaster", "ip link set br-podnet down", "ip link set vxlan42 down",
		"ip addr del 10.244.1.254/16 dev br-podnet", "ip link set br-podnet mtu 1300", "bridge link set dev vxlan42 neigh_suppress off",
		"bridge fdb del 00:00:00:00:00:00 dev vxlan42 dst 192.0.2.2", "nft flush ruleset",
		"nft delete element inet cnibox tunnel_peers_ipv4 { 192.0.2.2 . 4789 . 42 }",
	} {
		n.Host.Run("sh", "-c", spoil)
		if err := n.Check("vxlan", "a", c.bridged(n)); err == nil {
			t.Errorf("%s: CHECK passes", spoil)
		}
		name := fmt.Sprintf("next%d", i)
		c.bridgedPod(n, name)
		wantPairs(n, pods)
		if err := n.Check("vxlan", "a", c.bridged(n)); err != nil {
			t.Errorf("%s: CHECK: %v", spoil, err)
		}
		n.Del("vxlan", name, c.bridged(n))
	}
	// What others have put beside ours stays.
	n.Host.Run("bridge", "fdb", "add", "02:00:00:00:00:99", "dev", "vxlan42", "dst", "192.0.2.99")
	n.Host.Run("ip", "addr", "add", "198.51.100.1/24", "dev", "br-podnet")
	n.Host.Run("ip", "link", "set", "vxlan42", "nomaster")
	c.bridgedPod(n, "last")
	if out := n.Host.Run("bridge", "fdb", "show", "dev", "vxlan42") + n.Host.Run("ip", "addr"); !strings.Contains(out, "02:00:00:00:00:99 dst 192.0.2.99") || !strings.Contains(out, "198.51.100.1/24") {
		t.Errorf("what others have made is gone:\n%s", out)
	}
}

func TestBridgedPeersComeAndGo(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, false)
	n, file := c.nodes[0], filepath.Join(t.TempDir(), "peers.json")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := fmt.Sprintf(`"peersFile": %q`, file)
	write(c.flatPeers())
	pods := []*roletest.Pod{c.bridgedPod(n, "a", key), c.bridgedPod(c.nodes[1], "b"), c.bridgedPod(c.nodes[2], "c")}
	wantPairs(n, pods)
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(c.flatPeers()), &list); err != nil {
		t.Fatal(err)
	}
	less, err := json.Marshal(list[:2])
	if err != nil {
		t.Fatal(err)
	}
	write(string(less))
	c.bridgedPod(n, "next", key)
	if out := n.Host.Run("bridge", "fdb", "show", "dev", "vxlan42"); strings.Contains(out, "192.0.2.3") || !strings.Contains(out, "192.0.2.2") {
		t.Errorf("the entries are:\n%s", out)
	}
	wantPairs(n, pods[:2])
	// A node gets another underlay address.
	moved := strings.NewReplacer("192.0.2.2", "192.0.2.22").Replace
	c.nodes[1].Host.Run("ip", "addr", "del", "192.0.2.2/24", "dev", "eth0")
	c.nodes[1].Host.Run("ip", "addr", "add", "192.0.2.22/24", "dev", "eth0")
	c.nodes[1].Add("vxlan", "moved", moved(c.bridged(c.nodes[1])))
	write(moved(c.flatPeers()))
	c.bridgedPod(n, "next2", key)
	wantPairs(n, pods[:2])
}

func TestTheTunnelOfTheBridgeChanges(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	pods := []*roletest.Pod{c.bridgedPod(c.nodes[0], "a"), c.bridgedPod(c.nodes[1], "b")}
	for i, change := range []*strings.Replacer{
		strings.NewReplacer(`"vni": 42`, `"vni": 43`),
		strings.NewReplacer(`"vni": 42`, `"vni": 43, "port": 4790`),
		strings.NewReplacer(`"vni": 42`, `"vni": 43, "mtu": 1400`),
		strings.NewReplacer(`"vni": 42`, `"vni": 43, "bridge": "other"`),
	} {
		for _, n := range c.nodes {
			n.Add("vxlan", fmt.Sprintf("new%d", i), change.Replace(c.bridged(n)))
		}
		wantPairs(c.nodes[0], pods)
	}
	if out := c.nodes[0].Host.Run("ip", "-br", "link"); strings.Contains(out, "vxlan42") || strings.Contains(out, "br-podnet") {
		t.Errorf("the former tunnel is left:\n%s", out)
	}
	_, err := c.nodes[0].Do(roletest.Call{Verb: "ADD", Role: "vxlan", Pod: c.nodes[0].Pod("x"), Conf: c.conf(c.nodes[0])})
	errtest.WantKey(t, err, errcode.InvalidConfig, "mode: 5 pods of network podnet were attached in another mode")
	wantPairs(c.nodes[0], pods)
}

func TestBadInputOfTheBridgeChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	n := c.nodes[0]
	conf := c.bridged(n)
	ipam := strings.TrimSuffix(conf[strings.Index(conf, `"ipam": `)+len(`"ipam": `):], "}")
	peers := `"vni": 42, "peers": ` + c.flatPeers()
	n.WantRefused("vxlan", ipam,
		roletest.Refusal{Keys: `"mode": "flat", ` + peers, Want: `mode: "flat" is neither routed nor bridged`},
		roletest.Refusal{Keys: `"bridge": "br0", ` + peers, Want: "bridge: only in mode bridged"},
		roletest.Refusal{Keys: `"group": "239.1.1.1", ` + peers, Want: "group: only in mode bridged"},
		roletest.Refusal{Keys: `"isGateway": true, ` + peers, Want: "isGateway: only in mode bridged"},
		roletest.Refusal{Keys: `"neighSuppress": false, ` + peers, Want: "neighSuppress: only in mode bridged"},
		roletest.Refusal{Keys: `"ipspoofchk": true, ` + peers, Want: "macspoofchk and ipspoofchk: only in mode bridged"},
		roletest.Refusal{Keys: peers, Want: "peers[0].subnets: missing"},
		roletest.Refusal{Keys: `"mode": "bridged", "isGateway": false, "ipMasq": true, ` + peers, Want: "ipMasq: without isGateway"},
		roletest.Refusal{Keys: `"mode": "bridged", "directRouting": true, ` + peers, Want: "directRouting: not in mode bridged"},
		roletest.Refusal{Keys: `"mode": "bridged", "bridge": "a/b", ` + peers, Want: "bridge: "},
		roletest.Refusal{Keys: `"mode": "bridged", "group": "192.0.2.9", ` + peers, Want: `group: "192.0.2.9" is no multicast address`},
		roletest.Refusal{Keys: `"mode": "bridged", "group": "ff05::1", "underlay": "192.0.2.1", ` + peers, Want: "group: ff05::1 is not of the family"},
		roletest.Refusal{Keys: `"mode": "bridged", "vni": 42`, Want: "peers: missing"},
	)
	n.WantRefused("vxlan", fmt.Sprintf(`{"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.244.0.0/16"}]]}`, n.dir),
		roletest.Refusal{Keys: `"mode": "bridged", ` + peers, Want: "ipam.ranges[0][0].rangeStart and rangeEnd: missing"})
	n.WantRefused("vxlan", fmt.Sprintf(`{"type": "host-local", "dataDir": %q, "subnet": "10.244.0.0/16", "rangeStart": "10.244.1.1", "rangeEnd": "10.244.1.9"}`, n.dir),
		roletest.Refusal{Keys: `"mode": "bridged", ` + peers, Want: "ipam.gateway: missing"})
	n.Host.Run("ip", "link", "add", "br-podnet", "type", "bridge")
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "vxlan", Pod: n.Pod("x"), Conf: conf})
	errtest.WantKey(t, err, errcode.AlreadyExists, "bridge: interface br-podnet is there already")
	n.Host.Run("ip", "link", "del", "br-podnet")
	n.wantNothingLeft()
}

// Without a gateway the bridge has no address: the pods are on their link and nowhere else.
func TestALinkWithoutAGateway(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	var pods []*roletest.Pod
	for _, n := range c.nodes {
		for _, name := range []string{"a", "b"} {
			pods = append(pods, c.bridgedPod(n, name, `"isGateway": false`))
		}
		if out := n.Host.Run("ip", "-br", "addr", "show", "br-podnet"); strings.Contains(out, "10.244") || strings.Contains(out, "fd00") {
			t.Errorf("the bridge has an address: %s", out)
		}
	}
	wantPairs(c.nodes[0], pods)
}

// A host that somebody has set up by hand, with the tunnel's device as a port of a bridge of his own, is a peer like any other.
func TestABridgeMadeByHandIsAPeer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	n, hand := c.nodes[0], c.nodes[1].Host
	for _, line := range []string{
		"link add vx type vxlan id 42 dstport 4789 local 192.0.2.2", "link add name brx type bridge", "link set vx master brx", "link set vx up",
		"addr add 10.244.2.1/16 dev brx", "addr add fd00::2:1/64 dev brx nodad", "link set brx up",
	} {
		hand.Run("ip", strings.Fields(line)...)
	}
	hand.Run("bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "vx", "dst", "192.0.2.1")
	n.Server(hand, 80)
	p := c.bridgedPod(n, "a")
	n.WantSeen(p.NS, "tcp", "10.244.2.1:80", p.Addrs[0].String())
	n.WantSeen(p.NS, "tcp", "[fd00::2:1]:80", p.Addrs[1].String())
	n.WantSeen(hand, "tcp", netip.AddrPortFrom(p.Addrs[0], 80).String(), "10.244.2.1")
	// Nobody but a peer sends to the tunnel.
	n.Host.Run("nft", "delete", "element", "inet", "cnibox", "tunnel_peers_ipv4", "{ 192.0.2.2 . 4789 . 42 }")
	if _, err := p.Try("ping", "-c", "1", "-W", "1", "10.244.2.1"); err == nil {
		t.Error("the node takes what one sends who is no peer")
	}
}

func TestFamiliesOfTheBridge(t *testing.T) {
	t.Parallel()
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		c := newCluster(t, 2, false)
		n, p := c.nodes[0], c.bridgedPod(c.nodes[1], "other")
		dir := t.TempDir()
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir, Links: []string{"eth0"},
			Plugins: []roletest.Plugin{{
				Role: "vxlan", Keys: `"vni": 42, "mode": "bridged", "underlay": "192.0.2.1", "peers": ` + c.flatPeers() + ", " +
					f.IPAM(dir, `{"subnet": "10.244.0.0/16", "rangeStart": "10.244.1.1", "rangeEnd": "10.244.1.99", "gateway": "10.244.1.254"}`,
						`{"subnet": "fd00::/64", "rangeStart": "fd00::1:1", "rangeEnd": "fd00::1:99", "gateway": "fd00::1:fe"}`),
			}},
			Reach: func(pod *roletest.Pod) {
				for i, to := range f.Of(netip.AddrPortFrom(p.Addrs[0], 80).String(), netip.AddrPortFrom(p.Addrs[1], 80).String()) {
					n.WantSeen(pod.NS, "tcp", to, pod.Addrs[i].String())
				}
			},
		})
	})
}
