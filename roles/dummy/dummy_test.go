package dummy_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/static"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/dummy"
	"github.com/cnibox/cnibox/roles/roletest"
)

func newNode(t *testing.T) *roletest.Node {
	t.Helper()
	return roletest.NewNode(t, roles.Table{"dummy": dummy.New(), "host-local": hostlocal.New(), "static": static.New()})
}

func conf(dir string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "anycast", "type": "dummy", "ipam": {"type": "host-local", "dataDir": %q,
		"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd01::/64"}]]}}`, dir)
}

func TestThePodAnswersToItsAddresses(t *testing.T) {
	nstest.Need(t, "dummy")
	n, dir := newNode(t), t.TempDir()
	a := n.Add("dummy", "a", conf(dir))
	for _, addr := range a.Addrs {
		a.Run("ping", "-c1", "-W1", addr.String())
	}
	if err := n.Check("dummy", "a", conf(dir)); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	a.Run("ip", "link", "set", "eth0", "down")
	errtest.Want(t, n.Check("dummy", "a", conf(dir)), errcode.Differs, "eth0")
	n.Del("dummy", "a", conf(dir))
	n.Del("dummy", "a", conf(dir))
	if out, err := a.Try("ip", "link", "show", "eth0"); err == nil {
		t.Errorf("still there: %s", out)
	}
}

func TestNothingIsLeftWithoutASandbox(t *testing.T) {
	nstest.Need(t, "dummy")
	n, dir := newNode(t), t.TempDir()
	n.WantNothingLeft("dummy", conf(dir), dir)
}

func TestBehindAnotherPlugin(t *testing.T) {
	nstest.Need(t, "dummy")
	newNode(t).WantChained("dummy", conf(t.TempDir()))
}

func TestBadInputChangesNothing(t *testing.T) {
	newNode(t).WantRefused("dummy", "",
		roletest.Refusal{Keys: `"dns": {}`, Want: "ipam.type: missing"},
		roletest.Refusal{Keys: `"dns": 5`, Want: "dns: "},
		roletest.Refusal{Keys: `"ipam": {"type": "static", "addresses": [{"address": "x"}]}`, Want: "ipam.addresses[0].address: "},
	)
}

func TestReadmeExamples(t *testing.T) {
	nstest.Need(t, "dummy")
	newNode(t).WantReadmeExamples("dummy", 1)
}

// A dummy has addresses that belong to no network. Who is told that the pod is the way to them reaches it there.
func TestFamilies(t *testing.T) {
	nstest.Need(t, "dummy")
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		n, dir, lan := newNode(t), t.TempDir(), nstest.New(t, "lan")
		pod := n.Pod("families")
		n.Server(pod.NS, 80)
		pod.Run("ip", "link", "add", "net1", "type", "veth", "peer", "name", "eth0", "netns", lan.Path)
		pod.Run("sh", "-ec", "ip addr add 172.16.0.2/24 dev net1; ip addr add fd16::2/64 dev net1 nodad; ip link set net1 up")
		lan.Run("sh", "-ec", `ip addr add 172.16.0.1/24 dev eth0; ip addr add fd16::1/64 dev eth0 nodad; ip link set eth0 up
			ip route add 10.1.0.0/24 via 172.16.0.2; ip -6 route add fd01::/64 via fd16::2`)
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir,
			Plugins: []roletest.Plugin{{Role: "dummy", Keys: f.IPAM(dir, `{"subnet": "10.1.0.0/24"}`, `{"subnet": "fd01::/64"}`)}},
			Reach: func(p *roletest.Pod) {
				for _, addr := range p.Addrs {
					n.WantSeen(lan, "tcp", net.JoinHostPort(addr.String(), "80"), map[bool]string{false: "172.16.0.1", true: "fd16::1"}[addr.Is6()])
				}
			},
		})
	})
}
