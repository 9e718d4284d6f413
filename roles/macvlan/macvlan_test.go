package macvlan_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/static"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/macvlan"
	"github.com/cnibox/cnibox/roles/roletest"
)

func newNode(t *testing.T) *roletest.Node {
	t.Helper()
	return roletest.NewNode(t, roles.Table{"macvlan": macvlan.New(), "host-local": hostlocal.New(), "static": static.New()})
}

// conf is a configuration with keys of its own, and addresses of both families in the network that roletest's outside is in.
func conf(dir, keys string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "lan", "type": "macvlan"%s, "ipam": {"type": "host-local", "dataDir": %q,
		"ranges": [[%s], [%s]]}}`, keys, dir, range4, range6)
}

const (
	range4 = `{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.128"}`
	range6 = `{"subnet": "2001:db8::/64", "rangeStart": "2001:db8::200"}`
)

func fixed(addr, keys string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "master": "uplink"%s,
		"ipam": {"type": "static", "addresses": [{"address": "%s/24"}]}}`, keys, addr)
}

func TestPodsAreMachinesOfTheNetwork(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	outside := n.Outside()
	c := conf(dir, `, "master": "uplink"`)
	a, b := n.Add("macvlan", "a", c), n.Add("macvlan", "b", c)
	n.Server(outside, 80)
	n.Server(b.NS, 80)
	for i, network := range []string{"tcp", "udp"} {
		n.WantSeen(a.NS, network, []string{"192.0.2.100:80", "[2001:db8::100]:80"}[i], a.Addrs[i].String())
		n.WantSeen(a.NS, network, []string{b.Addrs[0].String() + ":80", "[" + b.Addrs[1].String() + "]:80"}[i], a.Addrs[i].String())
		n.WantSeen(outside, network, []string{b.Addrs[0].String() + ":80", "[" + b.Addrs[1].String() + "]:80"}[i], []string{"192.0.2.100", "2001:db8::100"}[i])
	}
}

func TestPrivatePodsDoNotReachEachOther(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	outside := n.Outside()
	c := conf(dir, `, "master": "uplink", "mode": "private"`)
	a, b := n.Add("macvlan", "a", c), n.Add("macvlan", "b", c)
	n.Server(outside, 80)
	n.Server(b.NS, 80)
	n.WantSeen(a.NS, "tcp", "192.0.2.100:80", a.Addrs[0].String())
	n.WantSeen(a.NS, "tcp", "[2001:db8::100]:80", a.Addrs[1].String())
	for _, addr := range b.Addrs {
		n.WantSeen(a.NS, "tcp", net.JoinHostPort(addr.String(), "80"), "")
	}
}

func TestModes(t *testing.T) {
	for _, mode := range []string{"bridge", "private", "vepa", "passthru"} {
		n := newNode(t)
		n.Server(n.Outside(), 80)
		c := conf(t.TempDir(), fmt.Sprintf(`, "master": "uplink", "mode": %q, "bcqueuelen": 500, "mtu": 1300`, mode))
		a := n.Add("macvlan", "a", c)
		n.WantReach(a, "192.0.2.100", "2001:db8::100")
		if out := a.Run("ip", "-d", "link", "show", "eth0"); !strings.Contains(out, "mode "+mode) || !strings.Contains(out, "mtu 1300") ||
			!strings.Contains(out, "bcqueuelen 500") {
			t.Errorf("%s: %s", mode, out)
		}
		if err := n.Check("macvlan", "a", c); err != nil {
			t.Errorf("%s: CHECK: %v", mode, err)
		}
		other := strings.Replace(c, fmt.Sprintf("%q", mode), `"`+map[bool]string{true: "vepa", false: "bridge"}[mode == "bridge"]+`"`, 1)
		errtest.Want(t, n.Check("macvlan", "a", other), errcode.Differs, "eth0")
	}
}

func TestTheMasterIsThatOfTheDefaultRoute(t *testing.T) {
	for _, route := range []string{"192.0.2.254", "2001:db8::fe"} {
		n := newNode(t)
		n.Outside()
		c := conf(t.TempDir(), "")
		_, err := n.Do(roletest.Call{Verb: "ADD", Role: "macvlan", Pod: n.Pod("a"), Conf: c})
		errtest.Want(t, err, errcode.InvalidConfig, "master")
		n.Host.Run("ip", "route", "add", "default", "via", route)
		a := n.Add("macvlan", "a", c)
		a.Run("ping", "-c1", "-W5", "192.0.2.100")
		n.Host.Run("ip", "route", "del", "default", "via", route)
		if err := n.Check("macvlan", "a", c); err != nil {
			t.Errorf("CHECK without the default route: %v", err)
		}
		n.Del("macvlan", "a", c)
	}
}

func TestLinkInContainer(t *testing.T) {
	n := newNode(t)
	c := conf(t.TempDir(), `, "master": "uplink", "linkInContainer": true`)
	a := n.Pod("a")
	a.Run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "far")
	a.Run("ip", "link", "set", "uplink", "up")
	n.Add("macvlan", "a", c)
	if out := a.Run("ip", "-d", "link", "show", "eth0"); !strings.Contains(out, "eth0@uplink") {
		t.Errorf("eth0: %s", out)
	}
	if err := n.Check("macvlan", "a", c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	n.Del("macvlan", "a", c)
	n.Clean()
}

// mac is the address of a pod's eth0.
func mac(p *roletest.Pod) string {
	return strings.Fields(p.Run("ip", "-br", "link", "show", "eth0"))[2]
}

func TestMACAddress(t *testing.T) {
	for _, tt := range []struct{ keys, args, want string }{
		{`, "mac": "02:00:00:00:00:01"`, "", "02:00:00:00:00:01"},
		{`, "mac": "02:00:00:00:00:01"`, "MAC=02:00:00:00:00:02", "02:00:00:00:00:02"},
		{`, "args": {"cni": {"mac": "02:00:00:00:00:03"}}`, "MAC=02:00:00:00:00:02", "02:00:00:00:00:03"},
		{`, "runtimeConfig": {"mac": "02:00:00:00:00:04"}, "args": {"cni": {"mac": "02:00:00:00:00:03"}}`, "", "02:00:00:00:00:04"},
	} {
		n := newNode(t)
		n.Outside()
		p := n.Pod("a")
		out := n.Must(roletest.Call{Verb: "ADD", Role: "macvlan", Pod: p, Conf: fixed("192.0.2.5", tt.keys), Args: tt.args})
		if got := mac(p); got != tt.want || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s %s: %s, want %s", tt.keys, tt.args, got, tt.want)
		}
	}
}

// The sandbox is made anew, and the interface has the address that it had: switches need not learn.
func TestTheMACAddressStays(t *testing.T) {
	n := newNode(t)
	n.Outside()
	c := fixed("192.0.2.5", "")
	a := n.Add("macvlan", "a", c)
	before := mac(a)
	n.Del("macvlan", "a", c)
	n.Add("macvlan", "a", c)
	if after := mac(a); after != before {
		t.Errorf("%s, and then %s", before, after)
	}
}

// A neighbour that knows an address's former holder learns the new one at once, without asking.
func TestNeighboursLearnAnAddressesNewHolder(t *testing.T) {
	n := newNode(t)
	outside := n.Outside()
	c := `{"cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "master": "uplink", "ipam": {"type": "static",
		"addresses": [{"address": "192.0.2.5/24"}, {"address": "2001:db8::5/64"}]}}`
	for _, addr := range []string{"192.0.2.5", "2001:db8::5"} {
		outside.Run("ip", "neigh", "add", addr, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale")
	}
	a := n.Add("macvlan", "a", c)
	for _, addr := range []string{"192.0.2.5", "2001:db8::5"} {
		var out string
		for range 100 {
			if out = outside.Run("ip", "neigh", "show", addr); strings.Contains(out, mac(a)) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if !strings.Contains(out, mac(a)) {
			t.Errorf("%s, want %s", out, mac(a))
		}
	}
}

func TestWithoutAddresses(t *testing.T) {
	n := newNode(t)
	n.Outside()
	const c = `{"cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "master": "uplink"}`
	a := n.Add("macvlan", "a", c)
	if out := a.Run("ip", "-br", "link", "show", "eth0"); !strings.Contains(out, "LOWER_UP") {
		t.Errorf("eth0 is %s", out)
	}
	if err := n.Check("macvlan", "a", c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	n.Del("macvlan", "a", c)
	n.Clean()
}

func TestNothingIsLeftWithoutASandbox(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	n.Outside()
	n.WantNothingLeft("macvlan", conf(dir, `, "master": "uplink"`), dir)
}

func TestBehindAnotherPlugin(t *testing.T) {
	n := newNode(t)
	n.Outside()
	n.WantChained("macvlan", conf(t.TempDir(), `, "master": "uplink"`))
}

// Of two networks with an interface of one name in one container, DEL takes its own.
func TestDelLeavesAnotherNetworksInterface(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	n.Outside()
	c := conf(dir, `, "master": "uplink"`)
	n.Add("macvlan", "a", c)
	n.Del("macvlan", "a", strings.Replace(c, `"lan"`, `"other"`, 1))
	if err := n.Check("macvlan", "a", c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
}

// An interface that the reference plugin has made carries no owner.
func TestDelOfAnotherProgramsInterface(t *testing.T) {
	n := newNode(t)
	n.Outside()
	a := n.Pod("a")
	n.Host.Run("ip", "link", "add", "link", "uplink", "name", "eth0", "netns", a.Path, "type", "macvlan")
	n.Del("macvlan", "a", conf(t.TempDir(), ""))
	if out, err := a.Try("ip", "link", "show", "eth0"); err == nil {
		t.Errorf("still there: %s", out)
	}
}

func TestStatusNamesTheMaster(t *testing.T) {
	n := newNode(t)
	status := func(c string) error {
		_, err := n.Do(roletest.Call{Verb: "STATUS", Role: "macvlan", Conf: c})
		return err
	}
	c := conf(t.TempDir(), `, "master": "uplink"`)
	errtest.Want(t, status(c), errcode.NotAvailable, "uplink")
	n.Outside()
	if err := status(c); err != nil {
		t.Error(err)
	}
	n.Host.Run("ip", "link", "set", "uplink", "down")
	errtest.Want(t, status(c), errcode.NotAvailable, "uplink")
}

func TestBadInputChangesNothing(t *testing.T) {
	n := newNode(t)
	n.Outside()
	ipam := `{"type": "static", "addresses": [{"address": "192.0.2.5/24"}, {"address": "2001:db8::5/64"}]}`
	n.WantRefused("macvlan", ipam,
		roletest.Refusal{Keys: `"master": "nosuch"`, Want: "master: "},
		roletest.Refusal{Keys: `"master": "a/b"`, Want: "master: "},
		roletest.Refusal{Keys: `"master": 5`, Want: "master: "},
		roletest.Refusal{Keys: `"master": "uplink", "mode": "wild"`, Want: "mode: "},
		roletest.Refusal{Keys: `"master": "uplink", "mtu": -1`, Want: "mtu: "},
		roletest.Refusal{Keys: `"master": "uplink", "mtu": 9000`, Want: "mtu: "},
		roletest.Refusal{Keys: `"master": "uplink", "mtu": 1000`, Want: "mtu: "}, // too small for IPv6
		roletest.Refusal{Keys: `"master": "uplink", "mac": "01:00:00:00:00:01"`, Want: "mac: "},
		roletest.Refusal{Keys: `"master": "uplink", "runtimeConfig": {"mac": "x"}`, Want: "runtimeConfig.mac: "},
		roletest.Refusal{Keys: `"master": "uplink", "args": {"cni": {"mac": "x"}}`, Want: "args.cni.mac: "},
		roletest.Refusal{Keys: `"master": "uplink"`, Args: "MAC=x", Code: errcode.InvalidEnvironment, Want: "CNI_ARGS MAC: "},
		roletest.Refusal{Keys: `"master": "uplink", "bcqueuelen": -1`, Want: "bcqueuelen: "},
		roletest.Refusal{Keys: `"master": "uplink", "bcqueuelen": 4294967296`, Want: "bcqueuelen: "},
		roletest.Refusal{Keys: `"master": "uplink", "mtu": 65536`, Want: "mtu: "},
		roletest.Refusal{Keys: `"master": "uplink", "linkInContainer": "x"`, Want: "linkInContainer: "},
		roletest.Refusal{Keys: `"master": "uplink", "linkInContainer": true`, Want: "master: "},
	)
}

func TestReadmeExamples(t *testing.T) {
	n := newNode(t)
	n.Outside()
	n.WantReadmeExamples("macvlan", 2)
}

func TestFamilies(t *testing.T) {
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		n, dir := newNode(t), t.TempDir()
		n.Server(n.Outside(), 80)
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir,
			Plugins: []roletest.Plugin{{Role: "macvlan", Keys: `"master": "uplink", ` + f.IPAM(dir, range4, range6)}},
			Reach:   func(p *roletest.Pod) { n.WantReach(p, "192.0.2.100", "2001:db8::100") },
		})
	})
}
