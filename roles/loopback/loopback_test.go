package loopback_test

import (
	"encoding/json"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/loopback"
	"github.com/cnibox/cnibox/roles/roletest"
)

const conf = `{"cniVersion": "1.1.0", "name": "lo", "type": "loopback"}`

// newNode is a host with a pod whose loopback interface is down, as it is in a new namespace.
func newNode(t *testing.T) (*roletest.Node, *roletest.Pod) {
	t.Helper()
	n := roletest.NewNode(t, roles.Table{"loopback": loopback.New()})
	p := n.Pod("a")
	p.Run("ip", "link", "set", "lo", "down")
	return n, p
}

func isUp(p *roletest.Pod) bool { return strings.Contains(p.Run("ip", "link", "show", "lo"), ",UP") }

func TestUpAndDown(t *testing.T) {
	n, p := newNode(t)
	n.Add("loopback", "a", conf)
	if !isUp(p) {
		t.Error("ADD left the interface down")
	}
	for _, a := range p.Addrs {
		if !a.IsLoopback() {
			t.Errorf("address %s", a)
		}
	}
	if len(p.Addrs) != 2 {
		t.Errorf("addresses %v, want one of each family", p.Addrs)
	}
	if err := n.Check("loopback", "a", conf); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	n.Del("loopback", "a", conf)
	if isUp(p) {
		t.Error("DEL left the interface up")
	}
	n.Del("loopback", "a", conf)
	n.Must(roletest.Call{Verb: "DEL", Role: "loopback", Pod: p, Conf: conf, NoSandbox: true})
	p.Remove()
	n.Del("loopback", "a", conf)
}

// A second ADD finds the interface up, and is content.
func TestAddTwice(t *testing.T) {
	n, p := newNode(t)
	n.Add("loopback", "a", conf)
	n.Add("loopback", "a", conf)
	if !isUp(p) {
		t.Error("the interface is down")
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ line, words string }{
		{"ip link set lo down", "lo is down"},
		{"ip addr del 127.0.0.1/8 dev lo", "lo has no address 127.0.0.1/8"},
		{"ip addr del ::1/128 dev lo", "lo has no address ::1/128"},
	} {
		t.Run(c.line, func(t *testing.T) {
			n, p := newNode(t)
			n.Add("loopback", "a", conf)
			args := strings.Fields(c.line)
			p.Run(args[0], args[1:]...)
			errtest.Want(t, n.Check("loopback", "a", conf), errcode.Differs, c.words)
		})
	}
}

func TestReadmeExample(t *testing.T) {
	n, _ := newNode(t)
	n.WantReadmeExamples("loopback", 1)
}

// Behind another plugin its result is that one's.
func TestPrevResultIsHandedOn(t *testing.T) {
	n, p := newNode(t)
	prev := `{"interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": [{"interface": 0, "address": "10.0.0.5/24"}]}`
	out := n.Must(roletest.Call{Verb: "ADD", Role: "loopback", Pod: p, Conf: strings.TrimSuffix(conf, "}") + `, "prevResult": ` + prev + "}"})
	var res types100.Result
	if err := json.Unmarshal(out, &res); err != nil {
		t.Fatal(err)
	}
	if len(res.Interfaces) != 1 || res.Interfaces[0].Name != "eth0" || len(res.IPs) != 1 || !isUp(p) {
		t.Errorf("answered %s", out)
	}
}
