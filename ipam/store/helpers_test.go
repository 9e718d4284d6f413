package store

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// pool is a set of one range, and the gateways in it.
func pool(first, last string, skip ...string) Set {
	s := Set{Ranges: []Range{{addr(first), addr(last)}}}
	for _, g := range skip {
		s.Skip = append(s.Skip, addr(g))
	}
	return s
}

func wants(s Set, want string) Set {
	s.Want = addr(want)
	return s
}

func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := New(t.TempDir(), "net")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustAcquire(t testing.TB, s *Store, h Holder, sets ...Set) string {
	t.Helper()
	got, err := s.Acquire(h, sets)
	if err != nil {
		t.Fatalf("Acquire(%v): %v", h, err)
	}
	return joined(got)
}

func mustRelease(t testing.TB, s *Store, h Holder) string {
	t.Helper()
	got, err := s.Release(h)
	if err != nil {
		t.Fatalf("Release(%v): %v", h, err)
	}
	return joined(got)
}

func joined(addrs []netip.Addr) string {
	parts := make([]string, len(addrs))
	for i, a := range addrs {
		parts[i] = a.String()
	}
	return strings.Join(parts, " ")
}

// foreign writes an address file as the reference does: under the lock, in place.
func foreign(t testing.TB, s *Store, name, text string) {
	t.Helper()
	underLock(t, s, func() {
		f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_RDWR|os.O_EXCL|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func underLock(t testing.TB, s *Store, do func()) {
	t.Helper()
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDONLY|os.O_CREATE, 0o750)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	do()
}

// reservations reads the address files as they are, without the store.
func reservations(t testing.TB, s *Store) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(s.dir)
	if os.IsNotExist(err) {
		return files
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "lock" || strings.HasPrefix(e.Name(), "last_reserved_ip.") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
