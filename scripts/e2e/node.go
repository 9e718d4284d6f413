package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// node is one machine of a cluster: namespaces of network, mounts and processes, and folders for its /run and /var/lib. The latter outlives a reboot.
type node struct {
	*host
	name, addr string
	number     int
	place
	first   *daemon // process, with which all others end
	daemons map[string]*daemon
}

// nodeEnv names the folders of the node that the program is the first process of.
const nodeEnv = "CNIBOX_E2E_NODE"

// boot starts a node's first process and waits until its folders are in place.
func (n *node) boot() error {
	dir := filepath.Join(home, n.name)
	n.runDir, n.varLib, n.daemons = dir+"/run", dir+"/lib", map[string]*daemon{}
	if err := n.makeGroup(); err != nil {
		return err
	}
	// TMPDIR is the same on the node.
	for _, dir := range []string{n.runDir + "/netns", n.varLib + "/e2e/tmp"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	ready, told, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = ready.Close() }()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), nodeEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	cmd.Stdin = told
	direct := func(fn func() error) error { return fn() }
	if n.first, err = n.launch(n.name, direct, cmd); err != nil {
		return errors.Join(err, told.Close())
	}
	n.netns = fmt.Sprintf("/proc/%d/ns/net", n.first.cmd.Process.Pid)
	if err := told.Close(); err != nil {
		return err
	}
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		return fmt.Errorf("node %s has not come up: %w", n.name, err)
	}
	return nil
}

// beNode is what the second process of a node does: it mounts what the node has of its own, says so, and waits.
func beNode(dir string) error {
	mount := func(source, target string) error {
		if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount on %s: %w", target, err)
		}
		return nil
	}
	if err := unix.Mount("private", "/var/log", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	// A kubelet writes to these, which are the machine's.
	for _, sysctl := range []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	} {
		path, instead := "/proc/sys/"+sysctl, filepath.Join(dir, "run", strings.ReplaceAll(sysctl, "/", "."))
		value, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := errors.Join(os.WriteFile(instead, value, 0o600), mount(instead, path)); err != nil {
			return err
		}
	}
	if err := errors.Join(mount(dir+"/run", "/run"), mount(dir+"/lib", "/var/lib")); err != nil {
		return err
	}
	if _, err := os.Stdin.WriteString("up\n"); err != nil {
		return err
	}
	return unix.Pause()
}

// group is the control group below which a kubelet has those of pods.
func (n *node) group() string { return filepath.Join(n.cgroup, n.name) }

// makeGroup makes the control group in each hierarchy of version 1.
func (n *node) makeGroup() error {
	files, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	for _, file := range files {
		err = errors.Join(err, os.MkdirAll(filepath.Join(filepath.Dir(file), n.group()), 0o755))
	}
	return err
}

// on runs fn on a thread that is on the node, and so all programs that it starts.
func (n *node) on(fn func() error) error {
	pid, err := unix.PidfdOpen(n.first.cmd.Process.Pid, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(pid) }()
	return nstest.Enter(n.netns, func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil { // or it would be the whole program that changes its root
			return err
		}
		if err := unix.Setns(pid, unix.CLONE_NEWNS|unix.CLONE_NEWPID); err != nil {
			return fmt.Errorf("enter node %s: %w", n.name, err)
		}
		return fn()
	})
}

// call runs a program on the node and returns what it printed.
func (n *node) call(name string, args ...string) (out string, err error) {
	err = n.on(func() (err error) {
		out, err = run(name, args...)
		return err
	})
	return out, err
}

// serve starts a daemon on the node.
func (n *node) serve(cmd *exec.Cmd) (err error) {
	name := filepath.Base(cmd.Args[0])
	n.daemons[name], err = n.launch(n.name+"-"+name, n.on, cmd)
	return err
}

// port is the outside's link to the node.
func (n *node) port() string { return "node-" + n.name }

// crash ends all of the node but what is in /var/lib. The network namespace would be gone only some time after its last process.
func (n *node) crash() error {
	if err := errors.Join(ipOutside("link del "+n.port()), n.first.kill()); err != nil {
		return err
	}
	for _, d := range n.daemons {
		<-d.ended
	}
	if err := removeCgroups(n.group()); err != nil {
		return err
	}
	// What is mounted below goes with the last process.
	return waitUntil("/run is empty", func() (bool, error) {
		err := empty(n.runDir)
		return err == nil, err
	})
}

// attached is where a pod is, by one of its addresses: the path of its network namespace.
func (n *node) attached(addr string) (string, error) {
	files, err := filepath.Glob(n.varLib + "/cni/results/podnet-*")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		var cached struct {
			NetNS  string
			Result struct{ IPs []struct{ Address string } }
		}
		if err := json.Unmarshal(raw, &cached); err != nil {
			return "", err
		}
		for _, ip := range cached.Result.IPs {
			if strings.HasPrefix(ip.Address, addr+"/") {
				// By /var/run, which is a link, it would be that of here.
				return fmt.Sprintf("/proc/%d/root/run/netns/%s", n.first.cmd.Process.Pid, filepath.Base(cached.NetNS)), nil
			}
		}
	}
	return "", fmt.Errorf("nothing on node %s has the address %s", n.name, addr)
}

// traces are what pods have on a node, without what kube-proxy has in the packet filter for services.
func (n *node) traces() ([]string, error) {
	leaks, err := n.leaks()
	slices.Sort(leaks)
	return slices.DeleteFunc(leaks, func(leak string) bool { return strings.HasPrefix(leak, "element of kube-proxy ") }), err
}

// waitTraces waits until the node's pods have what is given there, and nothing else.
func (n *node) waitTraces(want []string) error {
	return waitFor(patience, "node "+n.name+" has what its pods need", func() (bool, error) {
		got, err := n.traces()
		if err != nil {
			return false, err
		}
		more := slices.DeleteFunc(slices.Clone(got), func(trace string) bool { return slices.Contains(want, trace) })
		if len(more) > 0 || len(got) != len(want) {
			return false, fmt.Errorf("%d things are there, and not %d; more than should be: %s", len(got), len(want), strings.Join(more, ", "))
		}
		return true, nil
	})
}
