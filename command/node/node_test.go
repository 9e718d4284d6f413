package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/static"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/bandwidth"
	"github.com/cnibox/cnibox/roles/bridge"
	"github.com/cnibox/cnibox/roles/dummy"
	"github.com/cnibox/cnibox/roles/firewall"
	"github.com/cnibox/cnibox/roles/hostdevice"
	"github.com/cnibox/cnibox/roles/ipvlan"
	"github.com/cnibox/cnibox/roles/macvlan"
	"github.com/cnibox/cnibox/roles/portmap"
	"github.com/cnibox/cnibox/roles/ptp"
	"github.com/cnibox/cnibox/roles/roletest"
	"github.com/cnibox/cnibox/roles/sbr"
	"github.com/cnibox/cnibox/roles/tap"
	"github.com/cnibox/cnibox/roles/tuning"
	"github.com/cnibox/cnibox/roles/vlan"
	"github.com/cnibox/cnibox/roles/vrf"
	"github.com/cnibox/cnibox/roles/vxlan"
)

func newNode(t *testing.T) *testNode {
	t.Helper()
	n := roletest.NewNode(t, roles.Table{
		"bandwidth": bandwidth.New(), "bridge": bridge.New(), "dummy": dummy.New(), "firewall": firewall.New(), "host-device": hostdevice.New(),
		"host-local": hostlocal.New(), "ipvlan": ipvlan.New(), "macvlan": macvlan.New(), "portmap": portmap.New(), "ptp": ptp.New(), "sbr": sbr.New(),
		"static": static.New(), "tap": tap.New(), "tuning": tuning.New(), "vlan": vlan.New(), "vrf": vrf.New(), "vxlan": vxlan.New(),
	})
	n.Host.VarLib = t.TempDir()
	return &testNode{n, t}
}

type testNode struct {
	*roletest.Node
	t *testing.T
}

// add attaches a pod to a network of the plugins, "TYPE, KEYS" each.
func (n *testNode) add(pod, network string, plugins ...string) {
	n.t.Helper()
	for i, p := range plugins {
		role, keys, _ := strings.Cut(p, ", ")
		if keys != "" {
			keys = ", " + keys
		}
		conf := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "type": %q%s}`, network, role, keys)
		if i > 0 {
			conf = n.Pod(pod).WithPrev(conf)
		}
		n.Add(role, pod, conf)
	}
}

func (n *testNode) read() (out *node.Node) {
	n.t.Helper()
	err := n.Host.Do(func() (err error) {
		out, err = node.Read(context.Background(), node.Options{Youth: -1})
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, p := range out.Problems {
		n.t.Errorf("problem: %s", p)
	}
	return out
}

// of is the attachment of a container.
func (n *testNode) of(snapshot *node.Node, id string) *node.Attachment {
	n.t.Helper()
	for _, a := range snapshot.Attachments {
		if a.ContainerID == id {
			return a
		}
	}
	n.t.Fatalf("no attachment of %s", id)
	return nil
}

// findings are all, a line each.
func findings(n *node.Node) (out []string) {
	for _, f := range n.Findings {
		out = append(out, fmt.Sprintf("%s: %s", f.Kind, f.Text))
	}
	for _, a := range n.Attachments {
		for _, f := range a.Findings {
			out = append(out, fmt.Sprintf("%s %s: %s", f.Kind, a.Owner(), f.Text))
		}
	}
	return out
}

func (n *testNode) healthy() *node.Node {
	n.t.Helper()
	snapshot := n.read()
	for _, f := range findings(snapshot) {
		n.t.Errorf("finding on a healthy node: %s", f)
	}
	return snapshot
}

func local(subnet string) string {
	return fmt.Sprintf(`"ipam": {"type": "host-local", "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}`, subnet)
}

// Every role's attachment is found, without a word from a runtime, and nothing is wrong with it.
func TestEveryRole(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.Outside()
	n.Host.Run("ip", "link", "add", "spare", "type", "veth", "peer", "name", "wire")
	ports := `"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}, {"hostPort": 8053, "containerPort": 53, "protocol": "udp"}]}`
	chained := []string{"portmap, " + ports, "firewall"}
	limited := nstest.Has(t, "tbf") && nstest.Has(t, "ifb")
	if limited {
		chained = append(chained, `bandwidth, "ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 4000000, "egressBurst": 800000`)
	}
	want := map[string]string{}
	add := func(feature, pod, described, network string, plugins ...string) {
		if feature == "" || nstest.Has(t, feature) {
			n.add(pod, network, plugins...)
			want[pod] = described
		}
	}
	add("", "bridged", "bridge 10.1.0.2", "lan",
		append([]string{`bridge, "bridge": "br0", "isGateway": true, "ipMasq": true, "macspoofchk": true, ` + local("10.1.0.0/24")}, chained...)...)
	add("", "routed", "ptp 10.2.0.2", "point", `ptp, "ipMasq": true, `+local("10.2.0.0/24"), `tuning, "mtu": 1400`)
	add("vxlan", "tunnelled", "vxlan 10.3.0.2", "pods", `vxlan, "vni": 7, "underlay": "192.0.2.1", "nodeSubnets": ["10.3.0.0/24"],
		"peers": [{"name": "b", "underlay": ["192.0.2.100"], "subnets": ["10.3.1.0/24"]}], `+local("10.3.0.0/24"))
	add("vxlan", "joined", "vxlan 10.10.0.2", "wide", `vxlan, "mode": "bridged", "vni": 8, "port": 4790, "underlay": "192.0.2.1", "ipam": {"type": "host-local",
		"ranges": [[{"subnet": "10.10.0.0/16", "rangeStart": "10.10.0.2", "rangeEnd": "10.10.0.99", "gateway": "10.10.0.1"}]]},
		"peers": [{"name": "b", "underlay": ["192.0.2.100"]}]`)
	add("macvlan", "mac", "macvlan 10.4.0.2", "macs", `macvlan, "master": "uplink", `+local("10.4.0.0/24"), "firewall")
	add("ipvlan", "ipv", "ipvlan 10.5.0.2", "ips", `ipvlan, "master": "uplink", `+local("10.5.0.0/24"))
	add("vlan", "tagged", "vlan 10.6.0.2", "tags", `vlan, "master": "uplink", "vlanId": 5, `+local("10.6.0.0/24"))
	add("dummy", "dumb", "dummy 10.7.0.2", "dummies", `dummy, `+local("10.7.0.0/24"))
	add("tun", "tapped", "tap 10.8.0.2", "taps", `tap, `+local("10.8.0.0/24"))
	add("", "device", "host-device 10.9.0.2", "devices", `host-device, "device": "spare", `+local("10.9.0.0/24"))
	add("vrf", "far", "ptp 10.2.0.3", "point", `ptp, `+local("10.2.0.0/24"), `vrf, "vrfname": "red"`)
	add("", "sourced", "ptp 10.99.0.5", "still", `ptp, "ipam": {"type": "static", "addresses": [{"address": "10.99.0.5/24", "gateway": "10.99.0.1"}]}`, "sbr")
	add("", "plain", "bridge", "layer2", `bridge, "bridge": "br1"`)
	snapshot := n.healthy()
	for id, described := range want {
		a := n.of(snapshot, id)
		got := a.Type
		for _, addr := range a.Addrs() {
			got += " " + addr.String()
		}
		if got != described || a.State != node.OK || a.Link == nil || a.Link.Name != "eth0" || a.Sandbox == "" {
			t.Errorf("%s: %s, %s, %+v in %q, want %s", id, got, a.State, a.Link, a.Sandbox, described)
		}
	}
	if len(snapshot.Attachments) != len(want) {
		t.Errorf("%d attachments, want %d", len(snapshot.Attachments), len(want))
	}
	n.bridgedIsTold(n.of(snapshot, "bridged"), limited)
	if o := snapshot.Overlays; nstest.Has(t, "vxlan") && (len(o) != 2 || o[0].VNI != 7 || len(o[0].Peers) != 1) {
		t.Errorf("overlays %+v", o)
	}
	text, err := json.Marshal(snapshot)
	if err != nil || !strings.Contains(string(text), `"hostPort":8080`) {
		t.Errorf("as JSON: %s, %v", text, err)
	}
}

func (n *testNode) bridgedIsTold(a *node.Attachment, limited bool) {
	n.t.Helper()
	if a.Bridge != "br0" || a.HostLink == nil || a.HostLink.Name != (owner.Owner{Network: "lan", ContainerID: "bridged", IfName: "eth0"}).LinkName() {
		n.t.Errorf("bridge %q, host side %+v", a.Bridge, a.HostLink)
	}
	if got := fmt.Sprint(a.PortWords()); got != "[8053->53/udp 8080->80/tcp]" {
		n.t.Errorf("ports %s", got)
	}
	if limited && (a.Limits == nil || a.Limits.In != 8000000 || a.Limits.Out != 4000000) {
		n.t.Errorf("limits %+v", a.Limits)
	}
	features := ""
	for _, r := range a.Rules {
		features += r.Feature + " "
	}
	if features != "masquerade port mappings admission spoof check " {
		n.t.Errorf("rules %s", features)
	}
	if a.Since.IsZero() || len(a.Reserved) != 1 {
		n.t.Errorf("since %s, reserved %s", a.Since, a.Reserved)
	}
}

// Names too long for an alias and for the journal, and a port that two networks of one container ask for.
func TestHealthyAllTheSame(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	long := strings.Repeat("n", 120)
	id := strings.Repeat("c", 200)
	still := `"ipam": {"type": "static", "addresses": [{"address": "10.%s.0.5/24"}]}`
	ports := `portmap, "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}`
	n.add(id, long, `ptp, "ipMasq": true, `+strings.Replace(still, "%s", "1", 1))
	for i, network := range []string{"first", "second"} {
		ptp := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "type": "ptp", `+still+`}`, network, fmt.Sprint(2+i))
		n.Must(roletest.Call{Verb: "ADD", Role: "ptp", Pod: n.Pod("two"), IfName: fmt.Sprintf("eth%d", i), Conf: ptp})
	}
	for i, network := range []string{"first", "second"} {
		pod := n.Pod("two")
		pod.WithResult([]byte(fmt.Sprintf(`{"cniVersion": "1.1.0", "interfaces": [{"name": "eth%d", "sandbox": %q}],
			"ips": [{"address": "10.%d.0.5/24", "interface": 0}]}`, i, pod.Path, 2+i)))
		_, keys, _ := strings.Cut(ports, ", ")
		conf := pod.WithPrev(fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "type": "portmap", %s}`, network, keys))
		n.Must(roletest.Call{Verb: "ADD", Role: "portmap", Pod: pod, IfName: fmt.Sprintf("eth%d", i), Conf: conf})
	}
	for _, forgotten := range []bool{false, true} { // with the records, and without: then nothing tells the long name whole
		if forgotten {
			n.Host.Run("rm", "-r", "/run/cnibox")
		}
		snapshot := n.healthy()
		if len(snapshot.Attachments) != 3 {
			t.Fatalf("%d attachments", len(snapshot.Attachments))
		}
		for _, a := range snapshot.Attachments {
			isLong := strings.HasPrefix(a.Network, "nnnnnnnn")
			if a.Link == nil || a.HostLink == nil || len(a.Addresses) != 1 || a.Cut != (isLong && forgotten) {
				t.Errorf("%+v", a)
			}
		}
	}
}

// A plugin that hangs with the lock in its hands does not hold up who looks: the rest of the node is told, and that something could not be seen. Who has
// given up does not have the lock when it is free.
func TestHungPlugin(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.add("a", "lan", `bridge, "bridge": "br0", "isGateway": true, `+local("10.1.0.0/24"))
	var snapshot *node.Node
	if err := n.Host.Do(func() error {
		hung, err := netutil.Current()
		if err != nil {
			return err
		}
		defer hung.Close()
		unlock, err := hung.Lock()
		if err != nil {
			return err
		}
		snapshot, err = node.Read(t.Context(), node.Options{LockWait: 50 * time.Millisecond})
		unlock()
		if err != nil {
			return err
		}
		if unlock, err = hung.Lock(); err == nil {
			unlock()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(snapshot.Problems) != 1 || !strings.Contains(snapshot.Problems[0], "packet filter: ") || !strings.Contains(snapshot.Problems[0], "perhaps a plugin that hangs") {
		t.Errorf("problems %q", snapshot.Problems)
	}
	if a := n.of(snapshot, "a"); a.Link == nil || a.HostLink == nil {
		t.Errorf("%+v", a)
	}
	n.healthy()
}

// Who may be in one of two sandboxes, as only an address tells and both have it, counts as living: nothing of him may be freed.
func TestOneOfTwo(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, pod := range []string{"a", "b"} {
		n.Host.Run("ip", "link", "add", "host"+pod, "type", "veth", "peer", "name", "eth0", "netns", n.Pod(pod).Path)
		n.Pod(pod).Run("ip", "addr", "add", "10.1.0.9/24", "dev", "eth0")
	}
	dir := filepath.Join(n.Host.VarLib, "cni/networks/lan")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "10.1.0.9"), []byte("a\r\neth0"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if a := n.of(n.healthy(), "a"); !a.Alive() || a.State != node.OK {
		t.Errorf("%+v", a)
	}
}
