package sbr_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/static"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/bridge"
	"github.com/cnibox/cnibox/roles/roletest"
	"github.com/cnibox/cnibox/roles/sbr"
)

// node is a host with a pod that has two interfaces, on two bridges, behind each of which is a far network with a client.
type node struct {
	*roletest.Node
	t       *testing.T
	pod     *roletest.Pod
	clients [2]*nstest.NS
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := emptyNode(t)
	n.pod = n.Pod("a")
	n.join(0)
	n.pod.WithResult(n.join(1))
	return n
}

func emptyNode(t *testing.T) *node {
	t.Helper()
	return &node{t: t, Node: roletest.NewNode(t, roles.Table{
		"sbr": sbr.New(), "bridge": bridge.New(), "host-local": hostlocal.New(), "static": static.New(),
	})}
}

// join gives the pod an interface in the i-th network, and that a gateway.
func (n *node) join(i int) (result []byte) {
	n.t.Helper()
	result = n.Must(roletest.Call{Verb: "ADD", Role: "bridge", Pod: n.pod, IfName: fmt.Sprintf("eth%d", i), Conf: n.bridge(i)})
	n.gateway(i)
	return result
}

// bridge is the configuration of the i-th network. Its gateway, which is not the host, leads to 203.0.113.0/24 and 2001:db8:f::/64 in both.
func (n *node) bridge(i int) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net%d", "type": "bridge", "bridge": "br%[1]d", "ipam": {"type": "static",
		"addresses": [{"address": "10.%[1]d.0.5/24", "gateway": "10.%[1]d.0.1"}, {"address": "fd0%[1]d::5/64", "gateway": "fd0%[1]d::1"}],
		"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`, i)
}

// gateway makes the i-th client the network's gateway, with an address of its own far away.
func (n *node) gateway(i int) {
	n.clients[i] = nstest.New(n.t, fmt.Sprintf("client%d", i))
	c, name := n.clients[i], fmt.Sprintf("gw%d", i)
	n.Host.Run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", c.Path)
	n.Host.Run("ip", "link", "set", name, "master", fmt.Sprintf("br%d", i), "up")
	for _, addr := range []string{fmt.Sprintf("10.%d.0.1/24", i), fmt.Sprintf("203.0.113.%d/32", i+1)} {
		c.Run("ip", "addr", "add", addr, "dev", "eth0")
	}
	for _, addr := range []string{fmt.Sprintf("fd0%d::1/64", i), fmt.Sprintf("2001:db8:f::%d/128", i+1)} {
		c.Run("ip", "addr", "add", addr, "dev", "eth0", "nodad")
	}
	c.Run("ip", "link", "set", "eth0", "up")
}

func conf(keys string) string {
	if keys != "" {
		keys = ", " + keys
	}
	return `{"cniVersion": "1.1.0", "name": "net1", "type": "sbr"` + keys + `}`
}

func (n *node) call(verb, keys string) error {
	_, err := n.Do(roletest.Call{Verb: verb, Role: "sbr", Pod: n.pod, IfName: "eth1", Conf: n.pod.WithPrev(conf(keys))})
	return err
}

func (n *node) must(verb, keys string) {
	n.t.Helper()
	if err := n.call(verb, keys); err != nil {
		n.t.Fatalf("%s %s: %v", verb, keys, err)
	}
}

// answers tells whether the pod answers to its address in the i-th network when it is asked from far behind that network's gateway.
func (n *node) answers(i int) bool {
	_, err4 := n.clients[i].Try("ping", "-c1", "-W1", "-I", fmt.Sprintf("203.0.113.%d", i+1), fmt.Sprintf("10.%d.0.5", i))
	_, err6 := n.clients[i].Try("ping", "-c1", "-W1", "-I", fmt.Sprintf("2001:db8:f::%d", i+1), fmt.Sprintf("fd0%d::5", i))
	return err4 == nil && err6 == nil
}

// state is the pod's rules and routes of all tables.
func (n *node) state() string {
	var out []string
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(n.pod.Run("ip", family, "rule") + n.pod.Run("ip", family, "route", "show", "table", "all")) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return strings.Join(out, "\n")
}

func TestThePodAnswersWhereItWasAsked(t *testing.T) {
	n := newNode(t)
	before := n.pod.Run("ip", "route") + n.pod.Run("ip", "-6", "route")
	if n.answers(0) && n.answers(1) {
		t.Error("without sbr the pod answers in both networks already")
	}
	n.must("ADD", "")
	if !n.answers(0) || !n.answers(1) {
		t.Errorf("network 0: %t, 1: %t\n%s", n.answers(0), n.answers(1), n.state())
	}
	n.must("CHECK", "")
	n.must("ADD", "")
	if rules := n.pod.Run("ip", "rule") + n.pod.Run("ip", "-6", "rule"); strings.Count(rules, "from 10.1.0.5") != 1 || strings.Count(rules, "from fd01::5") != 1 {
		t.Errorf("rules after a second ADD:\n%s", rules)
	}
	n.must("DEL", "")
	n.must("DEL", "")
	if left := n.state(); strings.Contains(left, "10.1.0.5 lookup") || strings.Contains(left, "table 100") {
		t.Errorf("DEL left\n%s", left)
	}
	if after := n.pod.Run("ip", "route") + n.pod.Run("ip", "-6", "route"); after != before {
		t.Errorf("routes after DEL\n%s\nbefore\n%s", after, before)
	}
}

func TestTablesThatAreInUseAreNotTaken(t *testing.T) {
	n := newNode(t)
	n.pod.Run("ip", "rule", "add", "from", "198.51.100.1", "lookup", "100")
	n.pod.Run("ip", "route", "add", "198.51.100.0/24", "dev", "eth0", "table", "101")
	n.must("ADD", "")
	state := n.state()
	for _, want := range []string{"from 10.1.0.5 lookup 102", "from fd01::5 lookup 103"} {
		if !strings.Contains(state, want) {
			t.Errorf("%s is missing in\n%s", want, state)
		}
	}
	n.must("DEL", "")
	if left := n.state(); !strings.Contains(left, "lookup 100") || !strings.Contains(left, "table 101") || strings.Contains(left, "lookup 102") {
		t.Errorf("DEL left\n%s", left)
	}
}

func TestAFailingAddPutsRoutesBack(t *testing.T) {
	n := newNode(t)
	before := n.state()
	if err := n.call("ADD", `"gateways": ["10.1.0.1", "192.0.2.77"]`); err == nil { // nobody leads there
		t.Error("no error")
	}
	if after := n.state(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

func TestGatewaysShareTheLoad(t *testing.T) {
	n := newNode(t)
	n.must("ADD", `"gateways": ["10.1.0.1", "10.1.0.2", "fd01::1", "fd01::2"]`)
	n.must("CHECK", `"gateways": ["10.1.0.1", "10.1.0.2", "fd01::1", "fd01::2"]`)
	state := n.state()
	for _, want := range []string{"via 10.1.0.1 dev eth1 weight 1", "via 10.1.0.2 dev eth1 weight 1", "via fd01::1 dev eth1 weight 1", "via fd01::2 dev eth1 weight 1"} {
		if !strings.Contains(state, want) {
			t.Errorf("%s is missing in\n%s", want, state)
		}
	}
	errtest.Want(t, n.call("CHECK", `"gateways": ["10.1.0.3"]`), errcode.Differs, "10.1.0.3")
	n.must("DEL", "")
}

func TestSourceHints(t *testing.T) {
	n := newNode(t)
	n.must("ADD", `"addSourceHints": true`)
	n.must("CHECK", `"addSourceHints": true`)
	if out := n.pod.Run("ip", "route", "show", "table", "100"); !strings.Contains(out, "default via 10.1.0.1 dev eth1 src 10.1.0.5") {
		t.Errorf("table 100: %s", out)
	}
	if out := n.pod.Run("ip", "-6", "route", "show", "table", "101"); !strings.Contains(out, "src fd01::5") {
		t.Errorf("table 101: %s", out)
	}
	n.pod.Run("ip", "route", "replace", "default", "via", "10.1.0.1", "dev", "eth1", "table", "100")
	errtest.Want(t, n.call("CHECK", `"addSourceHints": true`), errcode.Differs, "10.1.0.5")
}

func TestANamedTable(t *testing.T) {
	n := newNode(t)
	before := n.pod.Run("ip", "route")
	n.must("ADD", `"table": 77`)
	n.must("CHECK", `"table": 77`)
	if state := n.state(); !strings.Contains(state, "from 10.1.0.5 lookup 77") || !strings.Contains(state, "from fd01::5 lookup 77") {
		t.Errorf("rules\n%s", state)
	}
	if after := n.pod.Run("ip", "route"); after != before {
		t.Errorf("routes %s, before %s", after, before)
	}
	errtest.Want(t, n.call("CHECK", `"table": 78`), errcode.Differs, "10.1.0.5")
	n.must("DEL", `"table": 77`)
	if state := n.state(); strings.Contains(state, "lookup 77") {
		t.Errorf("DEL left\n%s", state)
	}
}

func TestCheckNoticesEachDifference(t *testing.T) {
	for change, want := range map[string]string{
		"ip rule del from 10.1.0.5":      "10.1.0.5",
		"ip -6 rule del from fd01::5":    "fd01::5",
		"ip route flush table 100":       "100",
		"ip route del default table 100": "10.1.0.1",
		"ip -6 route del ::/0 table 101": "fd01::1",
		"ip link del eth1":               "eth1",
	} {
		n := newNode(t)
		n.must("ADD", "")
		n.pod.Run("sh", "-c", change)
		errtest.Want(t, n.call("CHECK", ""), errcode.Differs, want)
	}
}

// The rules are found without the interface, without prevResult, and those of the reference plugin by the address.
func TestDelFindsTheRules(t *testing.T) {
	for _, how := range []string{"the interface is gone", "no prevResult", "the reference's rule"} {
		n := newNode(t)
		prev := n.pod.WithPrev(conf(""))
		switch how {
		case "the interface is gone":
			n.must("ADD", "")
			n.pod.Run("ip", "link", "del", "eth1")
			prev = conf("")
		case "no prevResult":
			n.must("ADD", "")
			prev = conf("")
		default:
			n.pod.Run("ip", "rule", "add", "from", "10.1.0.5", "lookup", "100")
		}
		n.Must(roletest.Call{Verb: "DEL", Role: "sbr", Pod: n.pod, IfName: "eth1", Conf: prev})
		if left := n.state(); strings.Contains(left, "10.1.0.5 lookup") || strings.Contains(left, "fd01::5 lookup") {
			t.Errorf("%s: DEL left\n%s", how, left)
		}
	}
}

// The reference locks a file at the namespace's path, and so makes one where there is none.
func TestAMissingNetnsCreatesAFile(t *testing.T) {
	n := newNode(t)
	missing := &roletest.Pod{NS: &nstest.NS{Path: filepath.Join(t.TempDir(), "gone")}, Name: "gone"}
	for _, verb := range []string{"ADD", "DEL"} {
		_, err := n.Do(roletest.Call{Verb: verb, Role: "sbr", Pod: missing, IfName: "eth1", Conf: n.pod.WithPrev(conf(""))})
		if (err == nil) != (verb == "DEL") {
			t.Errorf("%s: %v", verb, err)
		}
		if _, err := os.Lstat(missing.Path); err == nil {
			t.Errorf("%s made %s", verb, missing.Path)
		}
	}
}

func TestBadInputChangesNothing(t *testing.T) {
	n := newNode(t)
	before := n.state()
	for keys, want := range map[string]string{
		`"table": 0`:                           "table: ",
		`"table": 254`:                         "table: ",
		`"table": 4294967296`:                  "table: ",
		`"table": "x"`:                         "table: ",
		`"table": -1`:                          "table: ",
		`"table": 253`:                         "table: ",
		`"table": 255`:                         "table: ",
		`"gateways": ["10.1.0.1", "ff02::2"]`:  "gateways[1]: ",
		`"gateways": ["::1"]`:                  "gateways[0]: ",
		`"gateways": ["x"]`:                    "gateways[0]: ",
		`"gateways": ["0.0.0.0"]`:              "gateways[0]: ",
		`"gateways": "10.1.0.1"`:               "gateways: ",
		`"table": 5, "gateways": ["10.1.0.1"]`: "gateways: ",
		`"table": 5, "addSourceHints": true`:   "addSourceHints: ",
		`"addSourceHints": 1`:                  "addSourceHints: ",
	} {
		errtest.WantKey(t, n.call("ADD", keys), errcode.InvalidConfig, want)
	}
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "sbr", Pod: n.pod, IfName: "eth1", Conf: conf("")})
	errtest.WantKey(t, err, errcode.InvalidConfig, "prevResult: missing")
	if after := n.state(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

func TestReadmeExamples(t *testing.T) {
	n := newNode(t)
	for _, example := range roletest.ReadmeExamples(t, 1) {
		c := n.pod.WithPrev(strings.TrimSpace(example))
		for _, verb := range []string{"ADD", "CHECK", "DEL"} {
			n.Must(roletest.Call{Verb: verb, Role: "sbr", Pod: n.pod, IfName: "eth1", Conf: c})
		}
	}
}

// The pod's other interface has the default routes. Asked far behind the first one's gateway, the pod answers there all the same.
func TestFamilies(t *testing.T) {
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		n, dir := emptyNode(t), t.TempDir()
		n.Host.Run("sh", "-ec", "ip link add br0 type bridge; ip link set br0 up")
		n.gateway(0)
		n.pod = n.Pod("families")
		n.join(1)
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir,
			Plugins: []roletest.Plugin{
				{Role: "bridge", Keys: `"bridge": "br0", ` + f.IPAM(dir, `{"subnet": "10.0.0.0/24"}`, `{"subnet": "fd00::/64"}`)}, {Role: "sbr"},
			},
			Reach: func(p *roletest.Pod) {
				for _, addr := range p.Addrs {
					far := map[bool]string{false: "203.0.113.1", true: "2001:db8:f::1"}[addr.Is6()]
					n.clients[0].Run("ping", "-c1", "-W5", "-I", far, addr.String())
				}
				n.wantMoved("eth0")
			},
			Damage: func(p *roletest.Pod, addr netip.Addr) string {
				p.Run("ip", map[bool]string{false: "-4", true: "-6"}[addr.Is6()], "rule", "del", "from", addr.String())
				return addr.String()
			},
		})
	})
}

// wantMoved wants the main table to have no route of the interface but the kernel's own, to link-local addresses and groups.
func (n *node) wantMoved(ifName string) {
	n.t.Helper()
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(n.pod.Run("ip", family, "route", "show", "table", "main", "dev", ifName)) {
			if !strings.HasPrefix(line, "fe80::/64 ") && !strings.HasPrefix(line, "multicast ") {
				n.t.Errorf("in the main table: %s", strings.TrimSpace(line))
			}
		}
	}
}
