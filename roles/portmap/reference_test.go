package portmap_test

import (
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/roles/roletest"
)

// The tests of this file are named after what the reference plugin does, and show that this role does not.

// Each network's conditions are those of its own pods, and go with them.
func TestSecondNetworksConditionsOverwriteTheFirsts(t *testing.T) {
	n := newNode(t, "bridge")
	one, two := n.pod("one"), n.pod("two")
	second := mapping(`{"hostPort": 82, "containerPort": 80}`, `"name": "second"`, `"conditionsV4": ["-d", "192.0.2.2"]`)
	one.expose(mapping(`{"hostPort": 81, "containerPort": 80}`, `"conditionsV4": ["-d", "192.0.2.1"]`))
	before := n.tables()
	two.expose(second)
	for to, seen := range map[string]string{
		"192.0.2.1:81": "one saw 192.0.2.100", "192.0.2.2:81": "", "192.0.2.1:82": "", "192.0.2.2:82": "two saw 192.0.2.100",
	} {
		n.WantSeen(n.outside, "tcp", to, seen)
	}
	two.unexpose(second)
	if after := n.tables(); after != before {
		t.Errorf("the second network left\n%s\nbefore it was\n%s", after, before)
	}
	n.WantSeen(n.outside, "tcp", "192.0.2.1:81", "one saw 192.0.2.100")
	n.WantSeen(n.outside, "tcp", "192.0.2.2:81", "")
}

// A pod that vanished without DEL may still hold a port. Another does not get it only in appearance: it is told who has it, and GC frees it.
func TestLeakedRuleShadowsANewPod(t *testing.T) {
	n := newNode(t, "bridge")
	old, fresh := n.pod("old"), n.pod("fresh")
	port := mapping(`{"hostPort": 8080, "containerPort": 80}`)
	old.expose(port)
	old.Remove()
	errtest.Want(t, fresh.portmap("ADD", "eth0", port), busy, "8080/tcp", "net/old/eth0")
	n.Must(roletest.Call{Verb: "GC", Role: "portmap", Conf: `{"cniVersion": "1.1.0", "name": "net", "type": "portmap",
		"cni.dev/valid-attachments": [{"containerID": "fresh", "ifname": "eth0"}]}`})
	fresh.expose(port)
	n.WantSeen(n.outside, "tcp", "192.0.2.1:8080", "fresh saw 192.0.2.100")
}

// A second ADD is refused, and changes neither the packet filter nor what the first has made.
func TestRepeatedADDDuplicatesRules(t *testing.T) {
	n := newNode(t, "bridge")
	one := n.pod("one")
	for _, keys := range []string{
		mapping(`{"hostPort": 8080, "containerPort": 80}`),
		mapping(`{"hostPort": 8080, "containerPort": 80}`, `"conditionsV4": ["-s", "192.0.2.0/24"]`),
	} {
		clean := n.tables()
		one.expose(keys)
		before := n.tables()
		errtest.Want(t, one.portmap("ADD", "eth0", keys), errcode.AlreadyExists, "net/one/eth0")
		if after := n.tables(); after != before {
			t.Errorf("the tables changed from\n%s\nto\n%s", before, after)
		}
		n.WantSeen(n.outside, "tcp", "192.0.2.1:8080", "one saw 192.0.2.100")
		one.unexpose(keys)
		if after := n.tables(); after != clean {
			t.Errorf("DEL left\n%s\nbefore it was\n%s", after, clean)
		}
	}
}

// Names of protocols have no case, and the packet filter has the port once.
func TestProtocolInCapitalsIsASyntaxError(t *testing.T) {
	n := newNode(t, "bridge")
	one, two := n.pod("one"), n.pod("two")
	one.expose(mapping(`{"hostPort": 8080, "containerPort": 80, "protocol": "TCP"}, {"hostPort": 8080, "containerPort": 80, "protocol": "Udp"}`))
	n.WantSeen(n.outside, "tcp", "192.0.2.1:8080", "one saw 192.0.2.100")
	n.WantSeen(n.outside, "udp", "[2001:db8::1]:8080", "one saw 2001:db8::100")
	for _, protocol := range []string{"tcp", "UDP"} {
		err := two.portmap("ADD", "eth0", mapping(`{"hostPort": 8080, "containerPort": 80, "protocol": "`+protocol+`"}`))
		errtest.Want(t, err, busy, "8080/"+strings.ToLower(protocol), "net/one/eth0")
	}
	one.unexpose(mapping(`{"hostPort": 8080, "containerPort": 80, "protocol": "TCP"}`))
	n.WantSeen(n.outside, "tcp", "192.0.2.1:8080", "")
}

// What DEL takes away is what the attachment has, and no other interface of its container, in the same network or another.
func TestDelOfOneInterfaceRemovesTheOthersMapping(t *testing.T) {
	n := newNode(t, "bridge")
	one := n.pod("one")
	one.join("eth1")
	other := mapping(`{"hostPort": 8082, "containerPort": 80}`, `"name": "second"`)
	for _, c := range []struct{ ifName, keys string }{
		{"eth0", mapping(`{"hostPort": 8080, "containerPort": 80}`)}, {"eth1", mapping(`{"hostPort": 8081, "containerPort": 80}`)}, {"eth0", other},
	} {
		if err := one.portmap("ADD", c.ifName, c.keys); err != nil {
			t.Fatal(err)
		}
	}
	want := func(open string) {
		t.Helper()
		for _, port := range []string{"8080", "8081", "8082"} {
			seen := ""
			if strings.Contains(open, port) {
				seen = "one saw 192.0.2.100"
			}
			n.WantSeen(n.outside, "tcp", "192.0.2.1:"+port, seen)
		}
	}
	want("8080 8081 8082")
	for _, c := range []struct{ ifName, keys, open string }{{"eth0", `{}`, "8081 8082"}, {"eth0", other, "8081"}, {"eth1", `{}`, ""}} {
		if err := one.portmap("DEL", c.ifName, c.keys); err != nil {
			t.Error(err)
		}
		want(c.open)
	}
}
