package vrf_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/ptp"
	"github.com/cnibox/cnibox/roles/roletest"
	"github.com/cnibox/cnibox/roles/vrf"
)

func table() roles.Table { return roles.Table{"vrf": vrf.New()} }

func newNode(t *testing.T) *roletest.Node {
	t.Helper()
	nstest.Need(t, "vrf")
	return roletest.NewNode(t, table())
}

// prepare gives the pod an interface to a network of its own, as the plugins before would. All interfaces have the same addresses, 10.8.0.2 and
// fd08::2, and all networks the same router, 10.8.0.1 and fd08::1, behind which is 192.0.2.1 and 2001:db8::1. It answers with its name there.
func prepare(t *testing.T, n *roletest.Node, p *roletest.Pod, ifName string) (lan *nstest.NS) {
	t.Helper()
	lan = nstest.New(t, "lan-"+ifName)
	p.Run("ip", "link", "add", ifName, "type", "veth", "peer", "name", "eth0", "netns", lan.Path)
	lan.Run("sh", "-ec", `ip addr add 10.8.0.1/24 dev eth0; ip addr add fd08::1/64 dev eth0 nodad; ip link set eth0 up
		ip addr add 192.0.2.1/32 dev lo; ip addr add 2001:db8::1/128 dev lo nodad`)
	p.Run("sh", "-ec", strings.ReplaceAll(`ip addr add 10.8.0.2/24 dev IF; ip addr add fd08::2/64 dev IF nodad; ip link set IF up
		ip route add default via 10.8.0.1 dev IF; ip -6 route add default via fd08::1 dev IF`, "IF", ifName))
	n.NamedServer("lan of "+ifName+" saw ", lan, 80)
	return lan
}

// conf is the configuration of an attachment that prepare has made.
func conf(ifName, keys string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net", "type": "vrf", %s, "prevResult": {"cniVersion": "1.1.0",
		"interfaces": [{"name": "veth7"}, {"name": %q, "sandbox": "/x"}],
		"ips": [{"interface": 1, "address": "10.8.0.2/24", "gateway": "10.8.0.1"}, {"interface": 1, "address": "fd08::2/64", "gateway": "fd08::1"}],
		"routes": [{"dst": "0.0.0.0/0", "gw": "10.8.0.1"}, {"dst": "::/0", "gw": "fd08::1"}]}}`, keys, ifName)
}

func do(n *roletest.Node, verb, ifName, keys string) error {
	_, err := n.Do(roletest.Call{Verb: verb, Role: "vrf", Pod: n.Pod("a"), IfName: ifName, Conf: conf(ifName, keys)})
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask connects from a VRF of the pod to a server, and returns what that answers.
func ask(p *roletest.Pod, vrf, to string) (seen string, err error) {
	err = p.Do(func() error {
		d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
			var bound error
			return errors.Join(c.Control(func(fd uintptr) { bound = unix.BindToDevice(int(fd), vrf) }), bound)
		}}
		c, err := d.Dial("tcp", to)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		raw, err := io.ReadAll(c)
		seen = string(raw)
		return err
	})
	return seen, err
}

func wantSeen(t *testing.T, p *roletest.Pod, vrf, ifName string) {
	t.Helper()
	for to, own := range map[string]string{
		"10.8.0.1:80": "10.8.0.2", "192.0.2.1:80": "10.8.0.2", "[fd08::1]:80": "fd08::2", "[2001:db8::1]:80": "fd08::2",
	} {
		if seen, err := ask(p, vrf, to); seen != "lan of "+ifName+" saw "+own {
			t.Errorf("%s from %s: %q (%v)", to, vrf, seen, err)
		}
	}
}

// tableOf is the routing table of a VRF, empty if there is none.
func tableOf(p *roletest.Pod, name string) string {
	out, err := p.Try("ip", "-details", "link", "show", "dev", name)
	_, after, found := strings.Cut(out, "vrf table ")
	if err != nil || !found {
		return ""
	}
	return strings.Fields(after)[0]
}

// Two networks with the same addresses are what VRFs are for.
func TestInterfacesInTheirOwnTables(t *testing.T) {
	n := newNode(t)
	a := n.Pod("a")
	prepare(t, n, a, "eth0")
	out := n.Must(roletest.Call{Verb: "ADD", Role: "vrf", Pod: a, Conf: conf("eth0", `"vrfname": "red"`)})
	for _, want := range []string{"10.8.0.2/24", "fd08::2/64", `"gw": "10.8.0.1"`, "veth7"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("prevResult is not handed on, without %s: %s", want, out)
		}
	}
	wantSeen(t, a, "red", "eth0")
	prepare(t, n, a, "eth1")
	must(t, do(n, "ADD", "eth1", `"vrfname": "blue", "table": 1001`))
	wantSeen(t, a, "red", "eth0")
	wantSeen(t, a, "blue", "eth1")
	if got := tableOf(a, "blue"); got != "1001" || tableOf(a, "red") == got {
		t.Errorf("tables %s and %s", got, tableOf(a, "red"))
	}
	if left := a.Run("ip", "route", "show", "table", "main") + a.Run("ip", "-6", "route", "show", "table", "main"); strings.Contains(left, "eth") {
		t.Errorf("in the main table: %s", left)
	}
	must(t, do(n, "CHECK", "eth0", `"vrfname": "red"`))
	must(t, do(n, "CHECK", "eth1", `"vrfname": "blue", "table": 1001`))
	must(t, do(n, "DEL", "eth0", `"vrfname": "red"`))
	if out := a.Run("ip", "link"); strings.Contains(out, "red") || !strings.Contains(out, "blue") {
		t.Errorf("links %s", out)
	}
	wantSeen(t, a, "blue", "eth1")
}

// A VRF goes with its last interface.
func TestInterfacesShareAVRF(t *testing.T) {
	n := newNode(t)
	a := n.Pod("a")
	prepare(t, n, a, "eth0")
	before := state(a)
	must(t, do(n, "ADD", "eth0", `"vrfname": "red"`))
	must(t, do(n, "ADD", "eth0", `"vrfname": "red"`)) // it is there already
	table := tableOf(a, "red")
	a.Run("sh", "-ec", "ip link add eth1 type veth peer name p1; ip link set eth1 up; ip addr add 10.9.0.2/24 dev eth1")
	must(t, do(n, "ADD", "eth1", `"vrfname": "red", "table": `+table))
	if out := a.Run("ip", "route", "show", "table", table); !strings.Contains(out, "eth0") || tableOf(a, "red") != table {
		t.Errorf("table %s: %s", table, out)
	}
	must(t, do(n, "DEL", "eth1", `"vrfname": "red"`))
	wantSeen(t, a, "red", "eth0")
	must(t, do(n, "DEL", "eth0", `"vrfname": 7`)) // the one that it follows
	must(t, do(n, "DEL", "eth0", `"vrfname": "red"`))
	a.Run("ip", "link", "del", "eth1")
	if after := state(a); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

// The reference plugin's DEL fails when the interface is gone.
func TestDelSucceedsWhateverIsGone(t *testing.T) {
	for name, gone := range map[string]func(p *roletest.Pod){
		"interface": func(p *roletest.Pod) { p.Run("ip", "link", "del", "eth0") },
		"VRF":       func(p *roletest.Pod) { p.Run("ip", "link", "del", "red") },
		"both":      func(p *roletest.Pod) { p.Run("sh", "-ec", "ip link del red; ip link del eth0") },
		"namespace": func(p *roletest.Pod) { p.Remove() },
		"name":      func(p *roletest.Pod) { p.Run("sh", "-ec", "ip link set eth0 down; ip link set eth0 name pod0") },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			a := n.Pod("a")
			prepare(t, n, a, "eth0")
			must(t, do(n, "ADD", "eth0", `"vrfname": "red"`))
			gone(a)
			must(t, do(n, "DEL", "eth0", `"vrfname": "red"`))
			n.Must(roletest.Call{Verb: "DEL", Role: "vrf", Pod: a, Conf: `{"cniVersion": "1.1.0", "name": "net", "vrfname": 7}`, NoSandbox: true})
			if name == "interface" && tableOf(a, "red") != "" {
				t.Error("the VRF is left")
			}
		})
	}
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct{ pod, words string }{
		"released": {"ip link set eth0 nomaster", "red"},
		"no VRF":   {"ip link del red", "red is gone"},
		"address":  {"ip addr del 10.8.0.2/24 dev eth0", "10.8.0.2/24"},
		"address6": {"ip addr del fd08::2/64 dev eth0", "fd08::2/64"},
		"route":    {"ip -6 route del default vrf red", "::/0"},
		"gone":     {"ip link del eth0", "eth0 is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			prepare(t, n, n.Pod("a"), "eth0")
			must(t, do(n, "ADD", "eth0", `"vrfname": "red"`))
			must(t, do(n, "CHECK", "eth0", `"vrfname": "red"`))
			n.Pod("a").Run("sh", "-c", c.pod)
			errtest.Want(t, do(n, "CHECK", "eth0", `"vrfname": "red"`), errcode.Differs, c.words)
		})
	}
	n := newNode(t)
	prepare(t, n, n.Pod("a"), "eth0")
	must(t, do(n, "ADD", "eth0", `"vrfname": "red", "table": 7`))
	errtest.Want(t, do(n, "CHECK", "eth0", `"vrfname": "red", "table": 8`), errcode.Differs, "table 7")
}

// state is all that a VRF changes in the pod.
func state(p *roletest.Pod) string {
	out := []string{}
	for _, args := range [][]string{
		{"-br", "link"},
		{"-4", "addr"},
		{"-6", "addr", "show", "scope", "global"},
		{"-4", "route", "show", "table", "main"},
		{"-6", "route", "show", "table", "main"},
	} {
		lines := strings.Split(p.Run("ip", args...), "\n")
		if slices.Contains(args, "route") {
			slices.Sort(lines)
		}
		out = append(out, lines...)
	}
	return strings.Join(out, "\n")
}

// An ADD that cannot tell its result is undone: addresses and routes are as they were.
func TestAnAddThatFailsPutsAllBack(t *testing.T) {
	n := newNode(t)
	a := n.Pod("a")
	prepare(t, n, a, "eth0")
	before := state(a)
	env := map[string]string{
		"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "a", "CNI_NETNS": a.Path, "CNI_IFNAME": "eth0", "CNI_PATH": "/nonexistent",
	}
	status := 0
	must(t, n.Host.Do(func() error {
		status = roles.Run(context.Background(), roles.Exchange{
			Getenv: func(name string) string { return env[name] },
			Stdin:  strings.NewReader(conf("eth0", `"vrfname": "red"`)), Stdout: noReader{}, Stderr: io.Discard,
		}, "vrf", table())
		return nil
	}))
	if status == 0 {
		t.Fatal("ADD succeeds though nobody heard its result")
	}
	if after := state(a); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

type noReader struct{}

func (noReader) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// Attachments of one container that come at the same time have different tables.
func TestTablesAreChosenWithoutARace(t *testing.T) {
	n := newNode(t)
	a := n.Pod("a")
	const count = 8
	var all sync.WaitGroup
	errs := make([]error, count)
	for i := range count {
		name := fmt.Sprintf("net%d", i)
		a.Run("ip", "link", "add", name, "type", "veth", "peer", "name", fmt.Sprintf("p%d", i))
		all.Go(func() { errs[i] = do(n, "ADD", name, fmt.Sprintf(`"vrfname": "vrf%d"`, i)) })
	}
	all.Wait()
	used := map[string]bool{}
	for i, err := range errs {
		table := tableOf(a, fmt.Sprintf("vrf%d", i))
		if err != nil || table == "" || used[table] {
			t.Errorf("vrf%d has the table %q (%v)", i, table, err)
		}
		used[table] = true
	}
}

func TestConflictsChangeNothing(t *testing.T) {
	n := newNode(t)
	a := n.Pod("a")
	prepare(t, n, a, "eth0")
	a.Run("sh", "-ec", `ip link add red type vrf table 10; ip link add br0 type bridge
		ip link add port type veth peer name p9; ip link set port master br0`)
	before := state(a)
	for _, c := range []struct {
		ifName, keys string
		code         uint
		words        []string
	}{
		{"eth0", `"vrfname": "red", "table": 11`, errcode.InvalidConfig, []string{"table: ", "red", "10", "11"}},
		{"eth0", `"vrfname": "blue", "table": 10`, errcode.InvalidConfig, []string{"table: ", "red", "10"}},
		{"eth0", `"vrfname": "br0"`, errcode.AlreadyExists, []string{"br0", "bridge"}},
		{"port", `"vrfname": "red"`, errcode.AlreadyExists, []string{"port", "br0"}},
		{"eth7", `"vrfname": "blue"`, errcode.Kernel, []string{"eth7"}},
	} {
		errtest.Want(t, do(n, "ADD", c.ifName, c.keys), c.code, c.words...)
	}
	if after := state(a); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

func TestBadInputChangesNothing(t *testing.T) {
	n := roletest.NewNode(t, table())
	a := n.Pod("a")
	a.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "p0")
	before := state(a)
	for keys, key := range map[string]string{
		`"table": 7`:                            "vrfname: ",
		`"vrfname": ""`:                         "vrfname: ",
		`"vrfname": 7`:                          "vrfname: ",
		`"vrfname": "a b"`:                      "vrfname: ",
		`"vrfname": "sixteen-letters-"`:         "vrfname: ",
		`"vrfname": "eth0"`:                     "vrfname: ",
		`"vrfname": "red", "table": -1`:         "table: ",
		`"vrfname": "red", "table": "x"`:        "table: ",
		`"vrfname": "red", "table": 4294967296`: "table: ",
		`"vrfname": "red", "table": 254`:        "table: ",
		`"vrfname": "red", "table": 255`:        "table: ",
	} {
		errtest.WantKey(t, do(n, "ADD", "eth0", keys), errcode.InvalidConfig, key)
	}
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "vrf", Pod: a, Conf: `{"cniVersion": "1.1.0", "name": "net", "vrfname": "red"}`})
	errtest.WantKey(t, err, errcode.InvalidConfig, "prevResult: ")
	if after := state(a); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

// On a kernel without VRFs both ADD and STATUS name the module.
func TestWithoutVRFs(t *testing.T) {
	n := roletest.NewNode(t, table())
	_, status := n.Do(roletest.Call{Verb: "STATUS", Role: "vrf", Conf: `{"cniVersion": "1.1.0", "name": "net", "vrfname": "red"}`})
	if nstest.Has(t, "vrf") {
		must(t, status)
		n.Clean()
		return
	}
	errtest.Want(t, status, errcode.NotAvailable, "module vrf")
	a := n.Pod("a")
	a.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "p0")
	before := state(a)
	errtest.Want(t, do(n, "ADD", "eth0", `"vrfname": "red"`), errcode.Kernel, "module vrf")
	must(t, do(n, "DEL", "eth0", `"vrfname": "red"`))
	if after := state(a); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

// The README's examples are lists; their last plugin is this one.
func TestReadmeExamples(t *testing.T) {
	n := newNode(t)
	prepare(t, n, n.Pod("a"), "eth0")
	for _, example := range roletest.ReadmeExamples(t, 1) {
		call := roletest.Call{Verb: "ADD", Role: "vrf", Pod: n.Pod("a"), Conf: example}
		_, err := n.Do(call)
		errtest.Want(t, err, errcode.InvalidConfig, "prevResult: ")
		call.Conf = strings.TrimSuffix(strings.TrimSpace(example), "}") + `, "prevResult": {"cniVersion": "1.1.0"}}`
		n.Must(call)
		call.Verb = "DEL"
		n.Must(call)
	}
}

func TestFamilies(t *testing.T) {
	nstest.Need(t, "vrf")
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		n, dir := roletest.NewNode(t, roles.Table{"host-local": hostlocal.New(), "ptp": ptp.New(), "vrf": vrf.New()}), t.TempDir()
		n.Server(n.Host, 80)
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir,
			Plugins: []roletest.Plugin{
				{Role: "ptp", Keys: f.IPAM(dir, `{"subnet": "10.1.0.0/24"}`, `{"subnet": "fd01::/64"}`)}, {Role: "vrf", Keys: `"vrfname": "red"`},
			},
			Reach: func(p *roletest.Pod) {
				for i, to := range f.Of("10.1.0.1:80", "[fd01::1]:80") {
					if seen, err := ask(p, "red", to); seen != p.Addrs[i].String() {
						t.Errorf("%s saw %q (%v)", to, seen, err)
					}
				}
			},
		})
	})
}

// The kernel takes an interface's IPv6 addresses away when it changes its VRF. The link-local one is back as well, and works in both directions.
func TestLinkLocalAddresses(t *testing.T) {
	n := newNode(t)
	a := n.Pod("a")
	lan := prepare(t, n, a, "eth0")
	before, router := linkLocal(t, a.NS, "eth0"), linkLocal(t, lan, "eth0")
	must(t, do(n, "ADD", "eth0", `"vrfname": "red"`))
	if after := linkLocal(t, a.NS, "eth0"); after != before {
		t.Errorf("%s, and before it was %s", after, before)
	}
	a.Run("ping", "-c1", "-W5", "-I", "eth0", router)
	lan.Run("ping", "-c1", "-W5", "-I", "eth0", before)
	must(t, do(n, "DEL", "eth0", `"vrfname": "red"`))
	a.Run("ping", "-c1", "-W5", "-I", "eth0", router)
}

// linkLocal waits for the link-local address of an interface, until others can use it.
func linkLocal(t *testing.T, ns *nstest.NS, ifName string) string {
	t.Helper()
	for range 500 {
		fields := strings.Fields(ns.Run("ip", "-6", "-br", "addr", "show", "dev", ifName, "scope", "link", "-tentative"))
		if len(fields) > 2 {
			addr, _, _ := strings.Cut(fields[2], "/")
			return addr
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s has no link-local address", ifName)
	return ""
}
