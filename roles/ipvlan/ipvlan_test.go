package ipvlan_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/static"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/ipvlan"
	"github.com/cnibox/cnibox/roles/roletest"
)

func newNode(t *testing.T) *roletest.Node {
	t.Helper()
	return roletest.NewNode(t, roles.Table{"ipvlan": ipvlan.New(), "host-local": hostlocal.New(), "static": static.New()})
}

// conf is a configuration with keys of its own, and addresses of both families in the network that roletest's outside is in.
func conf(dir, keys string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "lan", "type": "ipvlan"%s, "ipam": {"type": "host-local", "dataDir": %q,
		"ranges": [[%s], [%s]]}}`, keys, dir, range4, range6)
}

const (
	range4 = `{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.128"}`
	range6 = `{"subnet": "2001:db8::/64", "rangeStart": "2001:db8::200"}`
)

func TestPodsAreMachinesOfTheNetwork(t *testing.T) {
	nstest.Need(t, "ipvlan")
	for _, mode := range []string{"l2", "l3", "l3s"} {
		t.Run(mode, func(t *testing.T) {
			n, dir := newNode(t), t.TempDir()
			outside := n.Outside()
			c := conf(dir, fmt.Sprintf(`, "master": "uplink", "mode": %q, "mtu": 1400`, mode))
			a, b := n.Add("ipvlan", "a", c), n.Add("ipvlan", "b", c)
			n.Server(outside, 80)
			n.Server(b.NS, 80)
			if mode != "l2" {
				routed(n, outside, a, b)
			}
			n.WantSeen(a.NS, "tcp", "192.0.2.100:80", a.Addrs[0].String())
			n.WantSeen(a.NS, "udp", "[2001:db8::100]:80", a.Addrs[1].String())
			n.WantSeen(a.NS, "tcp", b.Addrs[0].String()+":80", a.Addrs[0].String())
			n.WantSeen(a.NS, "udp", "["+b.Addrs[1].String()+"]:80", a.Addrs[1].String())
			if out := a.Run("ip", "-d", "link", "show", "eth0"); !strings.Contains(out, "mode "+mode+" ") || !strings.Contains(out, "mtu 1400") {
				t.Errorf("eth0: %s", out)
			}
			if err := n.Check("ipvlan", "a", c); err != nil {
				t.Errorf("CHECK: %v", err)
			}
		})
	}
}

// routed has the outside find pods whose interfaces answer to no neighbour, as those of the modes l3 and l3s.
func routed(n *roletest.Node, outside *nstest.NS, pods ...*roletest.Pod) {
	for _, p := range pods {
		for _, addr := range p.Addrs {
			outside.Run("ip", "neigh", "replace", addr.String(), "lladdr", linkAddress(n.Host, "uplink"), "dev", "eth0")
		}
	}
}

// linkAddress is the MAC address of a link.
func linkAddress(ns *nstest.NS, link string) string {
	return strings.Fields(ns.Run("ip", "-br", "link", "show", link))[2]
}

func TestPrivatePodsDoNotReachEachOther(t *testing.T) {
	nstest.Need(t, "ipvlan")
	n := newNode(t)
	outside := n.Outside()
	c := conf(t.TempDir(), `, "master": "uplink", "flag": "private"`)
	a, b := n.Add("ipvlan", "a", c), n.Add("ipvlan", "b", c)
	n.Server(outside, 80)
	n.Server(b.NS, 80)
	n.WantSeen(a.NS, "tcp", "192.0.2.100:80", a.Addrs[0].String())
	n.WantSeen(a.NS, "tcp", "[2001:db8::100]:80", a.Addrs[1].String())
	for _, addr := range b.Addrs {
		n.WantSeen(a.NS, "tcp", net.JoinHostPort(addr.String(), "80"), "")
	}
	errtest.Want(t, n.Check("ipvlan", "a", strings.Replace(c, "private", "vepa", 1)), errcode.Differs, "eth0")
}

func TestAddressesOfPrevResult(t *testing.T) {
	nstest.Need(t, "ipvlan")
	n := newNode(t)
	outside := n.Outside()
	const c = `{"cniVersion": "1.1.0", "name": "lan", "type": "ipvlan", "prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "uplink"}],
		"ips": [{"address": "192.0.2.9/24", "gateway": "192.0.2.100", "interface": 0}, {"address": "2001:db8::9/64", "interface": 0}],
		"routes": [{"dst": "0.0.0.0/0"}], "dns": {"domain": "x"}}}`
	out := n.Must(roletest.Call{Verb: "ADD", Role: "ipvlan", Pod: n.Pod("a"), Conf: c})
	for _, want := range []string{`"192.0.2.9/24"`, `"2001:db8::9/64"`, `"eth0"`, `"0.0.0.0/0"`, `"domain": "x"`} {
		if strings.Count(string(out), want) != 1 {
			t.Errorf("result %s, want one %s", out, want)
		}
	}
	if strings.Contains(string(out), "uplink") {
		t.Errorf("result %s still has the interface of prevResult", out)
	}
	n.Server(outside, 80)
	n.WantSeen(n.Pod("a").NS, "tcp", "192.0.2.100:80", "192.0.2.9")
	n.WantSeen(n.Pod("a").NS, "tcp", "[2001:db8::100]:80", "2001:db8::9")
}

func TestThePrevResultMustHaveOneInterface(t *testing.T) {
	n := newNode(t)
	n.WantRefused("ipvlan", "", roletest.Refusal{
		Keys: `"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "a"}, {"name": "b"}]}`, Want: "master: ",
	})
}

// The reference's DEL looks for the default route's link, and fails without.
func TestDelNeedsNoDefaultRoute(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	n.Del("ipvlan", "a", conf(dir, ""))
	nstest.Need(t, "ipvlan")
	n.Outside()
	n.Host.Run("ip", "route", "add", "default", "via", "192.0.2.100")
	n.Add("ipvlan", "a", conf(dir, ""))
	n.Host.Run("ip", "route", "del", "default")
	n.Del("ipvlan", "a", conf(dir, ""))
	if left := roletest.Reserved(t, dir); left != nil {
		t.Errorf("addresses left: %v", left)
	}
}

func TestNothingIsLeftWithoutASandbox(t *testing.T) {
	nstest.Need(t, "ipvlan")
	n, dir := newNode(t), t.TempDir()
	n.Outside()
	n.WantNothingLeft("ipvlan", conf(dir, `, "master": "uplink"`), dir)
}

func TestBehindAnotherPlugin(t *testing.T) {
	nstest.Need(t, "ipvlan")
	n := newNode(t)
	n.Outside()
	n.WantChained("ipvlan", conf(t.TempDir(), `, "master": "uplink"`))
}

func TestBadInputChangesNothing(t *testing.T) {
	n := newNode(t)
	n.Outside()
	ipam := `{"type": "static", "addresses": [{"address": "192.0.2.5/24"}, {"address": "2001:db8::5/64"}]}`
	n.WantRefused("ipvlan", ipam,
		roletest.Refusal{Keys: `"master": "nosuch"`, Want: "master: "},
		roletest.Refusal{Keys: `"master": "a/b"`, Want: "master: "},
		roletest.Refusal{Keys: `"mode": "l2"`, Want: "master: missing"},
		roletest.Refusal{Keys: `"master": "uplink", "linkInContainer": true`, Want: "master: "},
		roletest.Refusal{Keys: `"master": "uplink", "mtu": 67`, Want: "mtu: "},
		roletest.Refusal{Keys: `"master": "uplink", "mode": "l4"`, Want: "mode: "},
		roletest.Refusal{Keys: `"master": "uplink", "flag": "x"`, Want: "flag: "},
		roletest.Refusal{Keys: `"master": "uplink", "mtu": 9000`, Want: "mtu: "},
		roletest.Refusal{Keys: `"master": "uplink", "mtu": 1000`, Want: "mtu: "},
		roletest.Refusal{Keys: `"master": "uplink", "linkInContainer": 1`, Want: "linkInContainer: "},
	)
}

func TestReadmeExamples(t *testing.T) {
	nstest.Need(t, "ipvlan")
	n := newNode(t)
	n.Outside()
	n.WantReadmeExamples("ipvlan", 1)
}

func TestFamilies(t *testing.T) {
	nstest.Need(t, "ipvlan")
	for _, mode := range []string{"l2", "l3", "l3s"} {
		t.Run(mode, func(t *testing.T) {
			roletest.Families(t, func(t *testing.T, f roletest.Family) {
				n, dir := newNode(t), t.TempDir()
				outside := n.Outside()
				n.Server(outside, 80)
				n.WantAllVersions(roletest.Network{
					Family: f, DataDir: dir,
					Plugins: []roletest.Plugin{{Role: "ipvlan", Keys: fmt.Sprintf(`"master": "uplink", "mode": %q, `, mode) + f.IPAM(dir, range4, range6)}},
					Reach: func(p *roletest.Pod) {
						if mode != "l2" {
							routed(n, outside, p)
						}
						n.WantReach(p, "192.0.2.100", "2001:db8::100")
					},
				})
			})
		})
	}
}
