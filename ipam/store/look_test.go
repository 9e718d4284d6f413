package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Files tells of every file that is named by an address, and leaves the disk as it is.
func TestFiles(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	mustAcquire(t, s, Holder{"c1", "eth0"}, pool("10.0.0.2", "10.0.0.9"), pool("fd00::2", "fd00::9"))
	foreign(t, s, "10.0.0.7", "")
	foreign(t, s, "10.0.0.8", "old")
	foreign(t, s, "not-an-address", "c9")
	if err := os.Symlink("/etc/passwd", filepath.Join(s.dir, "10.0.0.9")); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(s.side, "index")
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	files, err := s.Files()
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, f := range files {
		got += fmt.Sprintf("%s %q %q\n", f.Addr, f.Holder.text(), f.Wrong)
		if time.Since(f.Since) > time.Hour {
			t.Errorf("%s is of %s", f.Addr, f.Since)
		}
	}
	want := `10.0.0.2 "c1\r\neth0" ""
10.0.0.7 "" "it is empty"
10.0.0.8 "old" ""
10.0.0.9 "" "it is a link"
fd00::2 "c1\r\neth0" ""
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if _, err := os.Stat(index); err == nil {
		t.Error("Files has written an index")
	}
	networks, err := Networks(filepath.Dir(s.dir))
	if err != nil || len(networks) != 1 || networks[0] != "net" {
		t.Errorf("networks %v, %v", networks, err)
	}
}

// Drop takes what the named holder has, and what has become another's stays.
func TestDrop(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	mustAcquire(t, s, Holder{"c1", "eth0"}, pool("10.0.0.2", "10.0.0.9"))
	mustAcquire(t, s, Holder{"c2", "eth0"}, pool("10.0.0.2", "10.0.0.9"))
	foreign(t, s, "10.0.0.8", "")
	dropped, err := s.Drop(
		Reservation{addr("10.0.0.2"), Holder{"c1", "eth0"}}, Reservation{addr("10.0.0.3"), Holder{"c1", "eth0"}},
		Reservation{addr("10.0.0.8"), Holder{}}, Reservation{addr("10.0.0.9"), Holder{"c1", "eth0"}},
	)
	if err != nil || len(dropped) != 2 || dropped[0].Addr != addr("10.0.0.2") || dropped[1].Addr != addr("10.0.0.8") {
		t.Errorf("dropped %v, %v", dropped, err)
	}
	if got := mustAcquire(t, s, Holder{"c3", "eth0"}, wants(pool("10.0.0.2", "10.0.0.9"), "10.0.0.2")); got != "10.0.0.2" {
		t.Errorf("got %s", got)
	}
	if held, err := s.Held(Holder{"c2", "eth0"}); err != nil || len(held) != 1 {
		t.Errorf("c2 holds %v, %v", held, err)
	}
}
