package store

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// After each of our changes the index on the disk is the folder's, so that the next one need not read the files.
func TestIndexIsKept(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	set := pool("fd00::1", "fd00::ffff")
	holders := make([]Holder, 40)
	for i := range holders {
		holders[i] = Holder{fmt.Sprint(i), "eth0"}
	}
	has := map[Holder]bool{}
	times := map[int64]bool{}
	for n := range 400 {
		h := holders[rand.IntN(len(holders))]
		if n == 0 || !has[h] {
			if rand.IntN(2) == 0 && n > 0 {
				set.Want = addr(fmt.Sprintf("fd00::%x", 0x8000+rand.IntN(0x7000)))
			}
			_, err := s.Acquire(h, []Set{set})
			has[h] = err == nil
			set.Want = Set{}.Want
		} else {
			mustRelease(t, s, h)
			has[h] = false
		}
		err := s.locked(false, func(t2 *txn) error {
			if t2.remade {
				t.Errorf("change %d: the index was not kept", n)
			}
			times[t2.index.sign.mtime] = true
			if age := time.Since(time.Unix(0, t2.index.sign.mtime)); age < time.Second {
				t.Errorf("change %d: the folder's mtime could be anybody's: %v ago", n, age)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(times) < 300 {
		t.Errorf("only %d signatures for 400 changes", len(times))
	}
}

// Everything that another program may do to the folder shows.
func TestChangesShow(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *Store) error{
		"nothing": nil,
		"create":  func(s *Store) error { return os.WriteFile(filepath.Join(s.dir, "10.0.0.8"), nil, 0o600) },
		"unlink":  func(s *Store) error { return os.Remove(filepath.Join(s.dir, "10.0.0.1")) },
		"rename": func(s *Store) error {
			return os.Rename(filepath.Join(s.dir, "10.0.0.1"), filepath.Join(s.dir, "10.0.0.9"))
		},
		"copied back, with its times": func(s *Store) error {
			time.Sleep(20 * time.Millisecond) // tmpfs, and kernels before 6.13, count the ctime in ticks of up to 10 ms
			st, err := os.Stat(s.dir)
			if err != nil {
				return err
			}
			if err := os.Remove(filepath.Join(s.dir, "10.0.0.1")); err != nil {
				return err
			}
			return os.Chtimes(s.dir, time.Time{}, st.ModTime())
		},
		"another boot": func(s *Store) error {
			path := filepath.Join(s.side, "index")
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			x := parseIndex(data)
			if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil && string(x.sign.boot[:36]) != string(boot[:36]) {
				return fmt.Errorf("index is of boot %q", x.sign.boot)
			}
			x.sign.boot[3] ^= 1
			return os.WriteFile(path, append(x.header(), x.recs...), 0o600)
		},
		"index is a folder": func(s *Store) error {
			path := filepath.Join(s.side, "index")
			return errors2(os.Remove(path), os.Mkdir(path, 0o700))
		},
		"index is a pipe": func(s *Store) error {
			path := filepath.Join(s.side, "index")
			return errors2(os.Remove(path), unix.Mkfifo(path, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			mustAcquire(t, s, podA, pool("10.0.0.1", "10.0.0.9"))
			if change != nil {
				if err := change(s); err != nil {
					t.Fatal(err)
				}
			}
			err := s.locked(false, func(t2 *txn) error {
				if t2.remade != (change != nil) {
					t.Errorf("index remade: %v", t2.remade)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if got := mustAcquire(t, s, podB, pool("10.0.0.3", "10.0.0.9")); got != "10.0.0.3" {
				t.Error(got)
			}
		})
	}
}

func errors2(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// A file that changed without its folder is caught when it is read.
func TestChangedText(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	set := pool("10.0.0.1", "10.0.0.9")
	mustAcquire(t, s, podA, set)
	write(t, filepath.Join(s.dir, "10.0.0.1"), []byte("b\r\neth0"))
	if got := mustRelease(t, s, podA); got != "" {
		t.Errorf("released what b holds: %s", got)
	}
	if got := mustRelease(t, s, podB); got != "10.0.0.1" {
		t.Errorf("b released %s", got)
	}
}

func TestDamagedIndex(t *testing.T) {
	t.Parallel()
	var x index
	for i := range 5 {
		x.set(key{0, uint64(i * 7)}, ownerOf(fmt.Sprint(i)))
	}
	x.set(key{0, 7}, ownerNone)
	x.sign = signature{mtime: 1, ctime: 2, inode: 3, device: 4}
	data := append(x.header(), x.recs...)
	if y := parseIndex(slices.Clone(data)); y == nil || y.sign != x.sign || y.used != 4 || y.sum != x.sum {
		t.Fatalf("got %+v, want %+v", y, x)
	}
	for i := range data {
		for bit := range 8 {
			bad := slices.Clone(data)
			bad[i] ^= 1 << bit
			if parseIndex(bad) != nil {
				t.Errorf("bit %d of byte %d may change", bit, i)
			}
		}
		if parseIndex(slices.Clone(data[:i])) != nil {
			t.Errorf("%d bytes are enough", i)
		}
	}
}

// A program that truncates the file while it is mapped must not end us.
func TestIndexTruncatedInUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index")
	var x index
	for i := range 1000 {
		x.set(key{0, uint64(i)}, ownerOf("a"))
	}
	write(t, path, append(x.header(), x.recs...))
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	data := mapIndex(f)
	defer func() { _ = unix.Munmap(data) }()
	if parseIndex(data) == nil {
		t.Fatal("not read")
	}
	if err := os.Truncate(path, headerSize); err != nil {
		t.Fatal(err)
	}
	if x := parseIndex(data); x != nil {
		t.Error("read what is not there")
	}
}

// An index outgrows its file, again and again.
func TestIndexGrows(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	err := s.locked(true, func(t2 *txn) error {
		t2.index.set(keyOf(addr("fd00::1")), ownerOf("a"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 9 {
		err := s.locked(false, func(t2 *txn) error {
			if t2.remade || t2.index.len() != 1+n*1000 {
				t.Fatalf("%d: remade %v, %d records", n, t2.remade, t2.index.len())
			}
			for i := range 1000 {
				t2.index.set(key{uint64(i), uint64(n)}, ownerOf("b"))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestCompact(t *testing.T) {
	t.Parallel()
	var x index
	for i := range 3000 {
		x.set(key{1, uint64(i)}, ownerOf("x"))
	}
	if x.compact() {
		t.Error("nothing to compact")
	}
	for i := range 2000 {
		x.set(key{1, uint64(i)}, ownerNone)
	}
	if !x.compact() || x.len() != 1000 || x.used != 1000 {
		t.Errorf("%d records, %d used", x.len(), x.used)
	}
	if sum, ordered := x.check(); sum != x.sum || !ordered {
		t.Error("unsound")
	}
	if k := x.key(0); k != (key{1, 2000}) {
		t.Error(k)
	}
}

func TestSetSize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		set  Set
		want uint64
	}{
		{pool("10.0.0.1", "10.0.0.254", "10.0.0.1", "10.0.0.1", "10.9.9.9"), 253},
		{pool("10.0.0.1", "10.0.0.1", "10.0.0.1"), 0},
		{pool("fd00::1", "fd00::ffff:ffff:ffff:ffff", "fd00::1"), math.MaxUint64 - 1},
		{pool("fd00::", "fd00::ffff:ffff:ffff:ffff"), math.MaxUint64},
		{pool("fd00::5", "fd00::1:0:0:0:4"), math.MaxUint64},
		{pool("fd00::5", "fd00::1:0:0:0:3"), math.MaxUint64},
		{pool("fd00::", "fdff::"), math.MaxUint64},
	} {
		if got := c.set.Size(); got != c.want {
			t.Errorf("%v: %d, want %d", c.set, got, c.want)
		}
	}
}

// The search ends at the end of the addresses, and counts nothing beyond its range.
func TestNextAtTheEdges(t *testing.T) {
	t.Parallel()
	end := "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	var x index
	x.set(keyOf(addr(end)), ownerOf("a"))
	if a, ok := x.next(pool("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", end), addr(end)); !ok || a.String()[35:] != "fffe" {
		t.Error(a, ok)
	}
	if a, ok := x.next(pool(end, end), addr(end)); ok {
		t.Error(a)
	}
	across := pool("fd00::ffff:ffff:ffff:ffff", "fd00:0:0:1::1")
	x.set(keyOf(addr("fd00::ffff:ffff:ffff:ffff")), ownerOf("a"))
	if a, ok := x.next(across, Set{}.Want); !ok || a != addr("fd00:0:0:1::") {
		t.Error(a, ok)
	}
	if n := x.reserved(across); n != 1 {
		t.Error(n)
	}
}
