package vlan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/static"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/roletest"
	"github.com/cnibox/cnibox/roles/vlan"
)

func newNode(t *testing.T) *roletest.Node {
	t.Helper()
	return roletest.NewNode(t, roles.Table{"vlan": vlan.New(), "host-local": hostlocal.New(), "static": static.New()})
}

func conf(dir, keys string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "lan", "type": "vlan"%s, "ipam": {"type": "host-local", "dataDir": %q,
		"ranges": [[%s], [%s]]}}`, keys, dir, range4, range6)
}

const (
	range4 = `{"subnet": "198.51.100.0/24"}`
	range6 = `{"subnet": "fd07::/64"}`
)

// inVLAN makes an outside with an interface in VLAN 7, where it has 198.51.100.200 and fd07::200.
func inVLAN(n *roletest.Node, protocol string) *nstest.NS {
	outside := n.Outside()
	outside.Run("ip", "link", "add", "link", "eth0", "name", "v7", "type", "vlan", "protocol", protocol, "id", "7")
	outside.Run("ip", "addr", "add", "198.51.100.200/24", "dev", "v7")
	outside.Run("ip", "addr", "add", "fd07::200/64", "dev", "v7", "nodad")
	outside.Run("ip", "link", "set", "v7", "up")
	return outside
}

// The outside has an interface in the same VLAN.
func TestPodsAreInTheVLAN(t *testing.T) {
	nstest.Need(t, "vlan")
	for _, protocol := range []string{"802.1Q", "802.1ad"} {
		n := newNode(t)
		n.Server(inVLAN(n, protocol), 80)
		c := conf(t.TempDir(), fmt.Sprintf(`, "master": "uplink", "vlanId": 7, "protocol": %q, "mtu": 1400`, protocol))
		a := n.Add("vlan", "a", c)
		n.WantSeen(a.NS, "tcp", "198.51.100.200:80", a.Addrs[0].String())
		n.WantSeen(a.NS, "udp", "[fd07::200]:80", a.Addrs[1].String())
		if err := n.Check("vlan", "a", c); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		errtest.Want(t, n.Check("vlan", "a", strings.Replace(c, `"vlanId": 7`, `"vlanId": 8`, 1)), errcode.Differs, "eth0")
		n.Del("vlan", "a", c)
		b := n.Add("vlan", "b", strings.Replace(c, `"vlanId": 7`, `"vlanId": 8`, 1))
		n.WantSeen(b.NS, "tcp", "198.51.100.200:80", "")
	}
}

func TestPriorityTags(t *testing.T) {
	nstest.Need(t, "vlan")
	n := newNode(t)
	n.Outside()
	a := n.Add("vlan", "a", conf(t.TempDir(), `, "master": "uplink", "vlanId": 0`))
	if out := a.Run("ip", "-d", "link", "show", "eth0"); !strings.Contains(out, "802.1Q id 0 ") {
		t.Errorf("eth0: %s", out)
	}
}

func TestAVLANOfAMasterHasOneInterface(t *testing.T) {
	nstest.Need(t, "vlan")
	n, dir := newNode(t), t.TempDir()
	n.Outside()
	c := conf(dir, `, "master": "uplink", "vlanId": 7`)
	n.Add("vlan", "a", c)
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "vlan", Pod: n.Pod("b"), Conf: c})
	errtest.Want(t, err, errcode.AlreadyExists, "VLAN 7", "uplink")
	if left := roletest.Reserved(t, dir); len(left) != 2 {
		t.Errorf("addresses %v", left)
	}
}

func TestLinkInContainer(t *testing.T) {
	nstest.Need(t, "vlan")
	n := newNode(t)
	c := conf(t.TempDir(), `, "master": "net1", "linkInContainer": true, "vlanId": 7`)
	a := n.Pod("a")
	a.Run("ip", "link", "add", "net1", "type", "veth", "peer", "name", "far")
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "vlan", Pod: a, Conf: c})
	errtest.Want(t, err, errcode.TryAgainLater, "net1", "down")
	a.Run("ip", "link", "set", "net1", "up")
	n.Add("vlan", "a", c)
	if err := n.Check("vlan", "a", c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	n.Del("vlan", "a", c)
}

// The reference's DEL fails when the master is gone, and leaks the address.
func TestDelWithoutTheMaster(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	c := conf(dir, `, "master": "uplink", "vlanId": 7`)
	n.Del("vlan", "a", c)
	nstest.Need(t, "vlan")
	n.Outside()
	n.Add("vlan", "a", c)
	n.Host.Run("ip", "link", "del", "uplink")
	n.Del("vlan", "a", c)
	if left := roletest.Reserved(t, dir); left != nil {
		t.Errorf("addresses left: %v", left)
	}
	n.Clean()
}

func TestBadInputChangesNothing(t *testing.T) {
	n := newNode(t)
	n.Outside()
	ipam := `{"type": "static", "addresses": [{"address": "192.0.2.5/24"}, {"address": "2001:db8::5/64"}]}`
	n.WantRefused("vlan", ipam,
		roletest.Refusal{Keys: `"vlanId": 7`, Want: "master: missing"},
		roletest.Refusal{Keys: `"master": "nosuch"`, Want: "master: "},
		roletest.Refusal{Keys: `"master": "a/b"`, Want: "master: "},
		roletest.Refusal{Keys: `"master": "uplink", "linkInContainer": true`, Want: "master: "},
		roletest.Refusal{Keys: `"master": "uplink", "mtu": 67`, Want: "mtu: "},
		roletest.Refusal{Keys: `"master": "uplink", "vlanId": 4095`, Want: "vlanId: "},
		roletest.Refusal{Keys: `"master": "uplink", "vlanId": -1`, Want: "vlanId: "},
		roletest.Refusal{Keys: `"master": "uplink", "vlanId": "7"`, Want: "vlanId: "},
		roletest.Refusal{Keys: `"master": "uplink", "protocol": "802.3"`, Want: "protocol: "},
		roletest.Refusal{Keys: `"master": "uplink", "mtu": 9000`, Want: "mtu: "},
		roletest.Refusal{Keys: `"master": "uplink", "mtu": 1000`, Want: "mtu: "},
		roletest.Refusal{Keys: `"master": "uplink", "linkInContainer": 1`, Want: "linkInContainer: "},
	)
}

func TestReadmeExamples(t *testing.T) {
	nstest.Need(t, "vlan")
	n := newNode(t)
	n.Outside()
	n.WantReadmeExamples("vlan", 1)
}

func TestFamilies(t *testing.T) {
	nstest.Need(t, "vlan")
	for _, protocol := range []string{"802.1Q", "802.1ad"} {
		t.Run(protocol, func(t *testing.T) {
			roletest.Families(t, func(t *testing.T, f roletest.Family) {
				n, dir := newNode(t), t.TempDir()
				n.Server(inVLAN(n, protocol), 80)
				n.WantAllVersions(roletest.Network{
					Family: f, DataDir: dir,
					Plugins: []roletest.Plugin{{
						Role: "vlan", Keys: fmt.Sprintf(`"master": "uplink", "vlanId": 7, "protocol": %q, `, protocol) + f.IPAM(dir, range4, range6),
					}},
					Reach: func(p *roletest.Pod) { n.WantReach(p, "198.51.100.200", "fd07::200") },
				})
			})
		})
	}
}

func TestBehindAnotherPlugin(t *testing.T) {
	nstest.Need(t, "vlan")
	n := newNode(t)
	n.Outside()
	n.WantChained("vlan", conf(t.TempDir(), `, "master": "uplink", "vlanId": 7`))
}
