package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// reboot does to the host what a reset does: processes, mounts, namespaces and what is in /run and /dev/shm are gone, what is in /var stays.
func (h *host) reboot() error {
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill all: %w", err)
	}
	if err := waitUntil("all processes have ended", alone); err != nil {
		return err
	}
	if err := unmountAll("/run/", "/var/lib/"); err != nil {
		return err
	}
	if err := errors.Join(empty("/run"), empty("/dev/shm")); err != nil {
		return err
	}
	err := nstest.Enter(outside, func() error {
		_, err := run("ip", "link", "del", "eth0")
		return err
	})
	return errors.Join(err, unix.Unmount(hostNS, unix.MNT_DETACH), os.Remove(hostNS))
}

// empty removes all that is in a folder.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// alone tells whether there are no processes but this one and init.
func alone() (bool, error) {
	entries, err := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != 1 && pid != os.Getpid() {
			return false, nil
		}
	}
	return true, err
}

// unmountAll unmounts what is mounted below the folders, the program's own apart.
func unmountAll(folders ...string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, line := range slices.Backward(slices.Collect(strings.Lines(string(mounts)))) {
		at := strings.Fields(line)[4]
		below := slices.ContainsFunc(folders, func(dir string) bool { return strings.HasPrefix(at, dir) })
		if !below || strings.HasPrefix(at, home+"/") {
			continue
		}
		err := unix.Unmount(at, unix.MNT_DETACH)
		hidden := errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) // one of the machine's, below ours
		if err != nil && !hidden {
			return fmt.Errorf("unmount %s: %w", at, err)
		}
	}
	return nil
}

// waitUntil asks again and again, for half a minute.
func waitUntil(what string, fn func() (bool, error)) error { return waitFor(30*time.Second, what, fn) }

// waitFor asks again and again, for so long.
func waitFor(patience time.Duration, what string, fn func() (bool, error)) error {
	again, late := time.NewTicker(patience/1500), time.After(patience)
	defer again.Stop()
	for {
		ok, err := fn()
		if ok {
			return nil
		}
		select {
		case <-again.C:
		case <-late:
			return errors.Join(errors.New("waited in vain until "+what), err)
		}
	}
}
