package vxlan_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/roletest"
	"github.com/cnibox/cnibox/roles/vxlan"
)

// cluster is nodes on one underlay, 192.0.2.0/24 and 2001:db8::/64. The node i, counted from 1, has .i and ::i there, and its pods 10.244.i.0/24
// and fd00:i::/64.
type cluster struct {
	t     *testing.T
	net   *nstest.NS
	nodes []*node
	v6    bool // the tunnel goes over IPv6
}

type node struct {
	*roletest.Node
	t      *testing.T
	number int
	dir    string
}

func newCluster(t *testing.T, size int, v6 bool) *cluster {
	t.Helper()
	c := &cluster{t: t, net: nstest.New(t, "underlay"), v6: v6}
	c.net.Run("ip", "link", "add", "lan", "up", "type", "bridge")
	for i := 1; i <= size; i++ {
		n := &node{roletest.NewNode(t, roles.Table{"vxlan": vxlan.New(), "host-local": hostlocal.New()}), t, i, t.TempDir()}
		n.Host.VarLib = t.TempDir()
		port := fmt.Sprintf("port%d", i)
		n.Host.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", c.net.Path)
		c.net.Run("ip", "link", "set", port, "master", "lan", "up")
		n.Host.Run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
		n.Host.Run("ip", "link", "set", "eth0", "up")
		n.Host.Run("ip", "addr", "add", fmt.Sprintf("192.0.2.%d/24", i), "dev", "eth0")
		n.Host.Run("ip", "addr", "add", fmt.Sprintf("2001:db8::%d/64", i), "dev", "eth0", "nodad")
		c.nodes = append(c.nodes, n)
	}
	return c
}

// peers is the list that all nodes have.
func (c *cluster) peers() string {
	var list []string
	for _, n := range c.nodes {
		list = append(list, fmt.Sprintf(`{"name": "node%[1]d", "underlay": ["192.0.2.%[1]d", "2001:db8::%[1]d"], "subnets": ["10.244.%[1]d.0/24", "fd00:%[1]d::/64"]}`, n.number))
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// conf is a node's configuration, with more keys.
func (c *cluster) conf(n *node, keys ...string) string {
	all := fmt.Sprintf(`"underlay": %q`, c.underlay(n))
	if !strings.Contains(strings.Join(keys, ""), "peersFile") {
		all += `, "peers": ` + c.peers()
	}
	return n.confOf(strings.Join(append([]string{all}, keys...), ", "))
}

// underlay is a node's address below the tunnel.
func (c *cluster) underlay(n *node) string {
	if c.v6 {
		return fmt.Sprintf("2001:db8::%d", n.number)
	}
	return fmt.Sprintf("192.0.2.%d", n.number)
}

func (n *node) confOf(keys string) string {
	f := roletest.Family{V4: true, V6: true}
	ipam := f.IPAM(n.dir, fmt.Sprintf(`{"subnet": "10.244.%d.0/24"}`, n.number), fmt.Sprintf(`{"subnet": "fd00:%d::/64"}`, n.number))
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "podnet", "type": "vxlan", "vni": 42, "ipMasq": true, %s, %s}`, keys, ipam)
}

// pod attaches a pod, on which a server tells who asks.
func (c *cluster) pod(n *node, name string, keys ...string) *roletest.Pod {
	c.t.Helper()
	p := n.Add("vxlan", name, c.conf(n, keys...))
	n.Server(p.NS, 80)
	return p
}

// wantPairs has each pod ask each other one, which must see its own address.
func wantPairs(n *node, pods []*roletest.Pod) {
	for _, from := range pods {
		for _, to := range pods {
			for i, addr := range to.Addrs {
				if from != to {
					n.WantSeen(from.NS, "tcp", netip.AddrPortFrom(addr, 80).String(), from.Addrs[i].String())
				}
			}
		}
	}
}

func TestPodsOfAllNodesReachEachOther(t *testing.T) {
	t.Parallel()
	for name, v6 := range map[string]bool{"over IPv4": false, "over IPv6": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 4, v6)
			var pods []*roletest.Pod
			for _, n := range c.nodes {
				for _, name := range []string{"a", "b"} {
					pods = append(pods, c.pod(n, fmt.Sprintf("%s%d", name, n.number)))
				}
			}
			wantPairs(c.nodes[0], pods)
			for _, n := range c.nodes {
				if err := n.Check("vxlan", fmt.Sprintf("a%d", n.number), c.conf(n)); err != nil {
					t.Errorf("CHECK: %v", err)
				}
				n.Must(roletest.Call{Verb: "STATUS", Role: "vxlan", Conf: c.conf(n)})
			}
			c.wantLargest(pods[0], pods[2])
			// What goes elsewhere carries the node's address.
			c.nodes[0].Server(c.nodes[3].Host, 81)
			c.nodes[0].WantSeen(pods[0].NS, "tcp", "192.0.2.4:81", "192.0.2.1")
			c.nodes[0].WantSeen(pods[0].NS, "tcp", "[2001:db8::4]:81", "2001:db8::1")
			// The node itself reaches other nodes' pods.
			c.nodes[0].WantSeen(c.nodes[0].Host, "tcp", netip.AddrPortFrom(pods[7].Addrs[0], 80).String(), "10.244.1.0")
			for i, p := range pods {
				c.nodes[i/2].Del("vxlan", p.Name, c.conf(c.nodes[i/2]))
			}
			for _, n := range c.nodes {
				n.wantNothingLeft()
			}
		})
	}
}

// wantLargest has the largest packet pass whole from one node to another, and none that is larger.
func (c *cluster) wantLargest(from, to *roletest.Pod) {
	c.t.Helper()
	largest := map[bool]int{false: 1450, true: 1430}[c.v6]
	for _, size := range []int{largest, largest + 1} {
		_, err := from.Try("ping", "-c", "1", "-W", "2", "-M", "do", "-s", fmt.Sprint(size-28), to.Addrs[0].String())
		if (err == nil) != (size == largest) {
			c.t.Errorf("a packet of %d bytes: %v", size, err)
		}
	}
}

// wantNothingLeft looks for what the role makes.
func (n *node) wantNothingLeft() {
	n.t.Helper()
	n.Clean("eth0")
	if left := roletest.Reserved(n.t, n.dir); left != nil {
		n.t.Errorf("addresses left: %v", left)
	}
}

func TestTheNextPodRepairsTheTunnel(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	n := c.nodes[0]
	pods := []*roletest.Pod{c.pod(n, "a"), c.pod(c.nodes[1], "b")}
	wantPairs(n, pods)
	for i, spoil := range []string{
		"ip route del 10.244.2.0/24", "ip -6 neigh del fd00:2:: dev vxlan42", "ip link del vxlan42", "ip addr del 10.244.1.0/32 dev vxlan42",
		"bridge fdb del $(bridge fdb show dev vxlan42 | sed -n 's/ .*192.0.2.2.*//p') dev vxlan42", "nft flush ruleset",
		"nft delete element inet cnibox inside_ipv4 { 10.244.2.0/24 }", "nft delete element inet cnibox tunnel_peers_ipv4 { 192.0.2.2 . 4789 . 42 }",
	} {
		n.Host.Run("sh", "-c", spoil)
		if err := n.Check("vxlan", "a", c.conf(n)); err == nil {
			t.Errorf("%s: CHECK passes", spoil)
		}
		name := fmt.Sprintf("next%d", i)
		c.pod(n, name)
		wantPairs(n, pods)
		if err := n.Check("vxlan", "a", c.conf(n)); err != nil {
			t.Errorf("%s: CHECK: %v", spoil, err)
		}
		n.Del("vxlan", name, c.conf(n))
	}
}

func TestTheListOfPeersIsAFile(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, false)
	n, file := c.nodes[0], filepath.Join(t.TempDir(), "peers.json")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := fmt.Sprintf(`"peersFile": %q`, file)
	status := func() error {
		_, err := n.Do(roletest.Call{Verb: "STATUS", Role: "vxlan", Conf: c.conf(n, key)})
		return err
	}
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "vxlan", Pod: n.Pod("a"), Conf: c.conf(n, key)})
	errtest.WantKey(t, err, errcode.InvalidConfig, "peersFile: ")
	n.wantNothingLeft()
	errtest.WantKey(t, status(), errcode.NotAvailable, "peersFile: ")

	write(c.peers())
	pods := []*roletest.Pod{c.pod(n, "a", key), c.pod(c.nodes[1], "b"), c.pod(c.nodes[2], "c")}
	wantPairs(n, pods)
	if err := status(); err != nil {
		t.Error(err)
	}
	// A list that is no longer whole leaves the last one in force.
	for _, broken := range []string{c.peers()[:100], "", "{}", strings.Replace(c.peers(), "node2", "node1", 1)} {
		write(broken)
		n.Add("vxlan", "d", c.conf(n, key))
		wantPairs(n, pods)
		n.Del("vxlan", "d", c.conf(n, key))
		errtest.WantKey(t, status(), errcode.NotAvailable, "peersFile "+file+": peers")
	}
	// A peer goes, and comes back.
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(c.peers()), &list); err != nil {
		t.Fatal(err)
	}
	less, err := json.Marshal(list[:2])
	if err != nil {
		t.Fatal(err)
	}
	write(string(less))
	n.Add("vxlan", "d", c.conf(n, key))
	if out := n.Host.Run("ip", "route") + n.Host.Run("bridge", "fdb", "show", "dev", "vxlan42"); strings.Contains(out, "10.244.3.0") || strings.Contains(out, "192.0.2.3") {
		t.Errorf("the peer's entries are left:\n%s", out)
	}
	wantPairs(n, pods[:2])
	write(c.peers())
	n.Add("vxlan", "e", c.conf(n, key))
	wantPairs(n, pods)
}

func TestAChangedConfigurationIsTakenUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	n := c.nodes[0]
	pods := []*roletest.Pod{c.pod(n, "a"), c.pod(c.nodes[1], "b")}
	for i, change := range []func(string) string{
		func(conf string) string { return strings.Replace(conf, `"vni": 42`, `"vni": 43`, 1) },
		func(conf string) string { return strings.Replace(conf, `"vni": 42`, `"vni": 43, "port": 4790`, 1) },
		func(conf string) string { return strings.Replace(conf, `"vni": 42`, `"vni": 43, "mtu": 1400`, 1) },
		func(conf string) string {
			return strings.Replace(conf, `"vni": 42`, `"vni": 43, "directRouting": true`, 1)
		},
	} {
		for _, n := range c.nodes {
			n.Add("vxlan", fmt.Sprintf("new%d", i), change(c.conf(n)))
		}
		wantPairs(n, pods)
	}
	if out := n.Host.Run("ip", "-br", "link"); strings.Contains(out, "vxlan42") {
		t.Errorf("the former tunnel is left:\n%s", out)
	}
	if out := n.Host.Run("ip", "route", "get", "10.244.2.5"); !strings.Contains(out, "via 192.0.2.2 dev eth0") {
		t.Errorf("the way is %s", out)
	}
}

// Two nodes on one link reach each other beside the tunnel, a third one behind a router through it.
func TestANodeBehindARouter(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, false)
	far := c.nodes[2]
	// The bridge is the router, and the far node in a network of its own.
	c.net.Run("sysctl", "-qw", "net.ipv4.ip_forward=1")
	c.net.Run("ip", "link", "set", "port3", "nomaster")
	c.net.Run("ip", "addr", "add", "192.0.2.254/24", "dev", "lan")
	c.net.Run("ip", "addr", "add", "198.51.100.254/24", "dev", "port3")
	far.Host.Run("ip", "addr", "del", "192.0.2.3/24", "dev", "eth0")
	far.Host.Run("ip", "addr", "add", "198.51.100.3/24", "dev", "eth0")
	far.Host.Run("ip", "route", "add", "default", "via", "198.51.100.254")
	far.Host.Run("ip", "addr", "del", "2001:db8::3/64", "dev", "eth0")
	moved := strings.NewReplacer(`"192.0.2.3"`, `"198.51.100.3"`, `, "2001:db8::3"`, "").Replace
	var pods []*roletest.Pod
	for _, n := range c.nodes {
		if n != far {
			n.Host.Run("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.254")
		}
		p := n.Add("vxlan", fmt.Sprint("pod", n.number), moved(c.conf(n, `"directRouting": true`)))
		n.Server(p.NS, 80)
		pods = append(pods, p)
	}
	wantPairs(far, pods)
	for to, want := range map[string]string{"10.244.2.5": "via 192.0.2.2 dev eth0", "10.244.3.5": "via 10.244.3.0 dev vxlan42"} {
		if out := c.nodes[0].Host.Run("ip", "route", "get", to); !strings.Contains(out, want) {
			t.Errorf("the way to %s is %s", to, out)
		}
	}
	// The path between them gets narrower: large packets still pass, as those of the tunnel may be cut.
	c.net.Run("ip", "link", "set", "port3", "mtu", "1400")
	far.Host.Run("ip", "link", "set", "eth0", "mtu", "1400")
	pods[0].Run("ping", "-c", "1", "-W", "5", "-s", "1422", pods[2].Addrs[0].String())
	far.Add("vxlan", "next", moved(c.conf(far, `"directRouting": true`)))
	if out := far.Host.Run("ip", "link", "show", "vxlan42"); !strings.Contains(out, "mtu 1350") {
		t.Errorf("the tunnel has not followed the underlay:\n%s", out)
	}
	pods[0].Run("ping", "-c", "1", "-W", "5", "-s", "1422", pods[2].Addrs[0].String())
	wantPairs(far, pods)
}

func TestTheTunnelGoesWithTheLastPod(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	n := c.nodes[0]
	n.Add("vxlan", "a", c.conf(n))
	n.Add("vxlan", "b", c.conf(n))
	n.Del("vxlan", "a", c.conf(n))
	n.Host.Run("ip", "link", "show", "vxlan42")
	n.Must(roletest.Call{Verb: "DEL", Role: "vxlan", Pod: n.Pod("b"), Conf: c.conf(n), NoSandbox: true})
	n.wantNothingLeft()
	n.Del("vxlan", "b", c.conf(n))
	n.wantNothingLeft()
	// GC too.
	n.Add("vxlan", "a", c.conf(n))
	n.Must(roletest.Call{Verb: "GC", Role: "vxlan", Conf: c.conf(n, `"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]`)})
	n.Host.Run("ip", "link", "show", "vxlan42")
	n.Must(roletest.Call{Verb: "GC", Role: "vxlan", Conf: c.conf(n, `"cni.dev/valid-attachments": []`)})
	n.wantNothingLeft()
	// An ADD that fails takes back what it made, and nothing that others use.
	bad := strings.Replace(c.conf(n), `"ranges": [[{`, `"ranges": [[{"rangeStart": "x", `, 1)
	if _, err := n.Do(roletest.Call{Verb: "ADD", Role: "vxlan", Pod: n.Pod("c"), Conf: bad}); err == nil {
		t.Error("ADD succeeds with a bad range")
	}
	n.wantNothingLeft()
	keep := c.conf(n, `"keep": true`)
	n.Add("vxlan", "a", keep)
	n.Del("vxlan", "a", keep)
	n.Host.Run("ip", "link", "show", "vxlan42")
	if _, err := n.Do(roletest.Call{Verb: "ADD", Role: "vxlan", Pod: n.Pod("c"), Conf: bad}); err == nil {
		t.Error("ADD succeeds with a bad range")
	}
}

func TestBadInputChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	n := c.nodes[0]
	peers := `"peers": ` + c.peers()
	conf := c.conf(n)
	ipam := strings.TrimSuffix(conf[strings.Index(conf, `"ipam": `)+len(`"ipam": `):], "}")
	n.WantRefused("vxlan", ipam,
		roletest.Refusal{Keys: peers, Want: "vni: 0 is not within 1 and 16777215"},
		roletest.Refusal{Keys: `"vni": 16777216, ` + peers, Want: "vni: 16777216 is not within"},
		roletest.Refusal{Keys: `"vni": -1, ` + peers, Want: "vni: -1 is not within"},
		roletest.Refusal{Keys: `"vni": 42, "port": 0, ` + peers, Want: "port: 0 is not within 1 and 65535"},
		roletest.Refusal{Keys: `"vni": 42, "port": 65536, ` + peers, Want: "port: 65536 is not within"},
		roletest.Refusal{Keys: `"vni": 42, "mtu": 67, ` + peers, Want: "mtu: 67"},
		roletest.Refusal{Keys: `"vni": 42, "mtu": 1451, "underlay": "eth0", ` + peers, Want: "mtu: 1451 is more than 1450"},
		roletest.Refusal{Keys: `"vni": 42, "underlay": "a/b", ` + peers, Want: "underlay: "},
		roletest.Refusal{Keys: `"vni": 42, "underlay": "eth7", ` + peers, Want: "underlay: no interface eth7", Code: errcode.NotAvailable},
		roletest.Refusal{Keys: `"vni": 42, "underlay": "192.0.2.77", ` + peers, Want: "underlay: this node does not have the address 192.0.2.77", Code: errcode.NotAvailable},
		roletest.Refusal{Keys: `"vni": 42`, Want: "peers: missing"},
		roletest.Refusal{Keys: `"vni": 42, "peersFile": "/x", ` + peers, Want: "peersFile: peers are there as well"},
		roletest.Refusal{Keys: `"vni": 42, "peersFile": "x"`, Want: `peersFile: "x" is no absolute path`},
		roletest.Refusal{Keys: `"vni": 42, "peersFile": "/nonexistent/x"`, Want: "peersFile: open /nonexistent/x"},
		roletest.Refusal{Keys: `"vni": 42, "peers": [{"name": "b"}]`, Want: "peers[0].underlay: missing"},
		roletest.Refusal{Keys: `"vni": 42, "peers": 5`, Want: "peers: no list of peers"},
		roletest.Refusal{Keys: `"vni": 42, "nodeSubnets": ["10.244.1.0"], ` + peers, Want: `nodeSubnets[0]: "10.244.1.0" is no address`},
		roletest.Refusal{Keys: `"vni": 42, "nodeSubnets": ["10.244.0.0/16"], ` + peers, Want: "peers: the subnet"},
		roletest.Refusal{Keys: `"vni": 42, "underlay": "192.0.2.1", ` + strings.Replace(peers, "10.244.2.0/24", "10.244.1.0/25", 1), Want: "peers: the subnets"},
	)
	n.Host.Run("ip", "link", "set", "eth0", "down")
	_, err := n.Do(roletest.Call{Verb: "STATUS", Role: "vxlan", Conf: c.conf(n)})
	errtest.WantKey(t, err, errcode.NotAvailable, "underlay: ")
	n.wantNothingLeft()
}

func TestReadmeExample(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, false)
	n := c.nodes[0]
	n.Host.Run("ip", "addr", "add", "192.0.2.11/24", "dev", "eth0")
	n.WantReadmeExamples("vxlan", 2)
	n.wantNothingLeft()
}

func TestFamilies(t *testing.T) {
	t.Parallel()
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		c := newCluster(t, 2, false)
		n, other := c.nodes[0], c.nodes[1]
		p := c.pod(other, "other")
		dir := t.TempDir()
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir, Links: []string{"eth0"},
			Plugins: []roletest.Plugin{{
				Role: "vxlan", Keys: `"vni": 42, "underlay": "192.0.2.1", "nodeSubnets": ["10.244.1.0/24", "fd00:1::/64"], "peers": ` + c.peers() + ", " +
					f.IPAM(dir, `{"subnet": "10.244.1.0/24"}`, `{"subnet": "fd00:1::/64"}`),
			}},
			Reach: func(pod *roletest.Pod) {
				for i, to := range f.Of(netip.AddrPortFrom(p.Addrs[0], 80).String(), netip.AddrPortFrom(p.Addrs[1], 80).String()) {
					n.WantSeen(pod.NS, "tcp", to, pod.Addrs[i].String())
				}
			},
		})
	})
}
