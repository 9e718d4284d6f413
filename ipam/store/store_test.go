package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
)

var podA, podB = Holder{"a", "eth0"}, Holder{"b", "eth0"}

func TestFilesAreTheReferences(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	v4, v6 := pool("10.0.0.1", "10.0.0.9", "10.0.0.1"), pool("fd00::1", "fd00::9", "fd00::1")
	if got := mustAcquire(t, s, Holder{"0123abc", "eth0"}, v4, v6); got != "10.0.0.2 fd00::2" {
		t.Errorf("got %s", got)
	}
	want := map[string]string{
		"10.0.0.2": "0123abc\r\neth0", "fd00::2": "0123abc\r\neth0",
		"last_reserved_ip.0": "10.0.0.2", "last_reserved_ip.1": "fd00::2", "lock": "",
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(text)
		if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", e.Name(), st.Mode(), err)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("folder holds %q, want %q", got, want)
	}
	for path, mode := range map[string]fs.FileMode{
		s.dir: 0o700, s.side: 0o700, filepath.Dir(s.side): 0o700, filepath.Join(s.side, "index"): 0o600,
	} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, want %v (%v)", path, st.Mode().Perm(), mode, err)
		}
	}
}

func TestRoundRobin(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	set := pool("10.0.0.1", "10.0.0.3", "10.0.0.1", "10.0.9.7")
	set.Ranges = append(set.Ranges, Range{addr("10.0.9.7"), addr("10.0.9.8")})
	for i, want := range []string{"10.0.0.2", "10.0.0.3", "10.0.9.8", "10.0.0.2", "10.0.0.3", "10.0.9.8"} {
		h := Holder{fmt.Sprint("pod", i), "eth0"}
		if got := mustAcquire(t, s, h, set); got != want {
			t.Errorf("pod %d got %s, want %s", i, got, want)
		}
		if got := mustRelease(t, s, h); got != want {
			t.Errorf("pod %d gave back %s, want %s", i, got, want)
		}
	}
}

func TestLastReservedIsOnlyAHint(t *testing.T) {
	t.Parallel()
	for _, last := range []string{"", "junk", "10.9.9.9", "fd00::1", "10.0.0.255\r\n", "10.0.0.9"} {
		s := newStore(t)
		foreign(t, s, "last_reserved_ip.0", last)
		if got := mustAcquire(t, s, podA, pool("10.0.0.1", "10.0.0.9")); got != "10.0.0.1" {
			t.Errorf("last %q: got %s", last, got)
		}
		if text, err := os.ReadFile(filepath.Join(s.dir, "last_reserved_ip.0")); err != nil || string(text) != "10.0.0.1" {
			t.Errorf("last %q became %q, %v", last, text, err)
		}
	}
}

func TestAcquireErrorsChangeNothing(t *testing.T) {
	t.Parallel()
	v4, v6 := pool("10.0.0.1", "10.0.0.3", "10.0.0.1"), pool("fd00::2", "fd00::2")
	for name, c := range map[string]struct {
		sets  []Set
		h     Holder
		code  uint
		words []string
	}{
		"exhausted":       {[]Set{v4, v6}, podB, errcode.PoolExhausted, []string{"range set 1", "fd00::2-fd00::2", "1 of its 1"}},
		"taken":           {[]Set{v4, wants(v6, "fd00::2")}, podB, errcode.AddressTaken, []string{"fd00::2", "container a", "eth0"}},
		"gateway":         {[]Set{wants(v4, "10.0.0.1")}, podB, errcode.InvalidConfig, []string{"10.0.0.1"}},
		"outside":         {[]Set{wants(v4, "10.0.0.9")}, podB, errcode.InvalidConfig, []string{"10.0.0.9"}},
		"again":           {[]Set{v4, v6}, podA, errcode.AlreadyExists, []string{"10.0.0.2", "container a"}},
		"again, another":  {[]Set{wants(v4, "10.0.0.3")}, podA, errcode.AlreadyExists, []string{"10.0.0.2"}},
		"sets that share": {[]Set{v4, v4}, podB, errcode.InvalidConfig, []string{"10.0.0.3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			mustAcquire(t, s, podA, v4, v6)
			before := reservations(t, s)
			_, err := s.Acquire(c.h, c.sets)
			errtest.Want(t, err, c.code, c.words...)
			if after := reservations(t, s); !reflect.DeepEqual(before, after) {
				t.Errorf("folder was %q, is %q", before, after)
			}
			if got := mustRelease(t, s, podA); got != "10.0.0.2 fd00::2" {
				t.Errorf("a held %s", got)
			}
		})
	}
}

func TestOldFiles(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	set := pool("10.0.0.1", "10.0.0.9")
	foreign(t, s, "10.0.0.1", "a")
	foreign(t, s, "10.0.0.2", "a\n")
	foreign(t, s, "10.0.0.3", "ab\r\neth0")
	_, err := s.Acquire(podA, []Set{set})
	errtest.Want(t, err, errcode.AlreadyExists, "10.0.0.1", "container a")
	if held, err := s.Held(podA); err != nil || joined(held) != "10.0.0.1 10.0.0.2" {
		t.Errorf("held %v, %v", held, err)
	}
	foreign(t, s, "10.0.0.4", "a\r\neth0")
	if got := mustRelease(t, s, podA); got != "10.0.0.4" {
		t.Errorf("the file with the interface was to go first, not %s", got)
	}
	if got := mustRelease(t, s, podA); got != "10.0.0.1 10.0.0.2" {
		t.Errorf("got %s", got)
	}
	if got := mustRelease(t, s, podA); got != "" {
		t.Errorf("got %s", got)
	}
}

func TestForeignThings(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	set := pool("10.0.0.1", "10.0.0.9")
	foreign(t, s, "10.0.0.1", "")      // a crash of the reference: free
	foreign(t, s, "10.0.0.2", " \r\n") // the same
	foreign(t, s, "notes.txt", "a")    // no address
	foreign(t, s, "010.0.0.3", "a")    // no address as Go writes it
	foreign(t, s, "FD00::1", "a\r\nx") // neither
	foreign(t, s, "10.0.0.5", "c\r\neth0")
	if err := os.Mkdir(filepath.Join(s.dir, "10.0.0.3"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", filepath.Join(s.dir, "10.0.0.4")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.6"} {
		if got := mustAcquire(t, s, Holder{"p" + want, "eth0"}, set); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	_, err := s.Acquire(podB, []Set{wants(set, "10.0.0.3")})
	errtest.Want(t, err, errcode.AddressTaken, "10.0.0.3")
	if got := mustRelease(t, s, podA); got != "" {
		t.Errorf("files that are no reservations were released: %s", got)
	}
	usage, err := s.Usage([]Set{set})
	if err != nil || usage[0] != (Usage{Reserved: 6, Size: 9}) {
		t.Errorf("usage %+v, %v", usage, err)
	}
	released, err := s.Retain(nil)
	if err != nil || len(released) != 4 {
		t.Errorf("retain released %v, %v", released, err)
	}
	for _, name := range []string{"notes.txt", "010.0.0.3", "FD00::1", "10.0.0.3", "10.0.0.4"} {
		if _, err := os.Lstat(filepath.Join(s.dir, name)); err != nil {
			t.Errorf("foreign thing removed: %v", err)
		}
	}
}

func TestRetain(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	set := pool("10.0.0.1", "10.0.0.9")
	for _, h := range []Holder{{"a", "eth0"}, {"a", "net1"}, {"b", "eth0"}} {
		mustAcquire(t, s, h, set)
	}
	foreign(t, s, "10.0.0.7", "a")
	foreign(t, s, "10.0.0.8", "b")
	foreign(t, s, "10.0.0.9", "")
	got, err := s.Retain([]Holder{{"a", "eth0"}})
	want := []Reservation{
		{addr("10.0.0.2"), Holder{"a", "net1"}},
		{addr("10.0.0.3"), Holder{"b", "eth0"}},
		{addr("10.0.0.8"), Holder{"b", ""}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("released %v, %v, want %v", got, err, want)
	}
	if left := reservations(t, s); !reflect.DeepEqual(left, map[string]string{"10.0.0.1": "a\r\neth0", "10.0.0.7": "a"}) {
		t.Errorf("left %q", left)
	}
}

func TestMissingFolder(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if got := mustRelease(t, s, podA); got != "" {
		t.Error(got)
	}
	if got, err := s.Retain(nil); got != nil || err != nil {
		t.Error(got, err)
	}
	if got, err := s.Held(podA); got != nil || err != nil {
		t.Error(got, err)
	}
	if got, err := s.Usage([]Set{pool("10.0.0.1", "10.0.0.1")}); err != nil || got[0] != (Usage{Size: 1}) {
		t.Error(got, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(s.dir)); err != nil || len(entries) != 0 {
		t.Errorf("made %v, %v", entries, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	under, err := New(file, "net")
	if err != nil {
		t.Fatal(err)
	}
	if got := mustRelease(t, under, podA); got != "" {
		t.Error(got)
	}
	_, err = under.Acquire(podA, []Set{pool("10.0.0.1", "10.0.0.1")})
	errtest.Want(t, err, errcode.Storage, file)
	long, err := New(t.TempDir(), strings.Repeat("n", 256))
	if err != nil {
		t.Fatal(err)
	}
	if got := mustRelease(t, long, podA); got != "" {
		t.Error(got)
	}
	if got, err := long.Retain(nil); got != nil || err != nil {
		t.Error(got, err)
	}
	_, err = long.Acquire(podA, []Set{pool("10.0.0.1", "10.0.0.1")})
	errtest.Want(t, err, errcode.Storage, "file name too long")
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", ".", "..", ".cnibox", "a/b", "../x", "a\x00"} {
		_, err := New(t.TempDir(), name)
		errtest.Want(t, err, errcode.InvalidConfig, "name")
	}
	s, err := New("", "mynet")
	if err != nil || s.dir != "/var/lib/cni/networks/mynet" {
		t.Error(s, err)
	}
}

// A network's folder may be a mount of its own, where no rename from our side folder leads.
func TestFolderOnAnotherFilesystem(t *testing.T) {
	t.Parallel()
	other, err := os.MkdirTemp("/dev/shm", "cnibox")
	if err != nil {
		t.Skip("no second filesystem:", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(other) })
	s := newStore(t)
	if err := os.Symlink(other, s.dir); err != nil {
		t.Fatal(err)
	}
	var a, b unix.Stat_t
	if unix.Stat(other, &a) != nil || unix.Stat(filepath.Dir(s.dir), &b) != nil || a.Dev == b.Dev {
		t.Skip("no second filesystem")
	}
	mustAcquire(t, s, podA, pool("10.0.0.1", "10.0.0.9"))
	if got := reservations(t, s); !reflect.DeepEqual(got, map[string]string{"10.0.0.1": "a\r\neth0"}) {
		t.Errorf("folder holds %q", got)
	}
	if got := mustRelease(t, s, podA); got != "10.0.0.1" {
		t.Error(got)
	}
}

// What a crash leaves of a temporary file may be the second name of a reservation, after link and before unlink.
func TestStaleTemporaryFile(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	set := pool("10.0.0.1", "10.0.0.9")
	mustAcquire(t, s, podA, set)
	if err := os.Link(filepath.Join(s.dir, "10.0.0.1"), filepath.Join(s.side, "new")); err != nil {
		t.Fatal(err)
	}
	mustAcquire(t, s, podB, set)
	want := map[string]string{"10.0.0.1": "a\r\neth0", "10.0.0.2": "b\r\neth0"}
	if got := reservations(t, s); !reflect.DeepEqual(got, want) {
		t.Errorf("folder holds %q", got)
	}
}

// DEL after a kill leaves nothing behind, and neither does GC.
func TestTemporaryFilesGo(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(s *Store) error{
		"Release": func(s *Store) error { _, err := s.Release(podA); return err },
		"Retain":  func(s *Store) error { _, err := s.Retain(nil); return err },
	} {
		s := newStore(t)
		mustAcquire(t, s, podA, pool("10.0.0.1", "10.0.0.9"))
		for _, temp := range []string{filepath.Join(s.side, "new"), filepath.Join(s.dir, sideDir+".new")} {
			if err := os.WriteFile(temp, []byte("a\r\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := call(s); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := os.Stat(temp); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s leaves %s (%v)", name, temp, err)
			}
		}
	}
}

// A reservation that has its name has its text, and that is on the disk: whenever the process ends, no file is one that no DEL would match.
func TestCrashLeavesAnEmptyFile(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var steps []string
	s.step = func(step string) error {
		steps = append(steps, step)
		for name, text := range reservations(t, s) {
			if text != "a\r\neth0" {
				t.Errorf("before step %q, %s holds %q", step, name, text)
			}
		}
		return nil
	}
	mustAcquire(t, s, podA, pool("10.0.0.1", "10.0.0.9"), pool("fd00::1", "fd00::9"))
	if got := strings.Join(steps, " "); !strings.HasPrefix(got, "temp fsync place temp fsync place ") {
		t.Errorf("steps: %s", got)
	}
	s.step = nil
	// What a crash of the reference has left is given out again, and goes with its new holder.
	foreign(t, s, "10.0.0.2", "")
	if got := mustAcquire(t, s, podB, wants(pool("10.0.0.1", "10.0.0.9"), "10.0.0.2")); got != "10.0.0.2" {
		t.Errorf("got %s", got)
	}
	if got := mustRelease(t, s, podB); got != "10.0.0.2" {
		t.Errorf("gave back %q", got)
	}
	foreign(t, s, "10.0.0.3", "")
	if _, err := s.Retain([]Holder{podA}); err != nil {
		t.Error(err)
	}
	if left := reservations(t, s); !reflect.DeepEqual(left, map[string]string{"10.0.0.1": "a\r\neth0", "fd00::1": "a\r\neth0"}) {
		t.Errorf("left %q", left)
	}
}

// Each step that changes the disk fails once: ADD leaves nothing behind or succeeds, and the next calls are right.
func TestFailureAtEachStep(t *testing.T) {
	t.Parallel()
	v4, v6 := pool("10.0.0.1", "10.0.0.9"), pool("fd00::1", "fd00::9")
	broken := errors.New("broken")
	for n := 1; ; n++ {
		s := newStore(t)
		mustAcquire(t, s, podB, v4)
		var name string
		count := 0
		s.step = func(step string) error {
			if count++; count == n {
				name = step
				return broken
			}
			return nil
		}
		got, err := s.Acquire(podA, []Set{v4, v6})
		s.step = nil
		if name == "" { // no such step
			if n < 9 {
				t.Errorf("only %d steps", n)
			}
			return
		}
		held := reservations(t, s)
		delete(held, "10.0.0.1")
		switch {
		case err != nil && (len(held) != 0 || !errors.Is(err, broken)):
			t.Errorf("step %d, %s: %v leaves %q", n, name, err, held)
		case err == nil && (len(held) != 2 || len(got) != 2):
			t.Errorf("step %d, %s: %v, folder holds %q", n, name, got, held)
		}
		if left, err := os.ReadDir(s.side); err != nil || len(left) > 1 {
			t.Errorf("step %d, %s: %v left, %v", n, name, left, err)
		}
		if err == nil {
			if back := mustRelease(t, s, podA); back != joined(got) {
				t.Errorf("step %d, %s: released %s, not %s", n, name, back, joined(got))
			}
		}
		if a := mustAcquire(t, s, Holder{"c", "eth0"}, wants(v4, "10.0.0.2")); a != "10.0.0.2" {
			t.Errorf("step %d, %s: %s", n, name, a)
		}
	}
}
