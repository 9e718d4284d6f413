package bridge_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/static"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/bridge"
	"github.com/cnibox/cnibox/roles/roletest"
)

func newNode(t *testing.T) *roletest.Node {
	t.Helper()
	return roletest.NewNode(t, roles.Table{"bridge": bridge.New(), "host-local": hostlocal.New(), "static": static.New()})
}

// conf is a configuration with keys of its own behind the common ones, and host-local with both families.
func conf(dir, keys string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "mynet", "type": "bridge", %s, "ipam": {"type": "host-local", "dataDir": %q,
		"ranges": [[{"subnet": "10.244.0.0/16"}], [{"subnet": "fd00:244::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`, keys, dir)
}

// ping sends one echo request in each family.
func ping(t *testing.T, from *nstest.NS, to *roletest.Pod, arrives bool) {
	t.Helper()
	for _, a := range to.Addrs {
		out, err := from.Try("ping", "-c1", "-W1", a.String())
		if (err == nil) != arrives {
			t.Errorf("ping %s: %v, want an answer: %t\n%s", a, err, arrives, out)
		}
	}
}

func TestPodsReachEachOtherTheHostAndOutside(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	outside := n.Outside()
	c := conf(dir, `"isDefaultGateway": true, "ipMasq": true`)
	a, b := n.Add("bridge", "a", c), n.Add("bridge", "b", c)
	ping(t, a.NS, b, true)
	ping(t, n.Host, a, true)
	for _, ns := range []*nstest.NS{outside, n.Host, b.NS} {
		n.Server(ns, 80)
	}
	n.WantSeen(a.NS, "tcp", "192.0.2.100:80", "192.0.2.1") // masqueraded: the outside knows no way back to pods
	n.WantSeen(a.NS, "udp", "[2001:db8::100]:80", "2001:db8::1")
	n.WantSeen(a.NS, "tcp", "10.244.0.1:80", a.Addrs[0].String())
	n.WantSeen(a.NS, "tcp", fmt.Sprintf("[%s]:80", b.Addrs[1]), a.Addrs[1].String())
	for _, p := range []string{"a", "b"} {
		if err := n.Check("bridge", p, c); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		n.Del("bridge", p, c)
		n.Del("bridge", p, c)
	}
	n.Clean("cni0")
	if left := roletest.Reserved(t, dir); left != nil {
		t.Errorf("addresses left: %v", left)
	}
}

func TestWithoutMasqueradeThePodIsSeen(t *testing.T) {
	n := newNode(t)
	outside := n.Outside()
	a := n.Add("bridge", "a", conf(t.TempDir(), `"isGateway": true`))
	outside.Run("ip", "route", "add", "10.244.0.0/16", "via", "192.0.2.1")
	n.Server(outside, 80)
	n.WantSeen(a.NS, "tcp", "192.0.2.100:80", a.Addrs[0].String())
}

func TestPortIsolation(t *testing.T) {
	n := newNode(t)
	c := conf(t.TempDir(), `"isGateway": true, "portIsolation": true`)
	a, b := n.Add("bridge", "a", c), n.Add("bridge", "b", c)
	ping(t, a.NS, b, false)
	ping(t, n.Host, a, true)
}

func TestSpoofedFramesAreDropped(t *testing.T) {
	for _, on := range []bool{true, false} {
		n := newNode(t)
		c := conf(t.TempDir(), fmt.Sprintf(`"isGateway": true, "macspoofchk": %t`, on))
		a, b := n.Add("bridge", "a", c), n.Add("bridge", "b", c)
		ping(t, a.NS, b, true)
		a.Run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
		for _, p := range []*roletest.Pod{a, b} { // who still knows the former address would answer to that
			p.Run("ip", "neigh", "flush", "dev", "eth0")
		}
		ping(t, a.NS, b, !on)
		if err := n.Check("bridge", "b", c); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		n.Del("bridge", "a", c)
		n.Del("bridge", "b", c)
		n.Clean("cni0")
	}
}

// A frame that a container sends to itself comes back only through a hairpin port.
func TestHairpin(t *testing.T) {
	for _, on := range []bool{true, false} {
		n := newNode(t)
		c := conf(t.TempDir(), fmt.Sprintf(`"hairpinMode": %t`, on))
		n.Add("bridge", "a", c)
		link := owner.Owner{Network: "mynet", ContainerID: "a", IfName: "eth0"}.LinkName()
		out := n.Host.Run("ip", "-d", "link", "show", link)
		if got := strings.Contains(out, "hairpin on"); got != on {
			t.Errorf("hairpinMode %t: %s", on, out)
		}
		if on {
			n.Host.Run("ip", "link", "set", link, "type", "bridge_slave", "hairpin", "off")
			errtest.Want(t, n.Check("bridge", "a", c), errcode.Differs, "hairpin")
		}
	}
}

func TestPromiscuousBridge(t *testing.T) {
	n := newNode(t)
	c := conf(t.TempDir(), `"promiscMode": true, "mtu": 1400`)
	n.Add("bridge", "a", c)
	if out := n.Host.Run("ip", "-d", "link", "show", "cni0"); !strings.Contains(out, "PROMISC") || !strings.Contains(out, "mtu 1400") {
		t.Errorf("cni0: %s", out)
	}
	if out := n.Pod("a").Run("ip", "link", "show", "eth0"); !strings.Contains(out, "mtu 1400") {
		t.Errorf("eth0: %s", out)
	}
	n.Host.Run("ip", "link", "set", "cni0", "promisc", "off")
	errtest.Want(t, n.Check("bridge", "a", c), errcode.Differs, "promiscuous")
}

func TestForceAddress(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	n.Host.Run("ip", "link", "add", "cni0", "type", "bridge")
	n.Host.Run("ip", "addr", "add", "10.99.0.1/24", "dev", "cni0")
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "bridge", Pod: n.Pod("a"), Conf: conf(dir, `"isGateway": true`)})
	errtest.Want(t, err, errcode.AlreadyExists, "10.99.0.1/24")
	if out := n.Host.Run("ip", "-br", "addr", "show", "cni0"); !strings.Contains(out, "10.99.0.1/24") || roletest.Reserved(t, dir) != nil {
		t.Errorf("the failed ADD left %v, and the bridge as %s", roletest.Reserved(t, dir), out)
	}
	c := conf(dir, `"isGateway": true, "forceAddress": true`)
	a := n.Add("bridge", "a", c)
	if out := n.Host.Run("ip", "-br", "addr", "show", "cni0"); strings.Contains(out, "10.99.0.1") {
		t.Errorf("still there: %s", out)
	}
	ping(t, n.Host, a, true)
}

// Layer 2 only: no ipam, or an interface that is left to whoever wants it. The reference's CHECK calls an ipam plugin all the same, and fails.
func TestCheckWithoutIPAMFails(t *testing.T) {
	for _, keys := range []string{`"bridge": "br-l2"`, `"bridge": "br-l2", "disableContainerInterface": true`} {
		n := newNode(t)
		c := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "flat", "type": "bridge", %s}`, keys)
		a := n.Add("bridge", "a", c)
		down := strings.Contains(keys, "disable")
		if out := a.Run("ip", "-br", "link", "show", "eth0"); strings.Contains(out, "LOWER_UP") == down {
			t.Errorf("%s: eth0 is %s", keys, out)
		}
		if err := n.Check("bridge", "a", c); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		n.Del("bridge", "a", c)
		n.Clean("br-l2")
	}
}

// The address is usable when ADD returns, with duplicate address detection and without.
func TestIPv6IsReadyAtOnce(t *testing.T) {
	for _, dad := range []bool{false, true} {
		n := newNode(t)
		a := n.Add("bridge", "a", conf(t.TempDir(), fmt.Sprintf(`"isDefaultGateway": true, "enabledad": %t`, dad)))
		if out := a.Run("ip", "-6", "addr", "show", "dev", "eth0", "scope", "global"); strings.Contains(out, "tentative") {
			t.Errorf("enabledad %t: %s", dad, out)
		}
		a.Run("ping", "-c1", "-W1", "fd00:244::1")
	}
}

func TestRouteAttributes(t *testing.T) {
	n := newNode(t)
	for _, version := range []string{"1.1.0", "1.0.0"} {
		c := fmt.Sprintf(`{"cniVersion": %q, "name": "mynet", "type": "bridge", "bridge": "br0", "ipam": {"type": "static",
			"addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}],
			"routes": [{"dst": "198.51.100.0/24", "mtu": 1300, "advmss": 1200, "priority": 7, "table": 77},
				{"dst": "203.0.113.0/24", "gw": "10.1.0.9"}]}}`, version)
		a := n.Add("bridge", "pod"+version, c)
		for table, want := range map[string]string{
			"77": "198.51.100.0/24 via 10.1.0.1 dev eth0 metric 7 mtu 1300 advmss 1200", "main": "203.0.113.0/24 via 10.1.0.9 dev eth0",
		} {
			if out := a.Run("ip", "route", "show", "table", table); !strings.Contains(out, want) {
				t.Errorf("table %s: %s, want %s", table, out, want)
			}
		}
		if err := n.Check("bridge", "pod"+version, c); err != nil {
			t.Errorf("CHECK at %s: %v", version, err)
		}
		a.Run("ip", "route", "flush", "table", "77")
		errtest.Want(t, n.Check("bridge", "pod"+version, c), errcode.Differs, "198.51.100.0/24")
		n.Del("bridge", "pod"+version, c)
	}
}

// A route whose scope is the link needs no gateway, and the kernel would refuse one.
func TestRouteOnTheLink(t *testing.T) {
	n := newNode(t)
	c := `{"cniVersion": "1.1.0", "name": "mynet", "type": "bridge", "bridge": "br0", "ipam": {"type": "static",
		"addresses": [{"address": "10.1.0.5/32", "gateway": "169.254.1.1"}],
		"routes": [{"dst": "169.254.1.1/32", "scope": 253}, {"dst": "0.0.0.0/0"}]}}`
	a := n.Add("bridge", "a", c)
	for _, want := range []string{"169.254.1.1 dev eth0 scope link", "default via 169.254.1.1 dev eth0"} {
		if out := a.Run("ip", "route"); !strings.Contains(out, want) {
			t.Errorf("routes: %s, want %s", out, want)
		}
	}
	if err := n.Check("bridge", "a", c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
}

func TestReadmeExamples(t *testing.T) {
	newNode(t).WantReadmeExamples("bridge", 2)
}

func TestBehindAnotherPlugin(t *testing.T) {
	newNode(t).WantChained("bridge", conf(t.TempDir(), `"isGateway": true`))
}

// The masquerade is taken away by a DEL that has neither namespace nor prevResult, and by GC.
func TestNothingIsLeftWithoutASandbox(t *testing.T) {
	dir := t.TempDir()
	newNode(t).WantNothingLeft("bridge", conf(dir, `"isGateway": true, "ipMasq": true, "ipspoofchk": true`), dir, "cni0")
}

// A pair as the reference makes it is found by its end in the container. One that carries another owner is left alone.
func TestDelOfAnotherProgramsPair(t *testing.T) {
	n := newNode(t)
	a := n.Pod("a")
	c := conf(t.TempDir(), `"isGateway": true`)
	n.Host.Run("ip", "link", "add", "vethreference", "type", "veth", "peer", "name", "eth0", "netns", a.Path)
	n.Del("bridge", "a", c)
	n.Clean()

	const other = `{"cniVersion": "1.1.0", "name": "other", "type": "bridge"}`
	n.Add("bridge", "a", other)
	n.Must(roletest.Call{Verb: "DEL", Role: "bridge", Pod: a, Conf: c})
	if err := n.Check("bridge", "a", other); err != nil {
		t.Errorf("DEL of another network: CHECK: %v", err)
	}
}

// With enabledad an address that is somebody's already is noticed.
func TestDuplicateAddressDetection(t *testing.T) {
	n := newNode(t)
	c := `{"cniVersion": "1.1.0", "name": "mynet", "type": "bridge", "enabledad": true, "ipam": {"type": "static", "addresses": [{"address": "fd00::5/64"}]}}`
	n.Add("bridge", "a", c)
	if _, err := n.Do(roletest.Call{Verb: "ADD", Role: "bridge", Pod: n.Pod("b"), Conf: c}); err == nil || !strings.Contains(err.Error(), "fd00::5") {
		t.Errorf("ADD of an address that is in use: %v", err)
	}
}

// What the reference's CHECK does not look at.
func TestCheckOverlooksMTUHairpinVLANMasqueradeAndSpoofCheck(t *testing.T) {
	link := owner.Owner{Network: "mynet", ContainerID: "a", IfName: "eth0"}.LinkName()
	for name, c := range map[string]struct{ keys, host, pod, words string }{
		"mtu":                {keys: `"mtu": 1400`, pod: "ip link set eth0 mtu 1300", words: "1300"},
		"mtu on the host":    {keys: `"mtu": 1400`, host: "ip link set " + link + " mtu 1300", words: "1300"},
		"hairpin":            {keys: `"hairpinMode": true`, host: "bridge link set dev " + link + " hairpin off", words: "hairpin"},
		"vlan":               {keys: `"vlan": 7`, host: "bridge vlan del dev " + link + " vid 7", words: "VLAN 7"},
		"masquerade":         {keys: `"ipMasq": true`, host: "nft delete element inet cnibox masquerade-10.244.0.0/16 { 10.244.0.2 }", words: "masquerade"},
		"table of all pods":  {keys: `"ipMasq": true`, host: "nft delete table inet cnibox", words: "inet cnibox"},
		"spoof check":        {keys: `"macspoofchk": true`, host: "nft delete element bridge cnibox checked { " + link + " }", words: "checked"},
		"address check":      {keys: `"ipspoofchk": true`, host: "nft delete element bridge cnibox addrs_checked { " + link + " }", words: "addrs_checked"},
		"table of all ports": {keys: `"macspoofchk": true`, host: "nft delete table bridge cnibox", words: "bridge cnibox"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "vlan" {
				nstest.Need(t, "vlan_filtering")
			}
			n := newNode(t)
			conf := conf(t.TempDir(), `"isGateway": true, `+c.keys)
			a := n.Add("bridge", "a", conf)
			if err := n.Check("bridge", "a", conf); err != nil {
				t.Errorf("before: %v", err)
			}
			n.Host.Run("sh", "-c", cmp.Or(c.host, "true"))
			a.Run("sh", "-c", cmp.Or(c.pod, "true"))
			errtest.Want(t, n.Check("bridge", "a", conf), errcode.Differs, c.words)
		})
	}
}

// A bridge with a spanning tree forwards nothing for half a minute: ADD does not wait for that.
func TestSpanningTree(t *testing.T) {
	n := newNode(t)
	n.Host.Run("ip", "link", "add", "cni0", "type", "bridge", "stp_state", "1")
	n.Add("bridge", "a", conf(t.TempDir(), `"isGateway": true`))
}

// A bridge's port has no use for an address, and with one for each pod the host would have thousands of routes.
func TestPortsHaveNoLinkLocalAddress(t *testing.T) {
	n := newNode(t)
	n.Add("bridge", "a", conf(t.TempDir(), `"isGateway": true`))
	link := owner.Owner{Network: "mynet", ContainerID: "a", IfName: "eth0"}.LinkName()
	if out := n.Host.Run("ip", "-6", "addr", "show", "dev", link); out != "" {
		t.Errorf("%s", out)
	}
}

func TestFamilies(t *testing.T) {
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		n, dir := newNode(t), t.TempDir()
		outside := n.Outside()
		n.Server(n.Host, 80)
		n.Server(outside, 80)
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir, Links: []string{"cni0"},
			Plugins: []roletest.Plugin{{
				Role: "bridge",
				Keys: `"isDefaultGateway": true, "ipMasq": true, ` + f.IPAM(dir, `{"subnet": "10.244.0.0/16"}`, `{"subnet": "fd00:244::/64"}`),
			}},
			Reach: func(p *roletest.Pod) {
				n.WantReach(p, "10.244.0.1", "fd00:244::1")
				n.WantMasqueraded(p)
			},
		})
	})
}
