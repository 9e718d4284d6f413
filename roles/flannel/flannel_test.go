package flannel

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
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/bridge"
	"github.com/cnibox/cnibox/roles/ptp"
	"github.com/cnibox/cnibox/roles/roletest"
)

// node is a host with a folder for all that flannel and host-local keep.
type node struct {
	*roletest.Node
	t   *testing.T
	dir string
}

const dualStack = `FLANNEL_NETWORK=10.244.0.0/16
FLANNEL_SUBNET=10.244.1.1/24
FLANNEL_IPV6_NETWORK=fd00:244::/48,fd00:245::/48
FLANNEL_IPV6_SUBNET=fd00:244:0:1::1/64
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
`

func newNode(t *testing.T, env string) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir()}
	n.Node = roletest.NewNode(t, roles.Table{"flannel": New(), "bridge": bridge.New(), "ptp": ptp.New(), "host-local": hostlocal.New()})
	n.env(env)
	return n
}

func (n *node) file(name string) string { return filepath.Join(n.dir, name) }

func (n *node) env(text string) {
	n.t.Helper()
	if err := os.WriteFile(n.file("subnet.env"), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) conf(more string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "cbr0", "type": "flannel", "subnetFile": %q, "dataDir": %q%s, "ipam": {"dataDir": %q}}`,
		n.file("subnet.env"), n.file("saved"), more, n.file("addresses"))
}

func (n *node) saved() (names []string) {
	entries, _ := os.ReadDir(n.file("saved"))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// clean fails the test if anything of an attachment is left.
func (n *node) clean() {
	n.t.Helper()
	n.Clean("cni0")
	if left := roletest.Reserved(n.t, n.file("addresses")); left != nil {
		n.t.Errorf("addresses left: %v", left)
	}
	if left := n.saved(); left != nil {
		n.t.Errorf("configurations left: %v", left)
	}
}

func TestPodsOfANode(t *testing.T) {
	for name, delegate := range map[string]string{"bridge": "", "ptp": `, "delegate": {"type": "ptp"}`} {
		n := newNode(t, dualStack)
		c := n.conf(delegate)
		a, b := n.Add("flannel", "a", c), n.Add("flannel", "b", c)
		if len(a.Addrs) != 2 || !netip.MustParsePrefix("10.244.1.0/24").Contains(a.Addrs[0]) || !netip.MustParsePrefix("fd00:244:0:1::/64").Contains(a.Addrs[1]) {
			t.Errorf("%s: addresses %v", name, a.Addrs)
		}
		for _, addr := range b.Addrs {
			a.Run("ping", "-c1", "-W5", addr.String())
		}
		if out := a.Run("ip", "link", "show", "eth0"); !strings.Contains(out, "mtu 1450") {
			t.Errorf("%s: %s", name, out)
		}
		routes := a.Run("ip", "route") + a.Run("ip", "-6", "route")
		for _, want := range []string{"10.244.0.0/16 via 10.244.1.1", "fd00:244::/48 via fd00:244:0:1::1", "fd00:245::/48 via fd00:244:0:1::1"} {
			if !strings.Contains(routes, want) {
				t.Errorf("%s: no route %s in %s", name, want, routes)
			}
		}
		if err := n.Check("flannel", "a", c); err != nil {
			t.Errorf("%s: CHECK: %v", name, err)
		}
		a.Run("ip", "addr", "flush", "dev", "eth0")
		if err := n.Check("flannel", "a", c); err == nil {
			t.Errorf("%s: CHECK finds addresses that are gone", name)
		}
		n.Del("flannel", "a", c)
		n.Del("flannel", "a", c)
		n.Del("flannel", "b", c)
		n.clean()
	}
}

// If flanneld masquerades the plugin need not, and the other way round; what the configuration says counts most.
func TestWhoMasquerades(t *testing.T) {
	for _, tt := range []struct {
		masq, delegate string
		plugin         bool
	}{
		{"true", "", false},
		{"false", "", true},
		{"true", `, "delegate": {"ipMasq": true}`, true},
		{"false", `, "delegate": {"ipMasq": false}`, false},
	} {
		n := newNode(t, strings.Replace(dualStack, "IPMASQ=true", "IPMASQ="+tt.masq, 1))
		c := n.conf(tt.delegate)
		n.Add("flannel", "a", c)
		if got := strings.Contains(n.Host.Run("nft", "list", "ruleset"), "masquerade"); got != tt.plugin {
			t.Errorf("FLANNEL_IPMASQ=%s%s: the plugin masquerades: %t", tt.masq, tt.delegate, got)
		}
		n.Del("flannel", "a", c)
		n.clean()
	}
}

func TestOneFamily(t *testing.T) {
	for _, tt := range []struct{ env, subnet string }{
		{"FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n", "10.244.1.0/24"},
		{"FLANNEL_IPV6_NETWORK=fd00:244::/48\nFLANNEL_IPV6_SUBNET=fd00:244:0:1::1/64\n", "fd00:244:0:1::/64"},
	} {
		n := newNode(t, tt.env+"FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")
		a := n.Add("flannel", "a", n.conf(""))
		if len(a.Addrs) != 1 || !netip.MustParsePrefix(tt.subnet).Contains(a.Addrs[0]) {
			t.Errorf("addresses %v, want one of %s", a.Addrs, tt.subnet)
		}
	}
}

func TestWithoutFlanneld(t *testing.T) {
	n := newNode(t, dualStack)
	c := n.conf("")
	n.Add("flannel", "a", c)
	for _, env := range []string{"", "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPMASQ=true\n"} {
		n.env(env)
		if env == "" {
			if err := os.Remove(n.file("subnet.env")); err != nil {
				t.Fatal(err)
			}
		}
		_, err := n.Do(roletest.Call{Verb: "ADD", Role: "flannel", Pod: n.Pod("b"), Conf: c})
		errtest.Want(t, err, errcode.TryAgainLater, "subnetFile: ", n.file("subnet.env"))
		_, err = n.Do(roletest.Call{Verb: "STATUS", Role: "flannel", Conf: c})
		errtest.Want(t, err, errcode.NotAvailable, "subnetFile: ")
	}
	if err := n.Check("flannel", "a", c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	n.Del("flannel", "a", c)
	n.clean()
	n.env(dualStack)
	n.Must(roletest.Call{Verb: "STATUS", Role: "flannel", Conf: c})
}

// The node has got another subnet since, or what was saved is lost, or both.
func TestDelGoesByWhatThereIs(t *testing.T) {
	for _, how := range []string{"other subnet", "nothing saved", "a part saved", "neither"} {
		n := newNode(t, dualStack)
		c := n.conf(`, "delegate": {"type": "ptp"}`)
		n.Add("flannel", "a", c)
		switch how {
		case "other subnet":
			n.env(strings.ReplaceAll(dualStack, "10.244.1.1", "10.244.9.1"))
		case "a part saved":
			if err := os.WriteFile(n.file("saved/a"), []byte(`{"type": "pt`), 0o600); err != nil {
				t.Fatal(err)
			}
		default:
			if err := os.RemoveAll(n.file("saved")); err != nil {
				t.Fatal(err)
			}
			if how == "neither" {
				n.env("")
			}
		}
		n.Must(roletest.Call{Verb: "DEL", Role: "flannel", Pod: n.Pod("a"), Conf: c})
		n.Clean()
		if left := roletest.Reserved(t, n.file("addresses")); left != nil {
			t.Errorf("%s: addresses left: %v", how, left)
		}
	}
}

// The file is the reference's: named by the container, and holding what a plugin can be called with.
func TestTheReferencesFile(t *testing.T) {
	n := newNode(t, dualStack)
	c := n.conf(`, "runtimeConfig": {"mac": "02:00:00:00:00:05"}`)
	n.Add("flannel", "a", c)
	text, err := os.ReadFile(n.file("saved/a"))
	if err != nil {
		t.Fatal(err)
	}
	n.Must(roletest.Call{Verb: "DEL", Role: "bridge", Pod: n.Pod("a"), Conf: string(text)})
	n.Clean("cni0")
	if err := os.Remove(n.file("saved/a")); err != nil {
		t.Fatal(err)
	}

	// What the reference has saved, of an attachment that its bridge has made.
	var k keys
	if err := json.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	delete(k, ifNameKey)
	n.Must(roletest.Call{Verb: "ADD", Role: "bridge", Pod: n.Pod("a"), Conf: string(text)})
	text, _ = json.Marshal(k)
	if err := os.WriteFile(n.file("saved/a"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must(roletest.Call{Verb: "DEL", Role: "flannel", Pod: n.Pod("a"), Conf: c})
	n.clean()
}

// The reference keeps one file for a container, so the DEL of one interface takes the other's away.
func TestTwoInterfacesOfOneContainer(t *testing.T) {
	n := newNode(t, dualStack)
	c := n.conf(`, "delegate": {"type": "ptp"}`)
	a := n.Pod("a")
	for _, ifName := range []string{"eth0", "eth1"} {
		n.Must(roletest.Call{Verb: "ADD", Role: "flannel", Pod: a, IfName: ifName, Conf: c})
	}
	if got := strings.Join(n.saved(), " "); got != "a a_eth1" {
		t.Errorf("saved: %s", got)
	}
	n.Must(roletest.Call{Verb: "DEL", Role: "flannel", Pod: a, IfName: "eth0", Conf: c})
	if got := strings.Join(n.saved(), " "); got != "a_eth1" {
		t.Errorf("saved: %s", got)
	}
	a.Run("ip", "link", "show", "eth1")
	n.Must(roletest.Call{Verb: "DEL", Role: "flannel", Pod: a, IfName: "eth1", Conf: c})
	n.clean()
}

func TestGC(t *testing.T) {
	n := newNode(t, dualStack)
	c := n.conf("")
	n.Add("flannel", "a", c)
	n.Add("flannel", "b", c)
	gc := func(valid string) {
		n.Must(roletest.Call{Verb: "GC", Role: "flannel", Conf: strings.Replace(c, "{", `{"cni.dev/valid-attachments": `+valid+", ", 1)})
	}
	gc(`[{"containerID": "a", "ifname": "eth0"}]`)
	if got := strings.Join(n.saved(), " "); got != "a" || len(roletest.Reserved(t, n.file("addresses"))) != 2 {
		t.Errorf("saved: %s, addresses %v", got, roletest.Reserved(t, n.file("addresses")))
	}
	if err := n.Check("flannel", "a", c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	gc(`[]`)
	n.clean()
}

func TestAFailingAddLeavesNothing(t *testing.T) {
	n := newNode(t, dualStack)
	n.Pod("a").Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "x")
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "flannel", Pod: n.Pod("a"), Conf: n.conf("")})
	errtest.Want(t, err, errcode.AlreadyExists, "eth0")
	n.clean()
}

func TestBadInputChangesNothing(t *testing.T) {
	n := newNode(t, dualStack)
	for keys, want := range map[string]string{
		`, "delegate": {"type": 5}`:        "delegate.type: ",
		`, "delegate": {"type": ""}`:       "delegate.type: ",
		`, "delegate": {"type": "nosuch"}`: "delegate.type: ",
		`, "delegate": {"type": "../x"}`:   "delegate.type: ",
		`, "delegate": {"name": "x"}`:      "delegate.name: ",
		`, "delegate": {"ipam": {}}`:       "delegate.ipam: ",
		`, "delegate": []`:                 "delegate: ",
		`, "delegate": {"mtu": 5}`:         "delegate bridge: mtu: ",
		`, "delegate": {"isGateway": 5}`:   "delegate bridge: isGateway: ",
		`, "runtimeConfig": {"mac": "x"}`:  "delegate bridge: runtimeConfig.mac: ",
		`, "runtimeConfig": "x"`:           "runtimeConfig: ",
		`, "dataDir": "x"`:                 "dataDir: ",
		`, "subnetFile": "x"`:              "subnetFile: ",
		`, "dataDir": 5`:                   "dataDir: ",
	} {
		_, err := n.Do(roletest.Call{Verb: "ADD", Role: "flannel", Pod: n.Pod("a"), Conf: n.conf(keys)})
		errtest.WantKey(t, err, errcode.InvalidConfig, want)
	}
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "flannel", Pod: n.Pod("a"), Conf: strings.Replace(n.conf(""), `"ipam": {`, `"ipam": {"routes": 5, `, 1)})
	errtest.WantKey(t, err, errcode.InvalidConfig, "ipam.routes: ")
	_, err = n.Do(roletest.Call{Verb: "ADD", Role: "flannel", Pod: n.Pod("a"), Conf: strings.Replace(n.conf(""), `"ipam": {`, `"ipam": {"type": "nosuch", `, 1)})
	errtest.WantKey(t, err, errcode.InvalidConfig, "delegate bridge: ipam.type: ")
	for env, want := range map[string]string{
		strings.Replace(dualStack, "1450", "x", 1):                  "FLANNEL_MTU",
		strings.Replace(dualStack, "=true", "=maybe", 1):            "FLANNEL_IPMASQ",
		strings.Replace(dualStack, "10.244.1.1/24", "10.244.1", 1):  "FLANNEL_SUBNET",
		strings.Replace(dualStack, "10.244.0.0/16", "fd00::/48", 1): "FLANNEL_NETWORK",
	} {
		n.env(env)
		_, err := n.Do(roletest.Call{Verb: "ADD", Role: "flannel", Pod: n.Pod("a"), Conf: n.conf("")})
		errtest.Want(t, err, errcode.InvalidConfig, "subnetFile: ", want)
	}
	n.clean()
}

func TestReadmeExamples(t *testing.T) {
	n := newNode(t, dualStack)
	for _, example := range roletest.ReadmeExamples(t, 1) {
		_, keys, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(example), "}"), `"type": "flannel"`)
		c := n.conf(keys)
		n.Add("flannel", "a", c)
		if err := n.Check("flannel", "a", c); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		n.Del("flannel", "a", c)
		n.clean()
	}
}

func FuzzConf(f *testing.F) {
	f.Add(`{"delegate":{"type":"ptp","ipMasq":true},"ipam":{"routes":[{"dst":"0.0.0.0/0"}]},"runtimeConfig":{"a":1}}`, dualStack)
	f.Add(`{"delegate":{"type":5}}`, "FLANNEL_NETWORK=,")
	f.Add(`{"dataDir":"x","ipam":{"routes":null}}`, "=\n=")
	f.Add(`[]`, "")
	f.Fuzz(func(t *testing.T, text, env string) {
		s, err := parseSubnet("/x", env)
		if err != nil {
			if code := errcode.Of(err); code != errcode.InvalidConfig && code != errcode.TryAgainLater {
				t.Fatalf("code %d: %v", code, err)
			}
			s = nil
		}
		r := &roles.Request{Conf: []byte(text), Owner: owner.Owner{Network: "net"}, CNIVersion: "1.1.0"}
		for _, lenient := range []bool{true, false} {
			c, err := load(r, lenient)
			if err != nil {
				if code := errcode.Of(err); code != errcode.InvalidConfig && code != errcode.DecodingFailure {
					t.Fatalf("code %d: %v", code, err)
				}
				continue
			}
			k, err := c.delegate(r, s)
			if err == nil && string(k["name"]) != `"net"` {
				t.Fatalf("delegate %s", k)
			}
		}
	})
}

func TestFamilies(t *testing.T) {
	const (
		both = "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
		env4 = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n"
		env6 = "FLANNEL_IPV6_NETWORK=fd00:244::/48\nFLANNEL_IPV6_SUBNET=fd00:244:0:1::1/64\n"
	)
	for _, delegate := range []string{"bridge", "ptp"} {
		t.Run(delegate, func(t *testing.T) {
			roletest.Families(t, func(t *testing.T, f roletest.Family) {
				n := newNode(t, strings.Join(f.Of(env4, env6), "")+both)
				outside := n.Outside()
				n.Server(n.Host, 80)
				n.Server(outside, 80)
				n.WantAllVersions(roletest.Network{
					Family: f, DataDir: n.file("addresses"), Links: []string{"cni0"},
					Plugins: []roletest.Plugin{{Role: "flannel", Keys: fmt.Sprintf(
						`"subnetFile": %q, "dataDir": %q, "delegate": {"type": %q, "isDefaultGateway": true}, "ipam": {"dataDir": %q, "routes": [%s]}`,
						n.file("subnet.env"), n.file("saved"), delegate, n.file("addresses"),
						strings.Join(f.Of(`{"dst": "0.0.0.0/0"}`, `{"dst": "::/0"}`), ", "))}},
					Reach: func(p *roletest.Pod) {
						n.WantReach(p, "10.244.1.1", "fd00:244:0:1::1")
						n.WantMasqueraded(p)
					},
				})
				n.clean()
			})
		})
	}
}
