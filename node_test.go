package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/nstest/faults"
)

// pluginNode is a node whose plugins are links to the built executable: a host in a namespace of its own, and a folder for addresses.
type pluginNode struct {
	t    *testing.T
	host *nstest.NS
	farm string // CNI_PATH
	data string // ipam.dataDir

	idle map[string]string // the tables of the packet filter while nobody uses them
}

func newPluginNode(t *testing.T) *pluginNode {
	t.Helper()
	n := &pluginNode{t: t, host: nstest.New(t, "host"), farm: t.TempDir(), data: t.TempDir()}
	executable := builtExecutable(t)
	for name := range roleTable() {
		symlink(t, executable, filepath.Join(n.farm, name))
	}
	return n
}

// nodeCall is what a runtime calls a plugin with.
type nodeCall struct {
	role  string
	conf  map[string]any
	id    string
	netns string // may be empty for DEL
}

func (c nodeCall) program(n *pluginNode, verb string) faults.Program {
	conf, err := json.Marshal(c.conf)
	if err != nil {
		n.t.Error(err)
	}
	path := filepath.Join(n.farm, c.role)
	return faults.Program{Path: path, Args: []string{path}, Stdin: conf, Env: []string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + c.id, "CNI_IFNAME=" + ifName(c.role), "CNI_NETNS=" + c.netns, "CNI_PATH=" + n.farm,
	}}
}

func ifName(role string) string {
	if role == "loopback" {
		return "lo"
	}
	return "eth0"
}

// with is the call with another key in its configuration.
func (c nodeCall) with(key string, value any) nodeCall {
	conf := map[string]any{key: value}
	for k, v := range c.conf {
		if k != key {
			conf[k] = v
		}
	}
	c.conf = conf
	return c
}

// reply is what a plugin answered. The last JSON value on stdout counts: a result whose writing fails is followed by an error.
type reply struct {
	err    error // nil for success
	result json.RawMessage
	fault  string // the call that went wrong
	errno  unix.Errno
	killed bool
}

var errNotTold = errors.New("it failed without a JSON error with a code")

func readReply(exit int, stdout, stderr []byte) reply {
	var a reply
	for d := json.NewDecoder(bytes.NewReader(stdout)); d.Decode(&a.result) == nil; {
	}
	if exit == 0 {
		return a
	}
	var said struct {
		Code uint
		Msg  string
	}
	if json.Unmarshal(a.result, &said) != nil || said.Code == 0 || said.Msg == "" {
		a.err = fmt.Errorf("%w: exit status %d, stdout %q, stderr %q", errNotTold, exit, stdout, stderr)
		return a
	}
	a.err = fmt.Errorf("code %d: %s", said.Code, bytes.TrimSpace(a.result))
	return a
}

// call calls a plugin on the node. It may be called by several goroutines.
func (n *pluginNode) call(verb string, c nodeCall) reply {
	var stdout, stderr bytes.Buffer
	err := n.start(verb, c, &stdout, &stderr)
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		return reply{err: err}
	}
	exit := 0
	if failed != nil {
		exit = failed.ExitCode()
	}
	return readReply(exit, stdout.Bytes(), stderr.Bytes())
}

// start runs a plugin in the host's namespace.
func (n *pluginNode) start(verb string, c nodeCall, stdout, stderr io.Writer) error {
	return n.host.Do(n.command(verb, c, stdout, stderr).Run)
}

func (n *pluginNode) command(verb string, c nodeCall, stdout, stderr io.Writer) *exec.Cmd {
	p := c.program(n, verb)
	return &exec.Cmd{Path: p.Path, Args: p.Args, Env: p.Env, Stdin: bytes.NewReader(p.Stdin), Stdout: stdout, Stderr: stderr}
}

// kill calls a plugin, and kills it some time later unless it has ended by then. It tells whether it was killed.
func (n *pluginNode) kill(after time.Duration, verb string, c nodeCall) (killed bool, a reply) {
	var stdout, stderr bytes.Buffer
	cmd := n.command(verb, c, &stdout, &stderr)
	err := n.host.Do(func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		defer time.AfterFunc(after, func() { _ = cmd.Process.Kill() }).Stop()
		return cmd.Wait()
	})
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		return false, reply{err: err}
	}
	if failed != nil && failed.ExitCode() < 0 {
		return true, reply{}
	}
	return false, readReply(cmd.ProcessState.ExitCode(), stdout.Bytes(), stderr.Bytes())
}

// must is call for what must succeed. It gives the result.
func (n *pluginNode) must(verb string, c nodeCall, when string) json.RawMessage {
	n.t.Helper()
	a := n.call(verb, c)
	if a.err != nil {
		n.t.Fatalf("%s of %s %s: %v", verb, c.role, when, a.err)
	}
	return a.result
}

// callWith calls a plugin while a fault is injected.
func (n *pluginNode) callWith(f faults.Fault, verb string, c nodeCall) (a reply, out *faults.Outcome) {
	n.t.Helper()
	err := n.host.Do(func() (err error) {
		out, err = faults.Run(c.program(n, verb), f)
		return err
	})
	if errors.Is(err, errors.ErrUnsupported) {
		n.t.Skip("needs amd64")
	}
	if err != nil {
		n.t.Fatalf("%s of %s: %v", verb, c.role, err)
	}
	a = readReply(out.Status.ExitStatus(), out.Stdout, out.Stderr)
	a.fault, a.errno, a.killed = out.Call, out.Errno, out.Status.Signaled()
	return a, out
}

// state is all that attachments leave on the node and in the pods: links, addresses, routes, entries of the packet filter, files. What
// is left out may stay for good: see the functions that it calls.
func (n *pluginNode) state(pods ...*nstest.NS) string {
	n.t.Helper()
	var lines []string
	for _, ns := range append([]*nstest.NS{n.host}, pods...) {
		lines = append(lines, filepath.Base(ns.Path)+":")
		lines = append(lines, kernelState(n.t, ns)...)
	}
	lines = append(lines, n.filterState()...)
	lines = append(lines, fileState(n.t, n.host.RunDir)...)
	return strings.Join(append(lines, fileState(n.t, n.data)...), "\n")
}

// steady is the state once it stays as it is.
func (n *pluginNode) steady(pods ...*nstest.NS) string {
	n.t.Helper()
	const same = 10 // times in a row
	state := n.state(pods...)
	for i := 0; i < same; i++ {
		time.Sleep(10 * time.Millisecond)
		if now := n.state(pods...); now != state {
			state, i = now, 0
		}
	}
	return state
}

// settle waits until the state is as it was: the kernel takes some of it away when it has answered already.
func (n *pluginNode) settle(want string, pods ...*nstest.NS) (diff string) {
	n.t.Helper()
	return n.await(func() string {
		got := n.state(pods...)
		if got == want {
			return ""
		}
		return lineDiff(want, got)
	})
}

// await waits until a difference is none, and gives what is left of it in the end.
func (n *pluginNode) await(differs func() string) string {
	n.t.Helper()
	for end := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		if diff := differs(); diff == "" || time.Now().After(end) {
			return diff
		}
	}
}

// lineDiff is the lines that one text has and the other has not, marked + and -.
func lineDiff(want, got string) string {
	var out strings.Builder
	has, had := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, l := range has {
		if !slices.Contains(had, l) {
			fmt.Fprintf(&out, "\n+ %s", l)
		}
	}
	for _, l := range had {
		if !slices.Contains(has, l) {
			fmt.Fprintf(&out, "\n- %s", l)
		}
	}
	return cmp.Or(out.String(), "\nthe same lines in another order")
}

// kernelState is the links, addresses and routes of a namespace, without link-local ones of IPv6, which come and go on their own.
func kernelState(t *testing.T, ns *nstest.NS) (lines []string) {
	t.Helper()
	err := ns.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		links, err := h.LinkList()
		if err != nil {
			return err
		}
		names := map[int]string{}
		for _, l := range links {
			names[l.Attrs().Index] = l.Attrs().Name
		}
		for _, l := range links {
			a := l.Attrs()
			up := a.Flags&unix.IFF_UP != 0
			lines = append(lines, fmt.Sprintf("link %s %s%q up=%v mtu=%d alias=%q master=%s queue=%d",
				l.Type(), a.Name, a.AltNames, up, a.MTU, a.Alias, names[a.MasterIndex], a.TxQLen))
		}
		addrs, err := h.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if !a.IP.IsLinkLocalUnicast() {
				lines = append(lines, fmt.Sprintf("address %s of %s", a.IPNet, names[a.LinkIndex]))
			}
		}
		routes, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		rules, ruleErr := h.RuleList(netlink.FAMILY_ALL)
		for _, r := range rules {
			if r.Src == nil {
				continue // the kernel's own, of which one comes with the first VRF and stays
			}
			lines = append(lines, fmt.Sprintf("rule from %v table=%d", r.Src, r.Table))
		}
		qdiscs, qdiscErr := h.QdiscList(nil)
		for _, q := range qdiscs {
			if q.Type() != "noqueue" {
				lines = append(lines, fmt.Sprintf("qdisc %s of %s", q.Type(), names[q.Attrs().LinkIndex]))
			}
		}
		err = errors.Join(err, ruleErr, qdiscErr)
		for _, r := range routes {
			if r.Dst == nil || !r.Dst.IP.IsLinkLocalUnicast() && !r.Dst.IP.IsMulticast() {
				lines = append(lines, fmt.Sprintf("route %v gw=%v dev=%s table=%d", r.Dst, r.Gw, names[r.LinkIndex], r.Table))
			}
		}
		return err
	})
	if err != nil {
		t.Fatalf("state of %s: %v", ns.Path, err)
	}
	slices.Sort(lines)
	return lines
}

var (
	counters    = regexp.MustCompile(`packets \d+ bytes \d+`)
	hasElements = regexp.MustCompile(`elements = |/\d+ \{`) // or chains of subnets
	anyTable    = regexp.MustCompile(`(?m)^table (\w+ \w+) \{\n(?:.*\n)*?\}\n`)
)

// tables are the tables of the packet filter by name, without what they have counted.
func (n *pluginNode) tables() map[string]string {
	n.t.Helper()
	tables := map[string]string{}
	for _, m := range anyTable.FindAllStringSubmatch(n.host.Run("nft", "list", "ruleset"), -1) {
		tables[m[1]] = counters.ReplaceAllString(m[0], "counter")
	}
	return tables
}

// filterState is the packet filter. Tables that nobody uses are left out: they stay once they are made.
func (n *pluginNode) filterState() (lines []string) {
	n.t.Helper()
	for name, text := range n.tables() {
		if text == n.idle[name] {
			continue
		}
		for line := range strings.Lines(text) { // elements are listed in any order
			for part := range strings.SplitSeq(strings.TrimPrefix(strings.TrimSpace(line), "elements = "), ",") {
				lines = append(lines, strings.Trim(part, "{} "))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// lasting are files that stay once they are made, other than the network's folder: the lock, the end of the round robin, the index.
var lasting = regexp.MustCompile(`/(lock|last_reserved_ip\.\d+)$|/\.cnibox/[^/]+/index$`)

// fileState is the files below a folder with their contents.
func fileState(t *testing.T, dir string) (lines []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || lasting.MatchString(path) {
			return err
		}
		content, err := os.ReadFile(path)
		lines = append(lines, fmt.Sprintf("file %s: %q", strings.TrimPrefix(path, dir), content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// haveWritten sets the times of all the node's files and folders to some time from now.
func (n *pluginNode) haveWritten(from time.Duration) {
	n.t.Helper()
	at := time.Now().Add(from)
	for _, dir := range []string{n.data, n.host.RunDir} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Type()&fs.ModeSymlink != 0 {
				return err
			}
			return os.Chtimes(path, at, at)
		})
		if err != nil {
			n.t.Fatal(err)
		}
	}
}

// forget makes the node as new: no bridge, no tables, no files.
func (n *pluginNode) forget() {
	n.t.Helper()
	n.removeBridge()
	n.host.Run("nft", "flush", "ruleset")
	entries, err := os.ReadDir(n.data)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(n.data, e.Name())))
	}
	if n.host.VarLib != "" { // which is there
		err = errors.Join(err, os.MkdirAll(n.host.VarLib, 0o700))
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// bridgeName is that of all configurations here.
const bridgeName = "cni0"

// removeBridge removes the bridge unless it has ports.
func (n *pluginNode) removeBridge() {
	n.t.Helper()
	err := n.host.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		at := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == bridgeName })
		if at < 0 || slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Attrs().MasterIndex == links[at].Attrs().Index }) {
			return nil
		}
		return netlink.LinkDel(links[at])
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}
