package gc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/ipam/dhcp"
	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/bandwidth"
	"github.com/cnibox/cnibox/roles/bridge"
	"github.com/cnibox/cnibox/roles/firewall"
	"github.com/cnibox/cnibox/roles/fused"
	"github.com/cnibox/cnibox/roles/macvlan"
	"github.com/cnibox/cnibox/roles/portmap"
	"github.com/cnibox/cnibox/roles/ptp"
	"github.com/cnibox/cnibox/roles/roletest"
	"github.com/cnibox/cnibox/roles/tuning"
	"github.com/cnibox/cnibox/roles/vxlan"
)

func table() roles.Table {
	return roles.Table{
		"bandwidth": bandwidth.New(), "bridge": bridge.New(), "macvlan": macvlan.New(), "firewall": firewall.New(), fused.Name: fused.New(),
		"host-local": hostlocal.New(), "portmap": portmap.New(), "dhcp": dhcp.New(), "ptp": ptp.New(), "vxlan": vxlan.New(), "tuning": tuning.New(),
	}
}

// testNode is a host with pods of two networks: blue, whose configuration is in the folder, and red, whose is gone.
type testNode struct {
	*roletest.Node
	t    *testing.T
	conf string
}

// The lists of both networks, as one plugin. The addresses are no other test's.
const (
	blue = `{"cniVersion":"1.1.0","name":"blue","type":"cnibox","runtimeConfig":{"portMappings":[{"hostPort":%d,"containerPort":80}],"bandwidth":{"ingressRate":8000000,"ingressBurst":800000}},"plugins":[
		{"type":"bridge","bridge":"blue0","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.213.0.0/24"}],[{"subnet":"fd13:213::/64"}]]}},
		{"type":"portmap","capabilities":{"portMappings":true}},{"type":"firewall"},{"type":"bandwidth","capabilities":{"bandwidth":true}},
		{"type":"tuning","mtu":1400}]}`
	red = `{"cniVersion":"1.1.0","name":"red","type":"cnibox","plugins":[{"type":"ptp","ipMasq":true,"ipam":{"type":"host-local","subnet":"10.214.0.0/24"}},
		{"type":"tuning","mtu":1400}]}`
	green = `{"cniVersion":"1.1.0","name":"green","type":"macvlan","master":"parent0","ipam":{"type":"host-local","subnet":"10.215.0.0/24"}}`
)

func newNode(t *testing.T) *testNode {
	t.Helper()
	n := &testNode{roletest.NewNode(t, table()), t, t.TempDir()}
	n.Host.VarLib = t.TempDir()
	n.Host.Run("ip", "link", "add", "parent0", "type", "veth", "peer", "name", "parent1")
	n.Host.Run("ip", "link", "set", "parent0", "up")
	n.Host.Run("ip", "link", "set", "parent1", "up")
	for name, text := range map[string]string{"10-blue.conflist": fmt.Sprintf(blue, 1), "20-green.conf": green} {
		if err := os.WriteFile(filepath.Join(n.conf, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// pods attaches one of each network, all living.
func (n *testNode) pods(suffix string, port int) (pods []*roletest.Pod) {
	n.t.Helper()
	return []*roletest.Pod{
		n.Add(fused.Name, "blue"+suffix, fmt.Sprintf(blue, port)),
		n.Add(fused.Name, "red"+suffix, red),
		n.Add("macvlan", "green"+suffix, green),
	}
}

// kill has a pod's sandbox vanish without DEL.
func (n *testNode) kill(p *roletest.Pod) {
	n.t.Helper()
	p.Kill()
}

// list writes a list of who lives.
func (n *testNode) list(ids ...string) string {
	path := filepath.Join(n.t.TempDir(), "living")
	if err := os.WriteFile(path, []byte(strings.Join(ids, "\n")), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// gc runs the command.
func (n *testNode) gc(args ...string) (string, error) {
	var out bytes.Buffer
	err := n.Host.Do(func() error {
		app := &cli.App{Reader: strings.NewReader(`{"items":[{"id":"red-dead"}]}`), Writer: &out, ErrWriter: &out, ExitErrHandler: func(*cli.Context, error) {}, Commands: []*cli.Command{Command(table, "")}}
		return ui.Run(context.Background(), app, append([]string{"gc", "--conf-dir", n.conf, "--plugin-dir", "/nonexistent", "--none-living"}, args...))
	})
	return out.String(), err
}

// state is all of the host: links, rules, the packet filter, files with their times.
func (n *testNode) state() string {
	n.t.Helper()
	var b strings.Builder
	for _, c := range []string{"ip link", "ip addr show scope global", "ip route", "ip -6 route", "ip rule", "nft -s list ruleset", "tc qdisc"} {
		b.WriteString(n.Host.Run("sh", "-c", c+" | sed 's/packets.*//; s/valid_lft.*//; s/expires.*//' | grep -v fe80"))
	}
	return b.String() + nstest.Files(n.Host.VarLib, n.Host.RunDir, n.conf)
}

// left is what there is of an attachment, as the command itself sees it.
func (n *testNode) left(id string) string {
	n.t.Helper()
	out, err := n.gc("--from", n.list(), "--verbose", "--older-than", "1000h")
	if err != nil {
		n.t.Fatal(err)
	}
	_, after, found := strings.Cut(out, "/"+id+"/eth0: ")
	if !found {
		return ""
	}
	_, after, _ = strings.Cut(after, "\n  ")
	line, _, _ := strings.Cut(after, "\n")
	return line
}

// Leftovers of all kinds are found and, with --yes, freed, with their configuration and without; the living stay as they are.
func TestLeftovers(t *testing.T) {
	n := newNode(t)
	living := n.pods("-lives", 8080)
	steady := n.state()
	var dead []*roletest.Pod
	for _, p := range n.pods("-dead", 8081) {
		dead = append(dead, p)
		n.kill(p)
	}
	orphan := owner.Owner{Network: "blue", ContainerID: "orphan", IfName: "eth0"}
	n.Host.Run("ip", "link", "add", orphan.LinkName(), "type", "veth", "peer", "name", "peer0")
	n.Host.Run("ip", "link", "set", orphan.LinkName(), "alias", orphan.String())
	n.Host.Run("ip", "link", "add", "veth0123456789a", "type", "veth", "peer", "name", "peer1") // nobody's
	before := n.state()
	list := n.list(living[0].Name, living[2].Name) // the sandbox of the third tells that it lives
	out, err := n.gc("--from", list, "--older-than", "0s")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"would free blue/blue-dead/eth0\n", "would free red/red-dead/eth0\n", "would free green/green-dead/eth0\n", "would free blue/orphan/eth0\n  link " + orphan.LinkName(),
		"address 10.213.0.3, fd13:213::3", "packet filter masquerade", "record tuning", "4 of 7 attachments; nothing was changed",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "lives") || strings.Contains(out, "veth0123456789a") {
		t.Errorf("the living are to be freed:\n%s", out)
	}
	if now := n.state(); now != before {
		t.Errorf("a dry run has changed something: %s", diff(before, now))
	}
	if out, err = n.gc("--from", list, "--older-than", "0s", "--yes"); err != nil || strings.Count(out, "freed ") != 4 {
		t.Errorf("%v\n%s", err, out)
	}
	for _, p := range dead {
		if left := n.left(p.Name); left != "" {
			t.Errorf("of %s is left: %s", p.Name, left)
		}
	}
	n.Host.Run("ip", "link", "del", "peer1")
	if now := n.state(); !sameBut(steady, now, "/lock", "last_reserved_ip", "/index") {
		t.Errorf("the living are not as before: %s", diff(steady, now))
	}
	if out, err = n.gc("--from", list, "--older-than", "0s", "--yes"); err != nil || !strings.Contains(out, "nothing to free: all of 3") {
		t.Errorf("%v\n%s", err, out)
	}
}

// What an ADD may just be making is kept, and so are a network that was not asked for and one whose configuration says so.
func TestKept(t *testing.T) {
	n := newNode(t)
	for _, p := range n.pods("-dead", 8082) {
		n.kill(p)
	}
	for args, want := range map[string][]string{
		"":                              {"s old"},
		"--older-than 0s --from -":      {"would free blue/blue-dead/eth0", "standard input has the container"},
		"--older-than 0s --network red": {"would free red/", "it is of another network", "1 of 3"},
		"--older-than 0s --from " + n.list("red-dead eth1", "green-dead"): {"would free red/red-dead/eth0", "has the container"},
	} {
		out, err := n.gc(append([]string{"--from", n.list(), "--verbose"}, strings.Fields(args)...)...)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: no %q in\n%s", args, w, out)
			}
		}
	}
	conf := strings.Replace(fmt.Sprintf(blue, 1), `"name"`, `"disableGC":true,"name"`, 1)
	if err := os.WriteFile(filepath.Join(n.conf, "10-blue.conflist"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := n.gc("--from", n.list(), "--older-than", "0s", "--output", "json")
	var r report
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || len(r.Attachments) != 3 || !strings.Contains(r.Attachments[0].Kept, "disableGC") || r.Attachments[2].Kept != "" {
		t.Errorf("%v\n%s", err, out)
	}
}

// What is not understood is told as such, before anything is looked at.
func TestUsage(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, args := range []string{"--older-than -1s --from -", "--runtime nonsense", ""} {
		if out, err := n.gc(strings.Fields(args)...); !errors.As(err, &ui.UsageError{}) {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
}

// What the runtime's library remembers is the configuration where the node's is gone; its file goes too.
func TestCache(t *testing.T) {
	n := newNode(t)
	p := n.Add(fused.Name, "cached", strings.Replace(red, "red", "purple", 1))
	n.kill(p)
	dir := filepath.Join(n.Host.VarLib, "cni/results")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(cached{
		Kind: "cniCacheV1", ContainerID: "cached", IfName: "eth0", Network: "purple", Config: []byte(strings.Replace(red, "red", "purple", 1)), Result: p.Result(),
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "purple-cached-eth0"), text, 0o600)
	}
	if err == nil { // another CNI's, of which nothing of ours is left
		err = os.WriteFile(filepath.Join(dir, "k8s-pod-network-x-eth0"), []byte(`{"kind":"cniCacheV1","containerId":"x","ifName":"eth0","networkName":"k8s-pod-network"}`), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "purple-cached-eth0")
	keeps, err := json.Marshal(cached{
		Kind: "cniCacheV1", ContainerID: "cached", IfName: "eth0", Network: "purple", Config: []byte(strings.Replace(red, `"name":"red"`, `"disableGC":true,"name":"purple"`, 1)),
	})
	if err := errors.Join(err, os.WriteFile(path, keeps, 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := n.gc("--from", n.list(), "--older-than", "0s", "--yes", "--verbose")
	if err != nil || !strings.Contains(out, "keeps purple/cached/eth0: the cached configuration has disableGC") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = n.gc("--from", n.list(), "--older-than", "0s", "--yes")
	if err != nil || !strings.Contains(out, "cached result purple-cached-eth0") {
		t.Errorf("%v\n%s", err, out)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	if leaks, err := n.Host.Leaks("parent0", "parent1"); err != nil || len(leaks) > 0 {
		t.Errorf("%v, %v", leaks, err)
	}
}

// Without any configuration the last pod of a tunnel to other nodes takes the tunnel along, and a lease is given back by who keeps it.
func TestWithoutConfiguration(t *testing.T) {
	n := newNode(t)
	n.Outside()
	p := n.Add("vxlan", "orange-a", `{"cniVersion":"1.1.0","name":"orange","type":"vxlan","vni":77,"underlay":"192.0.2.1","nodeSubnets":["10.216.0.0/24"],
		"peers":[{"name":"b","underlay":["192.0.2.12"],"subnets":["10.216.1.0/24"]}],"ipam":{"type":"host-local","subnet":"10.216.0.0/24"}}`)
	n.Host.Run("ip", "link", "show", "vxlan77")
	n.kill(p)
	leases := filepath.Join(n.Host.VarLib, "cni/dhcp")
	text := `{"owner":{"Network":"lan","ContainerID":"x","IfName":"eth0"},"netns":"/gone","family":"ipv4"}`
	if err := errors.Join(os.MkdirAll(leases, 0o700), os.MkdirAll(filepath.Join(n.Host.RunDir, "cni"), 0o700), os.WriteFile(filepath.Join(leases, "x.json"), []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := n.gc("--from", n.list(), "--verbose", "--older-than", "1h"); err != nil || !strings.Contains(out, "keeps lan/x/eth0: it is only ") {
		t.Errorf("a new lease: %v\n%s", err, out)
	}
	out, err := n.gc("--from", n.list(), "--older-than", "0s", "--yes")
	if !strings.Contains(out, "freed orange/orange-a/eth0") || !strings.Contains(out, "user of the tunnel orange") {
		t.Errorf("%v\n%s", err, out)
	}
	if err == nil || !strings.Contains(err.Error(), "lan/x/eth0: the lease is still there") || !strings.Contains(out, "failed to free lan/x/eth0") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := n.Host.Try("ip", "link", "show", "vxlan77"); err == nil {
		t.Errorf("the tunnel is left: %s", out)
	}
	if words, err := os.ReadDir(filepath.Join(n.Host.RunDir, "cni/dhcp.sock.released")); err != nil || len(words) != 1 {
		t.Errorf("no word is left for the daemon: %v, %v", words, err)
	}
}

func diff(a, b string) string {
	var out strings.Builder
	for _, side := range [][3]string{{"-", a, b}, {"+", b, a}} {
		for line := range strings.Lines(side[1]) {
			if !strings.Contains(side[2], line) {
				out.WriteString(side[0] + " " + line)
			}
		}
	}
	return out.String()
}

// sameBut compares without the lines that have one of the words.
func sameBut(a, b string, words ...string) bool {
	strip := func(s string) string {
		var out strings.Builder
		for line := range strings.Lines(s) {
			keep := true
			for _, w := range words {
				keep = keep && !strings.Contains(line, w)
			}
			if keep {
				out.WriteString(line)
			}
		}
		return out.String()
	}
	return strip(a) == strip(b)
}
