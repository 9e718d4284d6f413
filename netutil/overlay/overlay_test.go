package overlay_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/overlay"
)

// cluster is hosts on one underlay, 192.0.2.0/24 and 2001:db8::/64, in which the host i has the addresses .i and ::i, and the pods' subnets
// 10.244.i.0/24 and fd00:i::/64.
type cluster struct {
	t     *testing.T
	net   *nstest.NS
	hosts []*host
	v6    bool // the tunnel goes over IPv6
}

type host struct {
	*nstest.NS
	number int
}

func newCluster(t *testing.T, size int, v6 bool) *cluster {
	t.Helper()
	c := &cluster{t: t, net: nstest.New(t, "underlay"), v6: v6}
	c.net.Run("ip", "link", "add", "lan", "up", "type", "bridge")
	for i := 1; i <= size; i++ {
		h := &host{nstest.New(t, fmt.Sprintf("host%d", i)), i}
		h.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", fmt.Sprintf("port%d", i), "netns", c.net.Path)
		c.net.Run("ip", "link", "set", fmt.Sprintf("port%d", i), "master", "lan", "up")
		h.Run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.eth0.accept_dad=0", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
		h.Run("ip", "link", "set", "eth0", "up")
		h.Run("ip", "link", "set", "lo", "up")
		h.Run("ip", "addr", "add", fmt.Sprintf("192.0.2.%d/24", i), "dev", "eth0")
		h.Run("ip", "addr", "add", fmt.Sprintf("2001:db8::%d/64", i), "dev", "eth0", "nodad")
		// A pod's address, on a link of its own.
		h.Run("ip", "link", "add", "pod", "up", "type", "veth", "peer", "name", "pod-peer")
		h.Run("ip", "link", "set", "pod-peer", "up")
		h.Run("ip", "addr", "add", fmt.Sprintf("10.244.%d.5/32", i), "dev", "pod")
		h.Run("ip", "addr", "add", fmt.Sprintf("fd00:%d::5/128", i), "dev", "pod", "nodad")
		c.hosts = append(c.hosts, h)
	}
	return c
}

func (c *cluster) peers() (all []overlay.Peer) {
	for _, h := range c.hosts {
		all = append(all, overlay.Peer{
			Name:     fmt.Sprintf("host%d", h.number),
			Underlay: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", h.number)), netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", h.number))},
			Subnets:  []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", h.number)), netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", h.number))},
		})
	}
	return all
}

// config is that of a host, with the list of peers that all have.
func (c *cluster) config(h *host) *overlay.Config {
	peers := c.peers()
	own := peers[h.number-1]
	out := &overlay.Config{Network: "podnet", VNI: 42, Port: overlay.DefaultPort, Underlay: own.Underlay[0], Subnets: own.Subnets, Peers: peers}
	if c.v6 {
		out.Underlay = own.Underlay[1]
	}
	return out
}

// sync has a host's part of the overlay made so, and returns what was wrong.
func (h *host) sync(t *testing.T, c *overlay.Config) (*overlay.Status, error) {
	t.Helper()
	n, err := netutil.Open(h.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	return overlay.Sync(n, c)
}

// spot tells whether all that can be looked up is right.
func (h *host) spot(t *testing.T, c *overlay.Config) bool {
	t.Helper()
	n, err := netutil.Open(h.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	right, _, err := overlay.Spot(n, c)
	if err != nil {
		t.Error(err)
	}
	return right
}

// spotSoon waits a moment: the kernel makes an IPv6 address its own a little later.
func (h *host) spotSoon(t *testing.T, c *overlay.Config) bool {
	t.Helper()
	for range 300 {
		if h.spot(t, c) {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func (h *host) must(t *testing.T, c *overlay.Config) []overlay.Difference {
	t.Helper()
	status, err := h.sync(t, c)
	if err != nil {
		t.Fatalf("host%d: %v", h.number, err)
	}
	return status.Found
}

// ping tells whether a host reaches another's pod from its own, with packets of a size.
func (c *cluster) ping(from, to *host, v6 bool, size int) error {
	source, dest := fmt.Sprintf("10.244.%d.5", from.number), fmt.Sprintf("10.244.%d.5", to.number)
	if v6 {
		source, dest = fmt.Sprintf("fd00:%d::5", from.number), fmt.Sprintf("fd00:%d::5", to.number)
	}
	out, err := from.Try("ping", "-c", "1", "-W", "3", "-M", "do", "-s", fmt.Sprint(size), "-I", source, dest)
	if err != nil {
		return fmt.Errorf("host%d to %s: %w\n%s", from.number, dest, err, out)
	}
	return nil
}

// wantAllPairs pings from each host to each other.
func (c *cluster) wantAllPairs() {
	c.t.Helper()
	for _, from := range c.hosts {
		for _, to := range c.hosts {
			for _, v6 := range []bool{false, true} {
				if from != to {
					if err := c.ping(from, to, v6, 56); err != nil {
						c.t.Error(err)
					}
				}
			}
		}
	}
}

func TestAllPodsReachEachOther(t *testing.T) {
	t.Parallel()
	for name, v6 := range map[string]bool{"over IPv4": false, "over IPv6": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 4, v6)
			for _, h := range c.hosts {
				if found := h.must(t, c.config(h)); len(found) == 0 {
					t.Error("nothing was missing")
				}
			}
			c.wantAllPairs()
			// The largest packet passes whole: 1500 less the tunnel's 50 or 70, and IP's and ICMP's headers.
			largest := map[bool]int{false: 1450, true: 1430}[v6]
			if err := c.ping(c.hosts[0], c.hosts[1], false, largest-28); err != nil {
				t.Error(err)
			}
			if err := c.ping(c.hosts[0], c.hosts[1], true, largest-48); err != nil {
				t.Error(err)
			}
			if c.ping(c.hosts[0], c.hosts[1], false, largest-27) == nil {
				t.Error("a packet that is too large passed")
			}
			for _, h := range c.hosts {
				if found := h.must(t, c.config(h)); len(found) > 0 {
					t.Errorf("host%d: the second time %v was wrong", h.number, found)
				}
			}
		})
	}
}

// state is what the host holds of the overlay, without what changes by itself.
func (h *host) state() string {
	link := h.Run("ip", "-d", "-j", "link", "show", "vxlan42")
	var links []map[string]any
	if json.Unmarshal([]byte(link), &links) != nil || len(links) != 1 {
		return link
	}
	text := fmt.Sprint(links[0]["ifname"], links[0]["address"], links[0]["mtu"], links[0]["ifalias"], links[0]["linkinfo"])
	for _, list := range [][]string{
		{"ip", "addr", "show", "dev", "vxlan42", "scope", "global"},
		{"ip", "-4", "route"},
		{"ip", "-6", "route"},
		{"nft", "list", "table", "inet", "cnibox"},
		{"ip", "neigh", "show", "dev", "vxlan42", "nud", "permanent"},
		{"bridge", "fdb", "show", "dev", "vxlan42"},
	} {
		out, _ := h.Try(list[0], list[1:]...) // there may be no table
		lines := slices.DeleteFunc(strings.Split(out, "\n"), func(line string) bool {
			return line == "" || strings.Contains(line, ": vxlan42: <") // which has the interface's number
		})
		slices.Sort(lines)
		text += "\n" + strings.Join(lines, "\n")
	}
	return text
}

// Whatever somebody deletes or spoils comes back, and nothing of others is touched.
func TestEachThingThatIsDeletedComesBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	for _, h := range c.hosts {
		h.must(t, c.config(h))
	}
	h := c.hosts[0]
	mac := strings.Fields(h.Run("ip", "neigh", "show", "10.244.2.0", "dev", "vxlan42"))[2]
	foreign := []string{"ip route add 10.99.0.0/16 via 10.244.2.0 dev vxlan42 onlink", "bridge fdb add 02:00:00:00:00:99 dev vxlan42 dst 192.0.2.99"}
	for _, f := range foreign {
		h.Run("sh", "-c", f)
	}
	whole := h.state()
	for name, spoil := range map[string]string{
		"route":                "ip route del 10.244.2.0/24",
		"route of IPv6":        "ip -6 route del fd00:2::/64",
		"neighbour":            "ip neigh del 10.244.2.0 dev vxlan42",
		"neighbour of IPv6":    "ip neigh del fd00:2:: dev vxlan42",
		"neighbour's address":  "ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:01 dev vxlan42 nud permanent",
		"forwarding entry":     "bridge fdb del " + mac + " dev vxlan42",
		"forwarding address":   "bridge fdb replace " + mac + " dev vxlan42 dst 192.0.2.77",
		"address":              "ip addr del 10.244.1.0/32 dev vxlan42",
		"address of IPv6":      "ip addr del fd00:1::/128 dev vxlan42",
		"another address":      "ip addr add 10.1.1.1/32 dev vxlan42",
		"MTU":                  "ip link set vxlan42 mtu 1300",
		"MAC address":          "ip link set vxlan42 address 02:00:00:00:00:02",
		"taken down":           "ip link set vxlan42 down",
		"packet filter":        "nft flush ruleset",
		"subnet in the filter": "nft delete element inet cnibox inside_ipv4 { 10.244.2.0/24 }",
		"peer in the filter":   "nft delete element inet cnibox tunnel_peers_ipv4 { 192.0.2.2 . 4789 . 42 }",
	} {
		h.Run("sh", "-c", spoil)
		if h.state() == whole && name != "taken down" {
			t.Fatalf("%s: nothing has changed", name)
		}
		if h.spot(t, c.config(h)) != (name == "another address") { // which is too much, and nothing that is missing
			t.Errorf("%s: a look at it tells otherwise", name)
		}
		if found := h.must(t, c.config(h)); len(found) == 0 {
			t.Errorf("%s: nothing was found wrong", name)
		}
		if !h.spotSoon(t, c.config(h)) {
			t.Errorf("%s: a look at it finds something wrong yet", name)
		}
		// What the kernel drops of the foreign entries when the device is taken down nobody could bring back.
		for _, f := range foreign {
			_, _ = h.Try("sh", "-c", f+" 2> /dev/null")
		}
		if now := h.state(); now != whole {
			t.Errorf("%s: it is\n%s\nwant\n%s", name, now, whole)
		}
	}
	h.Run("ip", "link", "del", "vxlan42")
	h.must(t, c.config(h))
	c.wantAllPairs()
	// Device and entries are what they were: no peer notices.
	for _, f := range foreign {
		h.Run("sh", "-c", f)
	}
	if now := h.state(); now != whole {
		t.Errorf("device: it is\n%s\nwant\n%s", now, whole)
	}
}

func TestWhatChangesIsTakenUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, false)
	for _, h := range c.hosts {
		h.must(t, c.config(h))
	}
	h := c.hosts[0]
	without := c.config(h)
	without.Peers = without.Peers[:2]
	if found := h.must(t, without); len(found) != 6 { // two routes, two neighbours, a forwarding entry, the packet filter
		t.Errorf("found wrong: %v", found)
	}
	if state := h.state(); strings.Contains(state, "10.244.3.0") || strings.Contains(state, "fd00:3::") || strings.Contains(state, "192.0.2.3") {
		t.Errorf("the peer is not gone:\n%s", state)
	}
	// A peer has another underlay address.
	c.hosts[1].Run("ip", "addr", "del", "192.0.2.2/24", "dev", "eth0")
	c.hosts[1].Run("ip", "addr", "add", "192.0.2.22/24", "dev", "eth0")
	for _, h := range c.hosts {
		conf := c.config(h)
		conf.Peers[1].Underlay[0] = netip.MustParseAddr("192.0.2.22")
		if h.number == 2 {
			conf.Underlay = conf.Peers[1].Underlay[0]
		}
		h.must(t, conf)
	}
	c.wantAllPairs()
	// Another MTU, and another network.
	conf := c.config(h)
	conf.Peers[1].Underlay[0] = netip.MustParseAddr("192.0.2.22")
	conf.MTU = 1400
	h.must(t, conf)
	if out := h.Run("ip", "link", "show", "vxlan42"); !strings.Contains(out, "mtu 1400") {
		t.Errorf("the MTU is not 1400:\n%s", out)
	}
}

// A node without IPv6 is a peer of those that have it.
func TestFamiliesAreIndependent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	h, other := c.hosts[0], c.hosts[1]
	for _, h := range c.hosts {
		conf := c.config(h)
		conf.Peers[0].Subnets = conf.Peers[0].Subnets[:1]
		if h.number == 1 {
			conf.Subnets = conf.Subnets[:1]
		}
		h.must(t, conf)
		if found := h.must(t, conf); len(found) > 0 {
			t.Errorf("host%d: the second time %v was wrong", h.number, found)
		}
		if !h.spotSoon(t, conf) {
			t.Errorf("host%d: a look at it finds something wrong", h.number)
		}
	}
	if err := c.ping(h, other, false, 56); err != nil {
		t.Error(err)
	}
	if out := h.Run("ip", "-6", "route"); strings.Contains(out, "vxlan42 proto 193") {
		t.Errorf("there are routes of IPv6:\n%s", out)
	}
}

func TestDirectRoutesLeaveOutTheTunnel(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	for _, h := range c.hosts {
		conf := c.config(h)
		conf.Direct = true
		h.must(t, conf)
		if found := h.must(t, conf); len(found) > 0 {
			t.Errorf("the second time %v was wrong", found)
		}
	}
	h := c.hosts[0]
	if out := h.Run("ip", "route", "get", "10.244.2.5"); !strings.Contains(out, "via 192.0.2.2 dev eth0") {
		t.Errorf("the way is %s", out)
	}
	c.wantAllPairs()
	if out := h.Run("bridge", "fdb", "show", "dev", "vxlan42"); strings.Contains(out, "192.0.2.2") {
		t.Errorf("the tunnel leads to the peer:\n%s", out)
	}
	h.must(t, c.config(h)) // and back
	if out := h.Run("ip", "route", "get", "10.244.2.5"); !strings.Contains(out, "dev vxlan42") {
		t.Errorf("the way is %s", out)
	}
	if out := h.Run("ip", "route", "show", "dev", "eth0"); strings.Contains(out, "10.244") {
		t.Errorf("left is %s", out)
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	h := c.hosts[0]
	conf := c.config(h)
	conf.Direct = true
	routes := func() string { return h.Run("ip", "route") + h.Run("ip", "-6", "route") }
	before := routes()
	h.must(t, conf)
	n, err := netutil.Open(h.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := overlay.Remove(n, &overlay.Config{Network: "another", VNI: 42}); err != nil {
		t.Fatal(err)
	}
	h.Run("ip", "link", "show", "vxlan42")
	for range 2 {
		if err := overlay.Remove(n, conf); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Try("ip", "link", "show", "vxlan42"); err == nil {
		t.Error("the device is left")
	}
	if now := routes(); now != before {
		t.Errorf("routes are\n%s\nwant\n%s", now, before)
	}
}

// Of a host with several addresses the list tells which one is the tunnel's, whatever address the kernel would send from.
func TestTheListTellsTheAddress(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	h := c.hosts[0]
	h.Run("sh", "-ec", "ip addr del 192.0.2.1/24 dev eth0; ip addr add 192.0.2.200/24 dev eth0; ip addr add 192.0.2.1/24 dev eth0")
	conf := c.config(h)
	conf.Underlay = netip.Addr{}
	h.must(t, conf)
	c.hosts[1].must(t, c.config(c.hosts[1]))
	if out := h.Run("ip", "-d", "link", "show", "vxlan42"); !strings.Contains(out, " local 192.0.2.1 ") {
		t.Errorf("the device is\n%s", out)
	}
	c.wantAllPairs()
}

// A host that somebody has set up by hand is a peer like others.
func TestAPlainVXLANHostIsAPeer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	ours, plain := c.hosts[0], c.hosts[1]
	conf := c.config(ours)
	conf.Peers[1].MAC = []byte{2, 0, 0, 0, 0, 2}
	ours.must(t, conf)
	mac := regexp.MustCompile(`link/ether (\S+)`).FindStringSubmatch(ours.Run("ip", "link", "show", "vxlan42"))[1]
	plain.Run("sh", "-ec", `ip link add vx address 02:00:00:00:00:02 type vxlan id 42 dstport 4789 local 192.0.2.2 nolearning
		ip link set vx mtu 1450 up
		ip neigh add 10.244.1.0 lladdr `+mac+` dev vx nud permanent
		ip neigh add fd00:1:: lladdr `+mac+` dev vx nud permanent
		bridge fdb add `+mac+` dev vx dst 192.0.2.1
		ip route add 10.244.1.0/24 via 10.244.1.0 dev vx onlink
		ip -6 route add fd00:1::/64 via fd00:1:: dev vx onlink`)
	c.wantAllPairs()
}

func TestBadInputChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	h := c.hosts[0]
	state := func() string {
		return h.Run("ip", "-4", "-o", "addr") + h.Run("ip", "route") + h.Run("ls", "/proc/sys/net/ipv4/conf") // the links
	}
	before := state()
	for name, tt := range map[string]struct {
		spoil func(*overlay.Config)
		code  uint
		want  string
	}{
		"vni 0":         {func(c *overlay.Config) { c.VNI = 0 }, errcode.InvalidConfig, "vni: 0 is not within"},
		"vni too great": {func(c *overlay.Config) { c.VNI = 1 << 24 }, errcode.InvalidConfig, "vni: 16777216 is not within"},
		"no port":       {func(c *overlay.Config) { c.Port = 0 }, errcode.InvalidConfig, "port: "},
		"no subnets":    {func(c *overlay.Config) { c.Subnets = nil }, errcode.InvalidConfig, "nodeSubnets: missing"},
		"mtu too great": {func(c *overlay.Config) { c.MTU = 1451 }, errcode.InvalidConfig, "mtu: 1451 is more than 1450"},
		"mtu too small": {func(c *overlay.Config) { c.MTU = 1279 }, errcode.InvalidConfig, "mtu: 1279 is less than 1280"},
		"no such address": {
			func(c *overlay.Config) { c.Underlay = netip.MustParseAddr("192.0.2.99") }, errcode.NotAvailable,
			"underlay: this node does not have the address 192.0.2.99",
		},
		"no such link": {
			func(c *overlay.Config) { c.Underlay, c.Device = netip.Addr{}, "eth9" }, errcode.NotAvailable, "underlay: no interface eth9",
		},
		"another link": {
			func(c *overlay.Config) { c.Device = "lo" }, errcode.NotAvailable, "underlay: eth0 has the address 192.0.2.1, not lo",
		},
		"overlap": {
			func(c *overlay.Config) { c.Peers[1].Subnets[0] = netip.MustParsePrefix("10.244.0.0/16") }, errcode.InvalidConfig,
			"peers: the subnet 10.244.0.0/16 of host2 and this node's 10.244.1.0/24 overlap",
		},
		"another family": {
			func(c *overlay.Config) { c.Peers[1].Underlay = c.Peers[1].Underlay[1:] }, errcode.InvalidConfig, "peers: host2 has no underlay address of the family",
		},
	} {
		conf := c.config(h)
		tt.spoil(conf)
		_, err := h.sync(t, conf)
		errtest.WantKey(t, err, tt.code, tt.want)
		if now := state(); now != before {
			t.Errorf("%s: changed\n%s\nto\n%s", name, before, now)
		}
	}
	h.Run("ip", "link", "add", "vxlan42", "address", "0e:00:00:00:00:01", "type", "vxlan", "id", "7", "dstport", "4790")
	_, err := h.sync(t, c.config(h))
	errtest.WantKey(t, err, errcode.AlreadyExists, "vni: interface vxlan42 is there already")
	h.Run("ip", "link", "del", "vxlan42")
	h.Run("ip", "link", "add", "theirs", "type", "vxlan", "id", "42", "dstport", "4789")
	_, err = h.sync(t, c.config(h))
	errtest.WantKey(t, err, errcode.AlreadyExists, "vni: another VXLAN interface has VNI 42 on port 4789")
}

func TestParsePeers(t *testing.T) {
	t.Parallel()
	good := `[{"name": "a", "underlay": ["192.0.2.1", "2001:db8::1"], "subnets": ["10.1.0.0/24", "fd00:1::/64"], "mac": "02:00:00:00:00:01"},
		{"name": "b", "underlay": ["192.0.2.2"], "subnets": ["10.2.0.0/24"]}]`
	c := &overlay.Config{}
	if err := c.ParsePeers("peers", []byte(good)); err != nil || len(c.Peers) != 2 || c.Peers[0].MAC.String() != "02:00:00:00:00:01" || len(c.Peers[0].Underlay) != 2 {
		t.Errorf("read %v, %v", c.Peers, err)
	}
	for from, tt := range map[string]struct{ to, want string }{
		`"a"`:               {`"b"`, "peers[1].name: b is the name of peers[0] as well"},
		`"b"`:               {`""`, `peers[1].name: "" is no name`},
		`"192.0.2.2"`:       {`"192.0.2.1"`, "peers[1].underlay: 192.0.2.1 of b is the address of a as well"},
		`["192.0.2.2"]`:     {`[]`, "peers[1].underlay: missing"},
		`"2001:db8::1"`:     {`"192.0.2.9"`, `peers[0].underlay[1]: "192.0.2.9" is no address of another family`},
		`"10.2.0.0/24"`:     {`"10.1.0.128/25"`, "peers: the subnets 10.1.0.0/24 of a and 10.1.0.128/25 of b overlap"},
		`["10.2.0.0/24"]`:   {`[]`, "peers[1].subnets: missing"},
		`"fd00:1::/64"`:     {`"fd00:1::1/64"`, `peers[0].subnets[1]: "fd00:1::1/64" is no subnet`},
		"02:00:00:00:00:01": {"03:00:00:00:00:01", `peers[0].mac: "03:00:00:00:00:01" is no MAC`},
		`[{"name"`:          {`{"name"`, "peers: no list of peers"},
		`"subnets": ["10.2`: {`"subnets": 5, "x": ["10.2`, "peers[1].subnets: it is a JSON number"},
	} {
		err := c.ParsePeers("peers", []byte(strings.Replace(good, from, tt.to, 1)))
		errtest.WantKey(t, err, errcode.InvalidConfig, tt.want)
	}
}
