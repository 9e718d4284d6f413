package ipam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/ipam/store"
)

// testNode is folders with three networks: one with a pool that is nearly full, one without a configuration, one that is exhausted.
type testNode struct {
	t                  *testing.T
	conf, data, leases string
}

func newNode(t *testing.T) *testNode {
	t.Helper()
	n := &testNode{t, t.TempDir(), t.TempDir(), t.TempDir()}
	n.configure("10-blue.conflist", `{"cniVersion":"1.0.0","name":"blue","plugins":[{"type":"bridge","ipam":
		{"type":"host-local","dataDir":"`+n.data+`","ranges":[[{"subnet":"10.1.0.0/29"}],[{"subnet":"fd00:1::/64"}]]}}]}`)
	n.configure("20-red.conf", `{"name":"red","type":"ptp","ipam":{"type":"host-local","dataDir":"`+n.data+`","subnet":"10.2.0.0/30"}}`)
	for i, network := range []string{"blue", "blue", "green", "red"} {
		id := fmt.Sprintf("pod%d", i)
		subnet := map[string]string{"blue": "10.1.0.", "green": "10.3.0.", "red": "10.2.0."}[network]
		n.reserve(network, id, subnet+"2", subnet+"5")
	}
	n.file("blue", "10.1.0.6", "")
	n.file("blue", "10.9.0.9", "pod0\r\neth0")
	n.file("green", "10.1.0.2", "pod9\r\neth0")
	return n
}

func (n *testNode) configure(name, text string) {
	if err := os.WriteFile(filepath.Join(n.conf, name), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNode) file(network, name, text string) {
	if err := os.WriteFile(filepath.Join(n.data, network, name), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNode) reserve(network, id, first, last string) {
	n.t.Helper()
	s, err := store.New(n.data, network)
	if err != nil {
		n.t.Fatal(err)
	}
	set := store.Set{Ranges: []store.Range{{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)}}}
	if _, err := s.Acquire(store.Holder{ContainerID: id, IfName: "eth0"}, []store.Set{set}); err != nil {
		n.t.Fatal(err)
	}
}

// run runs the command and gives what it printed, without the times.
func (n *testNode) run(args ...string) (string, error) {
	var out bytes.Buffer
	app := &cli.App{
		Writer: &out, ExitErrHandler: func(*cli.Context, error) {},
		Commands: []*cli.Command{Command(&cli.Command{Name: "gc"})},
	}
	all := append([]string{"ipam", args[0], "--conf-dir", n.conf, "--data-dir", n.data, "--lease-dir", n.leases}, args[1:]...)
	err := ui.Run(context.Background(), app, all)
	return out.String(), err
}

func TestList(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	out, err := n.run("list")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"blue     10.1.0.2  pod0", "blue     10.1.0.6  -          -", "it is empty", "none of the network's ranges", "network blue has given it out too",
		"blue     10.1.0.1-10.1.0.6                      2     5     40 %", "fd00:1::1-fd00:1::ffff:ffff:ffff:ffff", "0     many",
		"red      10.2.0.1-10.2.0.2                      1     1     100 %, exhausted", "green    not known", "host-local",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out, err = n.run("list", "--network", "green", "--output", "json"); err != nil || strings.Contains(out, "pod0") ||
		!strings.Contains(out, `"containerID": "pod2"`) || !strings.Contains(out, `"pools": []`) {
		t.Errorf("%s, %v", out, err)
	}
}

// Nothing is changed without --yes, and with it just what was named.
func TestRelease(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	before := n.state()
	var usage ui.UsageError
	for args, want := range map[string]string{
		"10.1.0.2": "several networks", "": "want either", "nonsense": "no IP address", "--container pod0 10.1.0.2": "want either",
	} {
		if _, err := n.run(append([]string{"release"}, strings.Fields(args)...)...); !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("release %s: %v", args, err)
		}
	}
	if _, err := n.run("release", "10.1.0.99"); err == nil {
		t.Error("released what nobody has")
	}
	if _, err := n.run("release", "--network", "blue", "10.1.0.2", "10.1.0.99"); err == nil || !strings.Contains(err.Error(), "only 1 of the 2") {
		t.Errorf("%v", err)
	}
	out, err := n.run("release", "--network", "blue", "10.1.0.2")
	if err != nil || !strings.Contains(out, "would release 10.1.0.2 of blue, container pod0, interface eth0") {
		t.Errorf("%s, %v", out, err)
	}
	if now := n.state(); now != before {
		t.Errorf("changed without --yes:\n%s\n%s", before, now)
	}
	out, err = n.run("release", "--container", "pod0", "--yes")
	if err != nil || !strings.Contains(out, "released 10.1.0.2") || !strings.Contains(out, "released 10.9.0.9") {
		t.Errorf("%s, %v", out, err)
	}
	n.reserve("blue", "next", "10.1.0.2", "10.1.0.2") // the index knows
}

func (n *testNode) state() string {
	var b strings.Builder
	_ = filepath.Walk(n.data, func(path string, info os.FileInfo, err error) error {
		text, _ := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %v %q %v\n", path, info.ModTime(), text, err)
		return nil
	})
	return b.String()
}

// One folder by two names is one, and what files say does nothing to a terminal.
func TestFolderTwice(t *testing.T) {
	t.Parallel()
	n := &testNode{t, t.TempDir(), t.TempDir(), t.TempDir()}
	n.configure("10-blue.conf", `{"name":"blue","type":"bridge","ipam":{"type":"host-local","dataDir":"`+n.data+`/","subnet":"10.1.0.0/24"}}`)
	n.reserve("blue", "pod", "10.1.0.2", "10.1.0.9")
	if out, err := n.run("list"); err != nil || strings.Count(out, "10.1.0.2 ") != 1 || strings.Contains(out, "too") {
		t.Errorf("%v\n%s", err, out)
	}
	odd := "o\x1b[2Jdd"
	if err := os.Mkdir(filepath.Join(n.data, odd), 0o700); err != nil {
		t.Fatal(err)
	}
	n.file(odd, "10.1.0.2", "pod\r\neth0")
	n.file(odd, "10.1.0.3", "pod\r\neth0")
	list, err := n.run("list")
	release, err2 := n.run("release", "10.1.0.3")
	if err != nil || err2 != nil || !strings.Contains(list, "o?[2Jdd") || !strings.Contains(release, "o?[2Jdd") || strings.Contains(list+release, "\x1b") {
		t.Errorf("%v, %v\n%q\n%q", err, err2, list, release)
	}
}
