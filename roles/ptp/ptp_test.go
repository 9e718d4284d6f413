package ptp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/ptp"
	"github.com/cnibox/cnibox/roles/roletest"
)

func newNode(t *testing.T) *roletest.Node {
	t.Helper()
	return roletest.NewNode(t, roles.Table{"ptp": ptp.New(), "host-local": hostlocal.New()})
}

func conf(dir, keys string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "routed", "type": "ptp", %s, "ipam": {"type": "host-local", "dataDir": %q,
		"ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00:1::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`, keys, dir)
}

func linkOf(pod string) string {
	return owner.Owner{Network: "routed", ContainerID: pod, IfName: "eth0"}.LinkName()
}

func TestPodsReachEachOtherTheHostAndOutside(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	outside := n.Outside()
	c := conf(dir, `"ipMasq": true, "mtu": 1400`)
	a, b := n.Add("ptp", "a", c), n.Add("ptp", "b", c)
	n.Server(outside, 80)
	n.Server(n.Host, 80)
	n.Server(b.NS, 80)
	for i, f := range []struct{ outside, host, gateway, pod string }{
		{"192.0.2.100:80", "192.0.2.1", "10.1.0.1:80", fmt.Sprintf("%s:80", b.Addrs[0])},
		{"[2001:db8::100]:80", "2001:db8::1", "[fd00:1::1]:80", fmt.Sprintf("[%s]:80", b.Addrs[1])},
	} {
		own := a.Addrs[i].String()
		n.WantSeen(a.NS, "tcp", f.gateway, own) // nothing has been sent before: IPv6 is ready at once
		n.WantSeen(a.NS, "udp", f.pod, own)
		n.WantSeen(a.NS, "tcp", f.outside, f.host)
	}
	if out := a.Run("ip", "link", "show", "eth0"); !strings.Contains(out, "mtu 1400") {
		t.Errorf("eth0: %s", out)
	}
	for _, p := range []string{"a", "b"} {
		if err := n.Check("ptp", p, c); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		n.Del("ptp", p, c)
		n.Del("ptp", p, c)
	}
	n.Clean()
	if routes := n.Host.Run("ip", "route"); strings.Contains(routes, "10.1.") {
		t.Errorf("routes left: %s", routes)
	}
}

// CHECK names what is gone, on either side.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct{ host, pod, words string }{
		"host route":    {host: "ip route del 10.1.0.2 dev " + linkOf("a"), words: "10.1.0.2/32"},
		"gateway":       {host: "ip addr del 10.1.0.1/32 dev " + linkOf("a"), words: "10.1.0.1/32"},
		"pod's route":   {pod: "ip route del 10.1.0.0/16", words: "10.1.0.0/16"},
		"default route": {pod: "ip -6 route del default", words: "::/0"},
		"address":       {pod: "ip addr del fd00:1::2/64 dev eth0", words: "fd00:1::2/64"},
		"masquerade":    {host: "nft delete element inet cnibox masquerade-fd00_1__/64 { fd00:1::2 }", words: "masquerade-fd00_1__/64"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			conf := conf(t.TempDir(), `"ipMasq": true`)
			a := n.Add("ptp", "a", conf)
			if err := n.Check("ptp", "a", conf); err != nil {
				t.Fatalf("before: %v", err)
			}
			ns, line := n.Host, c.host
			if c.pod != "" {
				ns, line = a.NS, c.pod
			}
			args := strings.Fields(line)
			ns.Run(args[0], args[1:]...)
			errtest.Want(t, n.Check("ptp", "a", conf), errcode.Differs, c.words)
		})
	}
}

func TestReadmeExamples(t *testing.T) {
	newNode(t).WantReadmeExamples("ptp", 1)
}

func TestBehindAnotherPlugin(t *testing.T) {
	newNode(t).WantChained("ptp", conf(t.TempDir(), `"ipMasq": true`))
}

func TestNothingIsLeftWithoutASandbox(t *testing.T) {
	dir := t.TempDir()
	newNode(t).WantNothingLeft("ptp", conf(dir, `"ipMasq": true`), dir)
}

func TestFamilies(t *testing.T) {
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		n, dir := newNode(t), t.TempDir()
		outside := n.Outside()
		n.Server(n.Host, 80)
		n.Server(outside, 80)
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir,
			Plugins: []roletest.Plugin{{
				Role: "ptp", Keys: `"ipMasq": true, ` + f.IPAM(dir, `{"subnet": "10.1.0.0/16"}`, `{"subnet": "fd00:1::/64"}`),
			}},
			Reach: func(p *roletest.Pod) {
				n.WantReach(p, "10.1.0.1", "fd00:1::1")
				n.WantMasqueraded(p)
			},
		})
	})
}
