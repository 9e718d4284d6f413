package faults_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest/faults"
)

// TestMain is also the program that the tests run.
func TestMain(m *testing.M) {
	if dir := os.Getenv("FAULTS_TEST_DIR"); dir != "" {
		program(dir)
	}
	os.Exit(m.Run())
}

// program makes a folder, or another where that fails: on a thread of its own, or by a child if it is told so.
func program(dir string) {
	if os.Getenv("FAULTS_TEST_CHILD") != "" {
		self := exec.Command("/proc/self/exe")
		self.Env = []string{"FAULTS_TEST_DIR=" + dir}
		if out, err := self.CombinedOutput(); err != nil {
			fmt.Printf("%s", out)
			os.Exit(1)
		}
		os.Exit(0)
	}
	failed := make(chan error)
	go func() { failed <- os.Mkdir(dir, 0o700) }()
	if err := <-failed; err != nil {
		fmt.Print(err)
		_ = os.Mkdir(dir+"-instead", 0o700)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(t *testing.T, f faults.Fault, env ...string) (*faults.Outcome, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "made")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := faults.Run(faults.Program{Path: self, Args: []string{self}, Env: append(env, "FAULTS_TEST_DIR="+dir)}, f)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("needs amd64")
	}
	if err != nil {
		t.Fatal(err)
	}
	return out, dir
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// find runs the program with the fault at one call after the other until it hits the making of the folder. The Go runtime's own calls come
// now sooner, now later, so it may be missed once.
func find(t *testing.T, f faults.Fault, env ...string) (*faults.Outcome, string) {
	t.Helper()
	for range 5 {
		for f.At = 1; ; f.At++ {
			out, dir := run(t, f, env...)
			if out.Call == "" {
				break
			}
			if strings.HasPrefix(out.Call, "mkdirat(") && strings.Contains(out.Call, dir) {
				return out, dir
			}
		}
	}
	t.Fatal("no call makes the folder")
	return nil, ""
}

func TestNoFault(t *testing.T) {
	out, dir := run(t, faults.Fault{})
	if !out.Status.Exited() || out.Status.ExitStatus() != 0 || !exists(dir) {
		t.Errorf("status %#x, output %q", out.Status, out.Stdout)
	}
	if len(out.Calls) == 0 || out.Call != "" {
		t.Errorf("%d calls, %q went wrong", len(out.Calls), out.Call)
	}
}

func TestFaults(t *testing.T) {
	for _, env := range [][]string{nil, {"FAULTS_TEST_CHILD=1"}} {
		for _, c := range []struct {
			kind       faults.Kind
			made, says bool
		}{{faults.Refuse, false, true}, {faults.Lose, true, true}, {faults.Kill, true, false}} {
			t.Run(fmt.Sprint(c.kind, env), func(t *testing.T) {
				out, dir := find(t, faults.Fault{Kind: c.kind, Errno: unix.ENOSPC}, env...)
				if exists(dir) != c.made {
					t.Errorf("the folder is there: %v", !c.made)
				}
				if says := strings.Contains(string(out.Stdout), "no space left"); says != c.says {
					t.Errorf("the program says %q", out.Stdout)
				}
				if killed := out.Status.Signaled() && out.Status.Signal() == unix.SIGKILL; killed == c.says {
					t.Errorf("status %#x", out.Status)
				}
			})
		}
	}
}

// A disk that is full for a moment has room for the other folder, one that stays full has not.
func TestOnwards(t *testing.T) {
	for _, onwards := range []bool{false, true} {
		out, dir := find(t, faults.Fault{Errno: unix.ENOSPC, Onwards: onwards})
		if exists(dir) || exists(dir+"-instead") == onwards || out.Errno != unix.ENOSPC {
			t.Errorf("onwards %v: the folders are there: %v, %v; %v", onwards, exists(dir), exists(dir+"-instead"), out.Errno)
		}
	}
}

// A call can be told by its name.
func TestOn(t *testing.T) {
	out, dir := run(t, faults.Fault{On: "mkdirat(", Errno: unix.EROFS})
	if !strings.HasPrefix(out.Call, "mkdirat("+dir) || out.Errno != unix.EROFS || exists(dir) || !exists(dir+"-instead") {
		t.Errorf("%q failed with %v; the folders are there: %v, %v", out.Call, out.Errno, exists(dir), exists(dir+"-instead"))
	}
}

// A number that the call cannot fail with is replaced by one that it can.
func TestNumberThatCannotBe(t *testing.T) {
	if out, _ := find(t, faults.Fault{Errno: unix.EINTR}); out.Errno != unix.ENOSPC {
		t.Errorf("mkdirat fails with %v", out.Errno)
	}
}

// Somebody else makes the folder first.
func TestMeddle(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for at := 1; ; at++ {
		dir := filepath.Join(t.TempDir(), "made")
		p := faults.Program{Path: self, Args: []string{self}, Env: []string{"FAULTS_TEST_DIR=" + dir}}
		out, err := faults.Run(p, faults.Fault{Kind: faults.Meddle, At: at, Do: func() { _ = os.Mkdir(dir, 0o700) }})
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip("needs amd64")
		}
		if err != nil || out.Call == "" {
			t.Fatalf("call %d: the program has not met the folder (%v)", at, err)
		}
		if strings.Contains(string(out.Stdout), "file exists") {
			return
		}
	}
}

// Other children of the test must be left to those who wait for them.
func TestLeavesOtherChildrenAlone(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	done := make(chan error, 1)
	other := exec.Command("cat")
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { done <- other.Wait() }()
	run(t, faults.Fault{})
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the other child: %v", err)
	}
}
