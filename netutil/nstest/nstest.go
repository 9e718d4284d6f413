// Package nstest makes hosts and pods in network namespaces for tests, and takes them away again.
package nstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// NS is a network namespace that lives as long as the test. Its path serves as CNI_NETNS.
type NS struct {
	t    testing.TB
	Path string

	// VarLib is a folder that stands at /var/lib for what Do runs, so that plugins which keep their state there leave the machine's alone.
	// Empty: the machine's.
	VarLib string
	// RunDir stands at /run in the same way. It is always a folder of the namespace's own.
	RunDir string
}

// New makes an empty namespace, loopback up. The test is skipped where it may not make one.
func New(t testing.TB, name string) *NS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	n := &NS{t: t, Path: filepath.Join(t.TempDir(), name), RunDir: t.TempDir()}
	if err := Create(n.Path); err != nil {
		t.Fatalf("make namespace %s: %v", name, err)
	}
	t.Cleanup(n.Remove)
	n.Run("ip", "link", "set", "lo", "up")
	return n
}

// Remove takes the namespace away before the test ends; its path stays as an empty file, as after a reboot. It may be called twice.
func (n *NS) Remove() {
	if err := unix.Unmount(n.Path, unix.MNT_DETACH); err != nil && err != unix.EINVAL {
		n.t.Errorf("unmount %s: %v", n.Path, err)
	}
}

// Kill is Remove for tests of what is then left: the links inside go at once, whoever holds the namespace for a while longer, such as the mounts of
// a program that another test has started.
func (n *NS) Kill() {
	n.t.Helper()
	n.Run("sh", "-c", `ip -o link show | sed -n 's/^[0-9]*: \([^:@]*\).*/\1/p' | grep -vx lo | while read -r l; do ip link del "$l" 2>/dev/null; done; true`)
	n.Remove()
}

// Do runs fn on a thread inside the namespace, with mounts of its own; programs that fn starts run there too.
func (n *NS) Do(fn func() error) error { return EnterHost(n.Path, n.RunDir, n.VarLib, fn) }

// Try runs a program inside the namespace and returns what it printed.
func (n *NS) Try(name string, args ...string) (out string, err error) {
	err = n.Do(func() error {
		raw, err := exec.Command(name, args...).CombinedOutput()
		out = string(raw)
		return err
	})
	return out, err
}

// Run is Try for programs that must succeed.
func (n *NS) Run(name string, args ...string) string {
	n.t.Helper()
	out, err := n.Try(name, args...)
	if err != nil {
		n.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Create makes a namespace and mounts it at path, outside of tests too. Unmounting the path takes it away.
func Create(path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
}

// Enter runs fn on a thread inside the namespace at path. Sockets that fn opens stay in that namespace, whoever uses them later.
func Enter(path string, fn func() error) error {
	return onThread(func() error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return fn()
	})
}

// EnterHost is Enter with mounts of its own: the folder run stands at /run, with what is mounted below it, and varLib at /var/lib, unless it is
// empty. Programs that fn starts see them too.
func EnterHost(path, run, varLib string, fn func() error) error {
	return Enter(path, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount(run, "/run", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
		if varLib != "" {
			if err := unix.Mount(varLib, "/var/lib", "", unix.MS_BIND, ""); err != nil {
				return err
			}
		}
		return fn()
	})
}

// onThread runs fn on a thread of its own, which ends with it: no other work can land on a thread in the wrong namespace.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and /proc/self would show its namespaces for good. While it is held here, fn runs on another.
			defer runtime.UnlockOSThread()
			done <- onThread(fn)
			return
		}
		done <- fn()
	}()
	return <-done
}
