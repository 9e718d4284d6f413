package doctor

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nstest"
)

// A disk that is full, one without inodes, and one that cannot be written to are told apart.
func TestRoom(t *testing.T) {
	t.Parallel()
	host := nstest.New(t, "host")
	host.VarLib = t.TempDir()
	for name, tt := range map[string]struct {
		options string
		flags   uintptr
		fill    func(dir string) error
		want    string
	}{
		"room": {"size=1m", 0, func(string) error { return nil }, ""},
		"full": {"size=64k", 0, func(dir string) error {
			_ = os.WriteFile(filepath.Join(dir, "x"), make([]byte, 1<<20), 0o600)
			return nil
		}, "problem /var/lib has no bytes left"},
		"inodes": {"size=1m,nr_inodes=3", 0, func(dir string) error {
			_ = os.WriteFile(filepath.Join(dir, "x"), nil, 0o600)
			return os.WriteFile(filepath.Join(dir, "y"), nil, 0o600)
		}, "problem /var/lib has no inodes left"},
		"nearly":    {"size=1m", 0, func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), make([]byte, 1<<20-1<<14), 0o600) }, "warning /var/lib has 98 % of its bytes used"},
		"read-only": {"size=1m", unix.MS_RDONLY, func(string) error { return nil }, "problem /var/lib cannot be written to: read-only file system"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l list
			err := host.Do(func() error {
				if err := unix.Mount("tmpfs", "/var/lib", "tmpfs", tt.flags, tt.options); err != nil {
					return err
				}
				defer func() { _ = unix.Unmount("/var/lib", unix.MNT_DETACH) }()
				if err := tt.fill("/var/lib"); err != nil {
					return err
				}
				room("/var/lib/cni/networks", &l)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, f := range l {
				got += string(f.Severity) + " " + f.What
			}
			if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestStatEntries(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"entries allocs destroys\n0000001f 0002 0003\n00000020 1 2\n": 31, "": -1, "entries\n": -1, "entries\nxyz\n": -1,
	} {
		n, ok := statEntries(text)
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("%q: %d, %v", text, n, ok)
		}
	}
}

// What others have written is told on one line and does nothing to a terminal.
func TestOneLine(t *testing.T) {
	t.Parallel()
	var l list
	l.add(Problem, "a\nb\x1b[31mc", "d", "e")
	if l[0].What != "a; b?[31mc" {
		t.Errorf("got %q", l[0].What)
	}
}

// No module is loaded that leaves devices on the host, unless a plugin needs it.
func TestModulesThatLeaveDevices(t *testing.T) {
	t.Parallel()
	for _, x := range features() {
		leaves := x.module == "dummy" || x.module == "ifb"
		if _, err := os.Stat("/sys/module/" + x.module); err == nil {
			leaves = false
		}
		if (&facts{}).tries(&x) == leaves {
			t.Errorf("%s is tried where nobody needs it: %v", x.name, !leaves)
		}
		if !(&facts{roles: strings.Fields(x.plugins)}).tries(&x) {
			t.Errorf("%s is not tried where it is needed", x.name)
		}
	}
}

// Entries that somebody has made for good do not fill the neighbour table.
func TestPermanentNeighbours(t *testing.T) {
	t.Parallel()
	host := nstest.New(t, "host")
	host.Run("ip", "link", "add", "x", "type", "veth", "peer", "name", "y")
	host.Run("ip", "link", "set", "x", "up")
	for _, addr := range []string{"192.0.2.7", "192.0.2.8", "2001:db8::7"} {
		host.Run("ip", "neigh", "add", addr, "lladdr", "02:00:00:00:00:07", "dev", "x", "nud", "permanent")
	}
	host.Run("ip", "neigh", "add", "192.0.2.9", "lladdr", "02:00:00:00:00:07", "dev", "x", "nud", "reachable")
	if err := host.Do(func() error {
		ns, err := netutil.Current()
		if err != nil {
			return err
		}
		defer ns.Close()
		f := &facts{host: ns}
		if v4, v6 := f.permanent(netip.IPv4Unspecified()), f.permanent(netip.IPv6Unspecified()); v4 != 2 || v6 < 1 {
			t.Errorf("%d of IPv4, %d of IPv6", v4, v6)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
