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
}

// New makes an empty namespace, loopback up. The test is skipped where it may not make one.
func New(t testing.TB, name string) *NS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	n := &NS{t: t, Path: filepath.Join(t.TempDir(), name)}
	if err := os.WriteFile(n.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- unix.Mount("/proc/thread-self/ns/net", n.Path, "", unix.MS_BIND, "")
	}()
	if err := <-done; err != nil {
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

// Do runs fn on a thread inside the namespace; programs that fn starts run there too.
func (n *NS) Do(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		fd, err := unix.Open(n.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- err
			return
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

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
