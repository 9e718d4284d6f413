package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// List reads what plugins wrote, and passes over what they did not.
func TestList(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("b/10.1.0.3", "second\r\neth0")
	write("b/10.1.0.20", "old")
	write("b/10.1.0.2", "")
	write("a/fd00::2", "first\r\neth1\n")
	write("a/lock", "")
	write("a/last_reserved_ip.0", "10.1.0.3")
	write("a/fd00:0::3", "not as Go writes it")
	write(".cnibox/a/new", "x")
	write("file", "x")
	all, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got string
	for _, l := range all {
		got += fmt.Sprintf("%s %s %s %s\n", l.Network, l.Addr, l.Holder.ContainerID, l.Holder.IfName)
		if time.Since(l.Since) > time.Hour {
			t.Errorf("%s since %s", l.Addr, l.Since)
		}
	}
	if want := "a fd00::2 first eth1\nb 10.1.0.2  \nb 10.1.0.3 second eth0\nb 10.1.0.20 old \n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if all, err := List(filepath.Join(dir, "none")); err != nil || len(all) > 0 {
		t.Errorf("of no folder: %d, %v", len(all), err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "a/fd00::9")); err != nil {
		t.Fatal(err)
	}
	if all, err := List(dir); err == nil || len(all) != 4 {
		t.Errorf("a link was followed, or kept others from being listed: %d, %v", len(all), err)
	}
}
