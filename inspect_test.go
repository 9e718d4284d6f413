package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles/roletest"
)

// shownNode is a node that the commands for operators are tried on: a runtime attaches pods to its networks by libcni, as Kubernetes' do.
type shownNode struct {
	*roletest.Node
	t    testing.TB
	farm string
	cni  *libcni.CNIConfig
	pods int
}

func newShownNode(t testing.TB) *shownNode {
	t.Helper()
	farm, err := testFarm()
	if err != nil {
		t.Fatal(err)
	}
	n := &shownNode{Node: roletest.NewNode(t, nil), t: t, farm: farm, cni: libcni.NewCNIConfig([]string{farm}, nil)}
	n.Host.VarLib = t.TempDir()
	n.Outside()
	return n
}

// The three networks.
const (
	lanList = `{"cniVersion": "1.1.0", "name": "lan", "plugins": [
		{"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "macspoofchk": true, "ipam": {"type": "host-local",
			"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd01::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
		{"type": "portmap", "capabilities": {"portMappings": true}}, {"type": "firewall"}]}`
	edgeList = `{"cniVersion": "1.1.0", "name": "edge", "plugins": [
		{"type": "ptp", "ipMasq": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.2.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
		{"type": "portmap", "capabilities": {"portMappings": true}}]}`
	podsList = `{"cniVersion": "1.1.0", "name": "pods", "plugins": [
		{"type": "vxlan", "vni": 7, "underlay": "192.0.2.1", "nodeSubnets": ["10.3.0.0/24"], "peers": [
			{"name": "node-b", "underlay": ["192.0.2.12"], "subnets": ["10.3.1.0/24"]},
			{"name": "node-c", "underlay": ["192.0.2.13"], "subnets": ["10.3.2.0/24"]},
			{"name": "node-d", "underlay": ["192.0.2.14"], "subnets": ["10.3.3.0/24"]}],
			"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.3.0.0/24"}]]}},
		{"type": "portmap", "capabilities": {"portMappings": true}}]}`
)

// attach makes pods of a network. Every third has a host port.
func (n *shownNode) attach(list string, count int) (pods []*nstest.NS) {
	n.t.Helper()
	network, err := libcni.NetworkConfFromBytes([]byte(list))
	if err != nil {
		n.t.Fatal(err)
	}
	for i := range count {
		n.pods++
		pod := nstest.New(n.t, fmt.Sprintf("pod%d", n.pods))
		pods = append(pods, pod)
		rt := &libcni.RuntimeConf{
			ContainerID: containerID(n.pods), NetNS: pod.Path, IfName: "eth0",
			Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", fmt.Sprintf("%s-%d", network.Name, i)}},
		}
		if i%3 == 0 {
			rt.CapabilityArgs = map[string]any{"portMappings": []map[string]any{{"hostPort": 8000 + n.pods, "containerPort": 80, "protocol": "tcp"}}}
		}
		err := n.Host.Do(func() error {
			_, err := n.cni.AddNetworkList(context.Background(), network, rt)
			return err
		})
		if err != nil {
			n.t.Fatalf("ADD: %v", err)
		}
	}
	return pods
}

// containerID is one as runtimes give them.
func containerID(i int) string { return fmt.Sprintf("%04d%s", i, strings.Repeat("c0ffee", 10)) }

// grow makes what there is old enough to be judged.
func (n *shownNode) grow() {
	n.t.Helper()
	old := time.Now().Add(-3 * time.Hour)
	err := filepath.WalkDir(n.Host.VarLib, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = os.Chtimes(path, old, old)
		}
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// cnibox runs the command line on the node.
func (n *shownNode) cnibox(args ...string) string {
	n.t.Helper()
	var stdout, stderr strings.Builder
	err := n.Host.Do(func() error {
		cmd := exec.Command(filepath.Join(n.farm, "cnibox"), args...)
		cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, append(os.Environ(), "LC_ALL=C.UTF-8")
		return cmd.Run()
	})
	if err != nil {
		n.t.Fatalf("cnibox %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String()
}

// plantOrphan makes a link of the host that says it is of a container that there is not.
func (n *shownNode) plantOrphan() owner.Owner {
	o := owner.Owner{Network: "lan", ContainerID: strings.Repeat("dead", 16), IfName: "eth0"}
	n.Host.Run("ip", "link", "add", o.LinkName(), "type", "veth", "peer", "name", "nobodys")
	n.Host.Run("ip", "link", "set", o.LinkName(), "alias", o.String(), "master", "br0", "up")
	return o
}

// inspected is what `cnibox inspect --output json` says.
func (n *shownNode) inspected(args ...string) *node.Node {
	n.t.Helper()
	var out node.Node
	if err := json.Unmarshal([]byte(n.cnibox(append([]string{"inspect", "--output", "json"}, args...)...)), &out); err != nil {
		n.t.Fatal(err)
	}
	return &out
}

func told(n *node.Node) (out []string) {
	for _, f := range n.Findings {
		out = append(out, string(f.Kind)+": "+f.Text)
	}
	for _, a := range n.Attachments {
		for _, f := range a.Findings {
			out = append(out, string(f.Kind)+" "+a.Title()+": "+f.Text)
		}
	}
	return append(out, n.Problems...)
}

// threeNetworks is a node of three networks and 30 pods.
func threeNetworks(t testing.TB) *shownNode {
	t.Helper()
	nstest.Need(t, "vxlan")
	n := newShownNode(t)
	for _, list := range []string{lanList, edgeList, podsList} {
		n.attach(list, 10)
	}
	n.grow()
	return n
}

// The three commands tell of every pod of a healthy node, and find nothing wrong; an orphan link they name.
func TestInspectThreeNetworks(t *testing.T) {
	t.Parallel()
	n := threeNetworks(t)
	healthy := n.inspected()
	if got := told(healthy); len(got) > 0 {
		t.Errorf("of a healthy node: %q", got)
	}
	if len(healthy.Attachments) != 30 {
		t.Errorf("%d attachments", len(healthy.Attachments))
	}
	types := map[string]int{}
	for _, a := range healthy.Attachments {
		types[a.Type]++
		if a.Link == nil || a.HostLink == nil || len(a.Reserved) == 0 || a.Pod == "" || a.Since.IsZero() || len(a.Rules) == 0 && a.Network != "pods" {
			t.Errorf("%s lacks something: %+v", a.Title(), a)
		}
	}
	if fmt.Sprint(types) != "map[bridge:10 ptp:10 vxlan:10]" {
		t.Errorf("plugins %v", types)
	}
	if got := n.inspected("--network", "edge"); len(got.Attachments) != 10 {
		t.Errorf("%d attachments of the network edge", len(got.Attachments))
	}

	orphan := n.plantOrphan()
	want := "orphan lan/deaddeaddead/eth0: its sandbox is gone, and there is left: interface " + orphan.LinkName()
	if got := told(n.inspected()); len(got) != 1 || got[0] != want {
		t.Errorf("told %q, want %s", got, want)
	}
	n.screens()
	for _, command := range []string{"inspect", "topology", "topology --format dot", "topology --format svg"} {
		out := n.cnibox(strings.Fields(command)...)
		for line := range strings.Lines(out) {
			if command == "inspect" && len(line) > 120 {
				t.Errorf("too wide: %s", line)
			}
		}
		for _, a := range healthy.Attachments {
			for _, addr := range a.Addrs() {
				if !strings.Contains(out, addr.String()) {
					t.Errorf("%s does not tell of %s", command, addr)
				}
			}
		}
		if !strings.Contains(out, "orphan") || !strings.Contains(out, orphan.LinkName()) {
			t.Errorf("%s does not tell of the orphan", command)
		}
	}
}

// screens writes what is shown in the documentation, if CNIBOX_SCREENS names a folder for it.
func (n *shownNode) screens() {
	dir := os.Getenv("CNIBOX_SCREENS")
	if dir == "" {
		return
	}
	for name, args := range map[string]string{
		"inspect.txt": "inspect", "details.txt": "inspect --container 0001", "top.txt": "top --count 1", "topology.txt": "topology",
		"topology.dot": "topology --format dot", "topology.svg": "topology --format svg",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(n.cnibox(strings.Fields(args)...)), 0o600); err != nil {
			n.t.Error(err)
		}
	}
}

// Each of several faults of one node is told, of the attachment that it is of, and nothing else.
func TestInspectNamesFaults(t *testing.T) {
	t.Parallel()
	nstest.Need(t, "vxlan")
	n := newShownNode(t)
	lan, overlay := n.attach(lanList, 7), n.attach(podsList, 2)
	n.grow()
	link := func(i int) string {
		return owner.Owner{Network: "lan", ContainerID: containerID(i), IfName: "eth0"}.LinkName()
	}
	lan[0].Kill()
	lan[1].Run("ip", "addr", "del", "10.1.0.3/24", "dev", "eth0")
	n.Host.Run("sh", "-c", "nft delete element bridge cnibox checked '{ "+link(3)+" }'")
	n.Host.Run("ip", "link", "set", link(4), "nomaster")
	n.Host.Run("ip", "link", "set", link(5), "down")
	lan[5].Run("ip", "link", "set", "eth0", "mtu", "1300")
	overlay[0].Run("ip", "link", "set", "eth0", "down")
	n.Host.Run("ip", "route", "del", "10.3.2.0/24")
	want := []string{
		"drift: overlay pods: no route to 10.3.2.0/24",
		"orphan lan/" + node.Short(containerID(1)) + "/eth0: its sandbox is gone, and there is left: reserved 10.1.0.2, fd01::2, masquerade, port mappings, ",
		"drift lan/" + node.Short(containerID(2)) + "/eth0: the sandbox does not have 10.1.0.3",
		"drift lan/" + node.Short(containerID(3)) + "/eth0: packet filter: spoof check lacks " + link(3) + " in bridge cnibox checked",
		"drift lan/" + node.Short(containerID(4)) + "/eth0: interface " + link(4) + " of the host is no port of the bridge br0",
		"drift lan/" + node.Short(containerID(5)) + "/eth0: interface " + link(5) + " of the host is down",
		"drift lan/" + node.Short(containerID(6)) + "/eth0: MTU 1300 of eth0 is not that of " + link(6) + " on the host, 1500",
		"drift pods/" + node.Short(containerID(8)) + "/eth0: interface eth0 of the sandbox is down",
	}
	var got []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); { // a dead namespace's links go at the kernel's leisure
		if got = told(n.inspected()); slices.ContainsFunc(got, func(f string) bool { return strings.HasPrefix(f, "orphan") }) {
			break
		}
	}
	for _, w := range want {
		i := slices.IndexFunc(got, func(g string) bool { return strings.HasPrefix(g, w) })
		if i < 0 {
			t.Errorf("not told: %s", w)
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
	if len(got) > 0 {
		t.Errorf("told besides: %q", got)
	}
}

// Attachments that others have made, or of which no runtime keeps a result, are found and healthy.
func TestInspectOthersAttachments(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, farm, forget string }{
		{"without a cache", "", "cni/results"}, {"of the reference plugins", "reference", ""}, {"of the reference plugins, without a cache", "reference", "cni/results"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newShownNode(t)
			if tt.farm != "" {
				dir, err := referenceFarm()
				if err != nil {
					t.Fatal(err)
				}
				n.cni = libcni.NewCNIConfig([]string{dir}, nil)
			}
			n.attach(lanList, 4)
			n.attach(edgeList, 2)
			n.grow()
			if tt.forget != "" {
				if err := os.RemoveAll(filepath.Join(n.Host.VarLib, tt.forget)); err != nil {
					t.Fatal(err)
				}
			}
			snapshot := n.inspected()
			if got := told(snapshot); len(got) > 0 {
				t.Errorf("of a healthy node: %q", got)
			}
			if len(snapshot.Attachments) != 6 {
				t.Errorf("%d attachments", len(snapshot.Attachments))
			}
			for _, a := range snapshot.Attachments {
				want := map[string]string{"lan": "bridge", "edge": "ptp"}[a.Network]
				if a.Link == nil || a.HostLink == nil || a.Type != want || a.State != node.OK || (a.Pod == "") != (tt.forget != "") {
					t.Errorf("%s: %+v", a.Title(), a)
				}
			}
		})
	}
}

// A fused list's attachments are told of as those of the list.
func TestInspectFusedList(t *testing.T) {
	t.Parallel()
	n := newShownNode(t)
	dir := t.TempDir()
	plain, fused := filepath.Join(dir, "plain.conflist"), filepath.Join(dir, "fused.conflist")
	if err := os.WriteFile(plain, []byte(lanList), 0o600); err != nil {
		t.Fatal(err)
	}
	n.cnibox("fuse", "--output", fused, plain)
	list, err := os.ReadFile(fused)
	if err != nil {
		t.Fatal(err)
	}
	n.attach(string(list), 2)
	n.grow()
	snapshot := n.inspected()
	if got := told(snapshot); len(got) > 0 || len(snapshot.Attachments) != 2 {
		t.Fatalf("of a healthy node: %q, %d attachments", got, len(snapshot.Attachments))
	}
	if a := snapshot.Attachments[0]; a.Type != "bridge" || len(a.Ports) != 2 {
		t.Errorf("type %s, ports %v", a.Type, a.PortWords())
	}
}

// What is shown of a container is all there is; one that is not known is an error.
func TestInspectContainer(t *testing.T) {
	t.Parallel()
	n := newShownNode(t)
	n.attach(lanList, 1)
	for _, container := range []string{"0001", "shop/lan-0", containerID(1)} {
		out := n.cnibox("inspect", "--container", container)
		for _, want := range []string{
			"lan/" + containerID(1) + "/eth0", "shop/lan-0", "eth0, veth, 0a:58:0a:01:00:02, MTU 1500, up", "10.1.0.2/24, fd01::2/64",
			"8001->80/tcp of 10.1.0.2", "masquerade (2)", "br0",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("--container %s: %q is not in\n%s", container, want, out)
			}
		}
	}
	err := n.Host.Do(func() error {
		return exec.Command(filepath.Join(n.farm, "cnibox"), "inspect", "--container", "ffff").Run()
	})
	var failed *exec.ExitError
	if !errors.As(err, &failed) || failed.ExitCode() != ui.ExitFailure {
		t.Errorf("of an unknown container: %v", err)
	}
}

// top tells who sends. Its pictures end as they are to, and when it is interrupted.
func TestTop(t *testing.T) {
	t.Parallel()
	n := newShownNode(t)
	pods := n.attach(lanList, 3)
	ping := exec.Command("ping", "-q", "-i", "0.01", "-s", "1000", "10.1.0.1")
	if err := pods[1].Do(ping.Start); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = ping.Process.Kill(), ping.Wait() }()
	out := n.cnibox("top", "--count", "2", "--interval", "300ms")
	pictures := strings.Split(out, "----\n")
	if len(pictures) != 2 {
		t.Fatalf("%d pictures:\n%s", len(pictures), out)
	}
	busiest := strings.Fields(strings.Split(pictures[1], "\n")[1])
	if busiest[1] != "shop/lan-1" || !strings.HasSuffix(busiest[3], "k") && !strings.HasSuffix(busiest[3], "M") {
		t.Errorf("the busiest is %q", busiest)
	}
	n.wantWatch()
}

// wantWatch has inspect show the node again and again until it is interrupted, which is no failure.
func (n *shownNode) wantWatch() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	var watch *exec.Cmd
	var out io.Reader
	err := n.Host.Do(func() (err error) {
		watch = exec.CommandContext(ctx, filepath.Join(n.farm, "cnibox"), "inspect", "--watch", "--interval", "100ms")
		if out, err = watch.StdoutPipe(); err != nil {
			return err
		}
		return watch.Start()
	})
	if err != nil {
		n.t.Fatal(err)
	}
	pictures := 0
	for lines := bufio.NewScanner(out); pictures < 2 && lines.Scan(); {
		if lines.Text() == "----" {
			pictures++
		}
	}
	if err := watch.Process.Signal(os.Interrupt); err != nil {
		n.t.Error(err)
	}
	if err := watch.Wait(); err != nil || pictures < 2 {
		n.t.Errorf("interrupted after %d pictures: %v", pictures, err)
	}
}

// A command that runs for long keeps no namespace of a container: it stays in the host's, with the thread that outlives all others too.
func TestWatchStaysOnTheHost(t *testing.T) {
	t.Parallel()
	n := newShownNode(t)
	n.attach(lanList, 2)
	const watchers = 24 // one alone is seldom caught
	watches := make([]*exec.Cmd, watchers)
	var host string
	err := n.Host.Do(func() (err error) {
		for i := range watches {
			watches[i] = exec.Command(filepath.Join(n.farm, "cnibox"), "inspect", "--watch", "--interval", "300ms")
			watches[i].Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(1+i%2))
			if err := watches[i].Start(); err != nil {
				return err
			}
			t.Cleanup(func() { _, _ = watches[i].Process.Kill(), watches[i].Wait() })
		}
		host, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	for _, w := range watches {
		if at, err := os.Readlink("/proc/" + strconv.Itoa(w.Process.Pid) + "/ns/net"); at != host {
			t.Errorf("process %d is in %s, and the host is %s: %v", w.Process.Pid, at, host, err)
		}
	}
}
