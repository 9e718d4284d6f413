package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/cnibox/cnibox/command/node"
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

func TestInspectThreeNetworks(t *testing.T) {
	t.Parallel()
	n := threeNetworks(t)
	if got := told(n.inspected()); len(got) > 0 {
		t.Errorf("of a healthy node: %q", got)
	}
	n.plantOrphan()
	if dir := os.Getenv("CNIBOX_SCREENS"); dir != "" {
		for name, args := range map[string]string{
			"inspect.txt": "inspect", "details.txt": "inspect --container 0001", "top.txt": "top --count 1", "topology.txt": "topology",
			"topology.dot": "topology --format dot", "topology.svg": "topology --format svg",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(n.cnibox(strings.Fields(args)...)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}
