package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/ipam/store"
)

// machine looks at what every plugin call rests on.
func machine(f *facts, l *list) {
	rights(l)
	// Leases and the ages of things go by the clock; this code is younger than such a time.
	if now := time.Now(); now.Year() < 2025 {
		l.add(Warning, "the clock says "+now.Format(time.DateTime), "leases and ages go by it", "set it: timedatectl set-ntp true, or date -s")
	}
	var fs unix.Statfs_t
	if err := unix.Statfs("/run", &fs); err != nil {
		l.cannot("/run", err)
	} else if int64(fs.Type) != unix.TMPFS_MAGIC && int64(fs.Type) != unix.RAMFS_MAGIC {
		l.add(Warning, "/run is no tmpfs", "records of what is in the kernel are kept there, and must not outlive the machine's run",
			"mount a tmpfs on /run, as systemd does")
	}
	for _, dir := range unique([]string{"/run/cnibox", cmp.Or(f.gc.DataDir, store.DefaultDir)}) {
		room(dir, l)
	}
}

// Capabilities (linux/capability.h) that plugins need.
const (
	capNetAdmin = 12
	capNetRaw   = 13
	capSysAdmin = 21
)

func rights(l *list) {
	if uid := os.Geteuid(); uid != 0 {
		l.add(Warning, "this runs as the user "+strconv.Itoa(uid), "not all can be seen", "run it as root")
	}
	text, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		l.cannot("the capabilities", err)
		return
	}
	_, after, _ := strings.Cut(string(text), "\nCapEff:")
	line, _, _ := strings.Cut(after, "\n")
	have, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		l.cannot("the capabilities", err)
		return
	}
	var missing []string
	for _, c := range []struct {
		bit  int
		name string
	}{{capNetAdmin, "CAP_NET_ADMIN"}, {capNetRaw, "CAP_NET_RAW"}, {capSysAdmin, "CAP_SYS_ADMIN"}} {
		if have>>c.bit&1 == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		l.add(Problem, "this process lacks "+strings.Join(missing, ", "), "with no more than its rights plugins could not make links or enter sandboxes",
			"if the runtime lacks it too, give it back: in a container, run it privileged")
	}
}

// room looks whether something can be written in a folder, or where it would be made.
func room(dir string, l *list) {
	for {
		_, err := os.Stat(dir)
		if err == nil || dir == filepath.Dir(dir) {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			l.cannot(dir, err)
			return
		}
		dir = filepath.Dir(dir)
	}
	const matters = "addresses and records are kept there, so an ADD fails without room"
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		l.add(Problem, fmt.Sprintf("%s cannot be written to: %v", dir, err), matters, "remount it writable (mount -o remount,rw), or mend its rights (ls -ld "+dir+")")
		return
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		l.cannot(dir, err)
		return
	}
	for _, r := range []struct {
		of        string
		free, all uint64
		tool      string
	}{{"bytes", fs.Bavail, fs.Blocks, "df -h "}, {"inodes", fs.Ffree, fs.Files, "df -i "}} {
		switch percent := percentOf(r.all-r.free, r.all); {
		case r.all == 0:
		case r.free == 0:
			l.add(Problem, fmt.Sprintf("%s has no %s left", dir, r.of), matters, "make room; "+r.tool+dir)
		case percent >= 97:
			l.add(Warning, fmt.Sprintf("%s has %d %% of its %s used", dir, percent, r.of), matters, "make room; "+r.tool+dir)
		}
	}
}

func percentOf(part, all uint64) int {
	if all == 0 {
		return 0
	}
	return int(float64(part) / float64(all) * 100)
}
