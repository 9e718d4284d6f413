package bridge_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles/roletest"
)

// vlanConf is a network in which pods have fixed addresses, so that several VLANs can share a subnet. The IPv6 address ends in the other one.
func vlanConf(name, addr, keys string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "type": "bridge", "bridge": "br0", %s,
		"ipam": {"type": "static", "addresses": [
			{"address": "%[3]s/24", "gateway": "10.7.0.1"}, {"address": "fd07::%[3]s/120", "gateway": "fd07::10.7.0.1"}]}}`, name, keys, addr)
}

func TestPodsOfOneVLANReachEachOtherAndNoOthers(t *testing.T) {
	nstest.Need(t, "vlan_filtering")
	n := newNode(t)
	a := n.Add("bridge", "a", vlanConf("seven", "10.7.0.2", `"vlan": 7`))
	b := n.Add("bridge", "b", vlanConf("seven", "10.7.0.3", `"vlan": 7`))
	c := n.Add("bridge", "c", vlanConf("eight", "10.7.0.4", `"vlan": 8`))
	ping(t, a.NS, b, true)
	ping(t, a.NS, c, false)
	ping(t, c.NS, b, false)
	for pod, conf := range map[string]string{"a": vlanConf("seven", "10.7.0.2", `"vlan": 7`), "c": vlanConf("eight", "10.7.0.4", `"vlan": 8`)} {
		if err := n.Check("bridge", pod, conf); err != nil {
			t.Errorf("CHECK of %s: %v", pod, err)
		}
	}
	port := owner.Owner{Network: "seven", ContainerID: "a", IfName: "eth0"}.LinkName()
	n.Host.Run("bridge", "vlan", "del", "dev", port, "vid", "7")
	errtest.Want(t, n.Check("bridge", "a", vlanConf("seven", "10.7.0.2", `"vlan": 7`)), errcode.Differs, "VLAN 7")
}

// The gateway is on an interface of the VLAN's own, and answers in that VLAN only.
func TestTheGatewayOfAVLAN(t *testing.T) {
	nstest.Need(t, "vlan_filtering")
	n := newNode(t)
	conf := vlanConf("seven", "10.7.0.2", `"vlan": 7, "isGateway": true`)
	a := n.Add("bridge", "a", conf)
	a.Run("ping", "-c1", "-W5", "10.7.0.1")
	a.Run("ping", "-c1", "-W5", "fd07::10.7.0.1")
	if out := n.Host.Run("ip", "-br", "addr", "show", "br0.7"); !strings.Contains(out, "10.7.0.1/24") || !strings.Contains(out, "fd07::a07:1/120") {
		t.Errorf("br0.7: %s", out)
	}
	if err := n.Check("bridge", "a", conf); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	b := n.Add("bridge", "b", vlanConf("eight", "10.7.0.4", `"vlan": 8`))
	for _, gateway := range []string{"10.7.0.1", "fd07::10.7.0.1"} {
		if out, err := b.Try("ping", "-c1", "-W1", gateway); err == nil {
			t.Errorf("the gateway answers in another VLAN: %s", out)
		}
	}
	n.Del("bridge", "a", conf)
	n.Del("bridge", "b", vlanConf("eight", "10.7.0.4", `"vlan": 8`))
	for line := range strings.Lines(n.Host.Run("ip", "-br", "link", "show", "type", "veth")) {
		if name, _, _ := strings.Cut(strings.Fields(line)[0], "@"); name != "br0.7" && !strings.Contains(line, "@br0.7") {
			t.Errorf("left: %s", line)
		}
	}
}

// A trunk carries the VLANs that it names, tagged: the pod tells them apart itself.
func TestTrunk(t *testing.T) {
	nstest.Need(t, "vlan_filtering", "vlan")
	n := newNode(t)
	conf := `{"cniVersion": "1.1.0", "name": "trunk", "type": "bridge", "bridge": "br0", "vlanTrunk": [{"id": 7}, {"minID": 20, "maxID": 22}]}`
	trunk := n.Add("bridge", "trunk", conf)
	for id, addr := range map[string]string{"7": "10.7.0.9", "21": "10.21.0.9", "30": "10.30.0.9"} {
		trunk.Run("ip", "link", "add", "link", "eth0", "name", "v"+id, "type", "vlan", "id", id)
		trunk.Run("ip", "addr", "add", addr+"/24", "dev", "v"+id)
		trunk.Run("ip", "addr", "add", "fd07::"+addr+"/120", "dev", "v"+id, "nodad")
		trunk.Run("ip", "link", "set", "v"+id, "up")
	}
	for _, tt := range []struct {
		id, subnet string
		arrives    bool
	}{{"7", "10.7.0", true}, {"21", "10.21.0", true}, {"30", "10.30.0", false}} {
		p := n.Add("bridge", "pod"+tt.id, vlanConf("net"+tt.id, tt.subnet+".2", `"vlan": `+tt.id))
		for _, addr := range []string{tt.subnet + ".9", "fd07::" + tt.subnet + ".9"} {
			if out, err := p.Try("ping", "-c1", "-W2", addr); (err == nil) != tt.arrives {
				t.Errorf("VLAN %s: %s, want an answer: %t\n%s", tt.id, addr, tt.arrives, out)
			}
		}
	}
	if err := n.Check("bridge", "trunk", conf); err != nil {
		t.Errorf("CHECK: %v", err)
	}
}

// The port stays in VLAN 1 only if that is asked for.
func TestPreserveDefaultVLAN(t *testing.T) {
	nstest.Need(t, "vlan_filtering")
	for _, preserve := range []bool{true, false} {
		n := newNode(t)
		n.Must(roletest.Call{Verb: "ADD", Role: "bridge", Pod: n.Pod("a"), Conf: vlanConf("net", "10.7.0.2", fmt.Sprintf(`"vlan": 7, "preserveDefaultVlan": %t`, preserve))})
		port := owner.Owner{Network: "net", ContainerID: "a", IfName: "eth0"}.LinkName()
		fields := strings.Fields(n.Host.Run("bridge", "vlan", "show", "dev", port))
		has := map[string]bool{}
		for _, f := range fields {
			has[f] = true
		}
		if !has["7"] || has["1"] != preserve {
			t.Errorf("preserveDefaultVlan %t: %q", preserve, fields)
		}
	}
}
