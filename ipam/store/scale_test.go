package store

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const many = 60_000

// fill makes n reservations of 10.0.0.0/8, in the order of the addresses, and the index of them.
func fill(t testing.TB, s *Store, n int) Set {
	t.Helper()
	set := pool("10.0.0.1", "10.255.255.254")
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a := set.Ranges[0].First
	for i := range n {
		write(t, filepath.Join(s.dir, a.String()), []byte(fmt.Sprintf("%064x\r\neth0", i)))
		a = a.Next()
	}
	mustRelease(t, s, podA) // makes the index
	return set
}

// opens counts what is opened in a folder, the folder included, while do runs.
func opens(t *testing.T, dir string, do func()) int {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	do()
	n := 0
	buf := make([]byte, 1<<20)
	for {
		got, err := unix.Read(fd, buf)
		if err != nil || got == 0 {
			return n
		}
		for at := 0; at < got; {
			if binary.NativeEndian.Uint32(buf[at+4:])&unix.IN_Q_OVERFLOW != 0 {
				t.Fatal("too many opened to count")
			}
			n++
			at += unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[at+12:]))
		}
	}
}

// With 60,000 reservations, ADD and DEL open as few files as with ten.
func TestManyReservations(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("makes 60,000 files")
	}
	for _, n := range []int{10, many} {
		s := newStore(t)
		set := fill(t, s, n)
		next := netip.AddrFrom4([4]byte{10, 0, byte((n + 1) >> 8), byte(n + 1)}).String()
		var got string
		// The folder and the lock; for ADD the two last_reserved_ip; for DEL and CHECK the one address file.
		if o := opens(t, s.dir, func() { got = mustAcquire(t, s, podA, set) }); o > 4 || got != next {
			t.Errorf("%d reservations: ADD got %s, want %s, opened %d", n, got, next, o)
		}
		if o := opens(t, s.dir, func() { _, _ = s.Held(podA) }); o > 3 {
			t.Errorf("%d reservations: CHECK opened %d", n, o)
		}
		if o := opens(t, s.dir, func() { got = mustRelease(t, s, podA) }); o > 3 || got != next {
			t.Errorf("%d reservations: DEL gave back %s, opened %d", n, got, o)
		}
		if o := opens(t, s.dir, func() { _, _ = s.Usage([]Set{set}) }); o > 2 {
			t.Errorf("%d reservations: STATUS opened %d", n, o)
		}
	}
}

func BenchmarkAddDel(b *testing.B) {
	for _, n := range []int{0, 1000, 10_000, many} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newStore(b)
			set := fill(b, s, n)
			b.Run("add+del", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					mustAcquire(b, s, podA, set)
					mustRelease(b, s, podA)
				}
			})
			b.Run("add", func(b *testing.B) {
				for b.Loop() {
					mustAcquire(b, s, podA, set)
					b.StopTimer()
					mustRelease(b, s, podA)
					b.StartTimer()
				}
			})
			b.Run("del", func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					mustAcquire(b, s, podA, set)
					b.StartTimer()
					mustRelease(b, s, podA)
				}
			})
			b.Run("check", func(b *testing.B) {
				for b.Loop() {
					if _, err := s.Held(podA); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkSync is what it costs to wait until an address file is on the disk.
func BenchmarkSync(b *testing.B) {
	for _, sync := range []bool{false, true} {
		b.Run(fmt.Sprint(sync), func(b *testing.B) {
			dir := b.TempDir()
			for b.Loop() {
				f, err := os.CreateTemp(dir, "")
				if err != nil {
					b.Fatal(err)
				}
				_, _ = f.WriteString("0123\r\neth0")
				if sync {
					_ = f.Sync()
				}
				_ = f.Close()
				_ = os.Remove(f.Name())
			}
		})
	}
}
