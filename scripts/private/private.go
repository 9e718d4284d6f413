// Package private gives a program for developers a host of its own: a network, and mounts that hide the machine's state folders. They end
// with the program, so nothing can be left behind.
package private

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside tells the second start of the program that it is in namespaces of its own.
const inside = "CNIBOX_PRIVATE"

// Inside tells whether the program was started by Again.
func Inside() bool { return os.Getenv(inside) != "" }

// Again starts the program a second time, with the same arguments and more environment, as the only process of a host of its own. It
// returns when that has ended: an interrupt is left to it.
func Again(env ...string) error { return again(0, env) }

// AgainAsInit is Again for a program that starts others which outlive their parents: it is the first process of a process namespace, calls
// Init, and all end with it.
func AgainAsInit(env ...string) error { return again(syscall.CLONE_NEWPID, env) }

func again(flags uintptr, env []string) error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root; try: sudo make")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(append(os.Environ(), inside+"=1"), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | flags,
		Setpgid:    true, // a terminal's Ctrl-C comes here alone, and is handed on once
		Pdeathsig:  syscall.SIGKILL,
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(interrupts)
	runtime.LockOSThread() // Pdeathsig is tied to this thread
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			return err
		case sig := <-interrupts:
			_ = cmd.Process.Signal(sig) // it may have ended
		}
	}
}

// Folders hides the folders in which plugins and runtimes keep state behind empty ones. It is called inside.
func Folders() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	for _, dir := range []string{"/var/lib", "/run"} {
		if err := unix.Mount("private", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount on %s: %w", dir, err)
		}
	}
	return os.MkdirAll(netnsDir, 0o755)
}

// netnsDir is where ip(8) looks for namespaces too.
const netnsDir = "/run/netns"

// NetNS is the path of the network namespace of a name.
func NetNS(name string) string { return filepath.Join(netnsDir, name) }
