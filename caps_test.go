package main

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// capabilities are what a scene needs of root's privileges; SECURITY.md tells of them.
func (s scene) capabilities() []string {
	switch s.role {
	case "host-local", "static": // files of root's own, or none
		return nil
	case "portmap", "firewall": // nothing in the container
		return []string{"+net_admin"}
	}
	return []string{"+net_admin", "+sys_admin"}
}

// callBy calls a plugin by way of another program, which is given the plugin's path.
func (n *pluginNode) callBy(by, env []string, verb string, c nodeCall) reply {
	var stdout, stderr bytes.Buffer
	p := c.program(n, verb)
	cmd := exec.Command(by[0], append(by[1:], p.Path)...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = append(p.Env, env...), bytes.NewReader(p.Stdin), &stdout, &stderr
	err := n.host.Do(cmd.Run)
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		return reply{err: err}
	}
	return readReply(cmd.ProcessState.ExitCode(), stdout.Bytes(), stderr.Bytes())
}

// wantWhole attaches, checks, collects and detaches by a kind of call, all of which must succeed and leave nothing.
func (st *stage) wantWhole(call func(verb string, c nodeCall) reply) {
	st.t.Helper()
	must := func(verb string, c nodeCall) reply {
		st.t.Helper()
		a := call(verb, c)
		if a.err != nil {
			st.t.Errorf("%s: %v", verb, a.err)
		}
		return a
	}
	st.reset()
	result := must("ADD", st.call).result
	must("CHECK", st.call.with("prevResult", result))
	if st.call.role != "host-device" { // of which the device is not there
		must("STATUS", st.call)
	}
	valid := []any{map[string]any{"containerID": st.call.id, "ifname": ifName(st.call.role)}, map[string]any{"containerID": "neighbour", "ifname": "eth0"}}
	must("GC", st.call.with("cni.dev/valid-attachments", valid))
	must("CHECK", st.call.with("prevResult", result))
	must("DEL", st.call)
	must("DEL", st.call)
	st.removeOwnBridge()
	st.wantClean("after DEL")
}

// bounded is the beginning of a command line by which a program has these capabilities and no others.
func bounded(t *testing.T, caps ...string) []string {
	t.Helper()
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip(err)
	}
	return []string{setpriv, "--bounding-set", strings.Join(append([]string{"-all"}, caps...), ","), "--inh-caps=-all", "--"}
}

// Plugins work with the capabilities that they are documented to need, and none of these can be done without: then the error says why.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	onStages(t, append(scenes(t), fusedScene()), func(t *testing.T, st *stage) {
		with := func(caps ...string) func(string, nodeCall) reply {
			by := bounded(t, caps...)
			return func(verb string, c nodeCall) reply { return st.callBy(by, nil, verb, c) }
		}
		needed := st.scene.capabilities()
		st.wantWhole(with(needed...))
		for i, missing := range needed {
			st.reset()
			a := with(slices.Delete(slices.Clone(needed), i, i+1)...)("ADD", st.call)
			if a.err == nil || !strings.Contains(a.err.Error(), "operation not permitted") || !strings.HasPrefix(a.err.Error(), "code 100: ") {
				t.Errorf("without %s: %v", missing, a.err)
			}
			st.must("DEL", st.call, "after an ADD without "+missing)
			st.removeOwnBridge()
			st.wantClean("after an ADD without " + missing)
		}
	})
}

// What looks at a node needs no more than SECURITY.md says.
func TestCapabilitiesToLook(t *testing.T) {
	t.Parallel()
	n := newShownNode(t)
	n.attach(lanList, 2)
	n.attach(podsList, 1)
	n.grow()
	for _, args := range []string{"inspect", "topology", "explain 0001 0003", "ipam list"} {
		whole, exit := n.status("", strings.Fields(args)...)
		if exit != 0 {
			t.Fatalf("%s: exit %d\n%s", args, exit, whole)
		}
		by := append(bounded(t, "+net_admin", "+sys_admin", "+sys_ptrace"), filepath.Join(n.farm, "cnibox"))
		out, err := n.Host.Try(by[0], append(by[1:], strings.Fields(args)...)...)
		if err != nil || out != whole {
			t.Errorf("%s: %v\n%s\nwith all capabilities:\n%s", args, err, out, whole)
		}
	}
}
