package roletest

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
)

// This file holds tests that every role passes which makes an interface in the container.

// WantNothingLeft makes three pods and takes them away: by DEL without a namespace, by DEL when the namespace is gone, and by GC. dir is
// where host-local keeps the addresses; links may stay.
func (n *Node) WantNothingLeft(role, conf, dir string, links ...string) {
	n.t.Helper()
	for _, p := range []string{"a", "b", "c"} {
		n.Add(role, p, conf)
	}
	n.Must(Call{Verb: "DEL", Role: role, Pod: n.Pod("a"), Conf: conf, NoSandbox: true})
	n.Pod("b").Remove()
	n.Must(Call{Verb: "DEL", Role: role, Pod: n.Pod("b"), Conf: conf})
	n.Must(Call{Verb: "GC", Role: role, Conf: withKeys(conf, `"cni.dev/valid-attachments": []`)})
	n.Clean(links...)
	if left := Reserved(n.t, dir); left != nil {
		n.t.Errorf("addresses left: %v", left)
	}
}

// WantChained makes a pod behind another plugin of its list: the role hands on what that one made, and its CHECK leaves it to the other's.
func (n *Node) WantChained(role, conf string) {
	n.t.Helper()
	conf = withKeys(conf, `"prevResult": {"interfaces": [{"name": "net0", "sandbox": "/x"}],
		"ips": [{"interface": 0, "address": "172.16.0.5/24"}], "routes": [{"dst": "192.168.0.0/16", "gw": "172.16.0.1"}]}`)
	p := n.Add(role, "a", conf)
	if len(p.Addrs) < 2 || p.Addrs[0].String() != "172.16.0.5" {
		n.t.Fatalf("the result has the addresses %v", p.Addrs)
	}
	if err := n.Check(role, "a", conf); err != nil {
		n.t.Errorf("CHECK: %v", err)
	}
	p.Run("ip", "addr", "flush", "dev", "eth0")
	if err := n.Check(role, "a", conf); err == nil {
		n.t.Error("CHECK passes without the role's own addresses")
	}
}

// WantReadmeExamples makes and checks a pod by each of the README's examples, of which there must be count.
func (n *Node) WantReadmeExamples(role string, count int) {
	n.t.Helper()
	for _, example := range ReadmeExamples(n.t, count) {
		conf := WithDataDir(n.t, example, n.t.TempDir())
		n.Add(role, "a", conf)
		if err := n.Check(role, "a", conf); err != nil {
			n.t.Errorf("CHECK of %s: %v", example, err)
		}
		n.Del(role, "a", conf)
	}
}

// withKeys puts keys in front of those of a configuration.
func withKeys(conf, keys string) string { return "{" + keys + ", " + strings.TrimPrefix(conf, "{") }

// Reserved are the addresses that host-local has given out, in all networks that it keeps in the folder.
func Reserved(t testing.TB, dataDir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dataDir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		if addr, err := netip.ParseAddr(filepath.Base(f)); err == nil {
			out = append(out, addr.String())
		}
	}
	return out
}

// Refusal is a configuration that a role must refuse.
type Refusal struct {
	Keys string // of the role, as JSON, behind those that every configuration has
	Want string // how the error begins: with the key
	Args string // CNI_ARGS
	Code uint   // errcode.InvalidConfig if 0
}

// WantRefused has each ADD refused, with nothing changed: neither on the host nor in the container, and no address reserved. ipam is given to
// those that have none; it may be empty.
func (n *Node) WantRefused(role, ipam string, refusals ...Refusal) {
	n.t.Helper()
	p := n.Pod("refused")
	state := func() string {
		return n.Host.Run("ip", "-d", "addr") + n.Host.Run("nft", "list", "ruleset") + n.Host.Run("tc", "qdisc") + p.Run("ip", "-d", "addr") + p.Run("ip", "rule")
	}
	before := state()
	for _, x := range refusals {
		keys := x.Keys
		if ipam != "" && !strings.Contains(keys, `"ipam"`) {
			keys = strings.TrimPrefix(keys+`, "ipam": `+ipam, ", ")
		}
		conf := withKeys("{"+keys+"}", `"cniVersion": "1.1.0", "name": "refused", "type": "`+role+`"`)
		code := x.Code
		if code == 0 {
			code = errcode.InvalidConfig
		}
		_, err := n.Do(Call{Verb: "ADD", Role: role, Pod: p, Conf: strings.Replace(conf, ", }", "}", 1), Args: x.Args})
		errtest.WantKey(n.t, err, code, x.Want)
		if after := state(); after != before {
			n.t.Errorf("%s changed\n%s\nto\n%s", x.Keys, before, after)
		}
	}
}
