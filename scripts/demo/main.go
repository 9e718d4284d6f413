// Command demo shows a pod network at work, from the installed executable to proof that nothing is left: a host, three pods and an
// "outside" as network namespaces, driven through libcni as a container runtime would. It runs in namespaces of its own, which end with it.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside tells the second start of the program that it is in its own namespaces.
const inside = "CNIBOX_DEMO_INSIDE"

func main() {
	executable := flag.String("cnibox", "bin/cnibox", "the executable to show")
	conf := flag.String("conf", "testdata/demo/mynet.conf", "the network configuration to run")
	flag.Parse()
	run := isolate
	if os.Getenv(inside) != "" {
		run = func() error { return show(*executable, *conf) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// isolate starts the program again as the only process of a host of its own: with a private network, and private mounts that hide the
// machine's own state folders.
func isolate() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("network namespaces need root; try: sudo make demo")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the demo failed: %w", err)
	}
	return nil
}

// privateFolders hides the folders in which plugins and runtimes keep state behind empty ones.
func privateFolders() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	for _, dir := range []string{"/var/lib", "/run"} {
		if err := unix.Mount("demo", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount on %s: %w", dir, err)
		}
	}
	return os.MkdirAll(netnsDir, 0o755)
}

// netnsDir is where the pods' namespaces are mounted.
const netnsDir = "/run/netns"

func netnsPath(name string) string { return filepath.Join(netnsDir, name) }
