package daemon

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Only root can call the daemon, whatever the umask that it was started with. The umask is the whole process's, so this test is alone.
func TestSocketIsRoots(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	path := filepath.Join(t.TempDir(), "cni", "dhcp.sock")
	l, err := Listen(os.Getenv, path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for name, want := range map[string]fs.FileMode{path: fs.ModeSocket | 0o600, filepath.Dir(path): fs.ModeDir | 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v (%v), want %s", name, info.Mode(), err, want)
		}
	}
	if mask := unix.Umask(0); mask != 0 {
		t.Errorf("the umask is now %03o", mask)
	}
}
