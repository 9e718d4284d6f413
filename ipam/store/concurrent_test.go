package store

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// TestConcurrent has goroutines, each with a store of its own, and processes take and give back addresses of one network, a
// pool in which there is just room for all. Two that get the same address, or an ADD that fails, show.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	const processes, goroutines, rounds = 3, 4, 25
	if dir := os.Getenv("CNIBOX_TEST_STORE"); dir != "" {
		contend(t, dir, os.Getenv("CNIBOX_TEST_WHO"), goroutines, rounds)
		return
	}
	dir := t.TempDir()
	var wg sync.WaitGroup
	for p := range processes {
		wg.Add(1)
		go func() {
			defer wg.Done()
			cmd := exec.Command(os.Args[0], "-test.run=^TestConcurrent$", "-test.count=1")
			cmd.Env = append(os.Environ(), "CNIBOX_TEST_STORE="+dir, fmt.Sprint("CNIBOX_TEST_WHO=p", p))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("process %d: %v\n%s", p, err, out)
			}
		}()
	}
	contend(t, dir, "main", goroutines, rounds)
	wg.Wait()
	s, err := New(dir, "net")
	if err != nil {
		t.Fatal(err)
	}
	if left := reservations(t, s); len(left) != 0 {
		t.Errorf("left %q", left)
	}
}

func contend(t *testing.T, dir, who string, goroutines, rounds int) {
	// A claim is a file made with O_EXCL: another program's view of who has an address.
	claims := filepath.Join(dir, "claims")
	if err := os.MkdirAll(claims, 0o755); err != nil {
		t.Fatal(err)
	}
	v4 := pool("10.0.0.1", "10.0.0.17", "10.0.0.1") // 4 * 4
	v6 := pool("fd00::1", "fd00::10")
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Add(1)
		go func() {
			defer wg.Done()
			s, err := New(dir, "net")
			if err != nil {
				t.Error(err)
				return
			}
			for round := range rounds {
				h := Holder{fmt.Sprint(who, "-", g, "-", round), "eth0"}
				got, err := s.Acquire(h, []Set{v4, v6})
				if err != nil || len(got) != 2 {
					t.Errorf("%v: %v, %v", h, got, err)
					return
				}
				if err := claim(claims, got); err != nil {
					t.Errorf("%v was given what another has: %v", h, err)
					return
				}
				for _, a := range got {
					_ = os.Remove(filepath.Join(claims, a.String()))
				}
				if back, err := s.Release(h); err != nil || len(back) != 2 {
					t.Errorf("%v gave back %v, %v", h, back, err)
					return
				}
			}
		}()
	}
	wg.Wait()
}

func claim(dir string, addrs []netip.Addr) error {
	for _, a := range addrs {
		f, err := os.OpenFile(filepath.Join(dir, a.String()), os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_ = f.Close()
	}
	return nil
}

// The same owner's DEL by many at once: one of them gets each address, and none fails.
func TestConcurrentRelease(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	mustAcquire(t, s, podA, pool("10.0.0.1", "10.0.0.9"), pool("fd00::1", "fd00::9"))
	results := make(chan int, 8)
	for range cap(results) {
		go func() {
			got, err := s.Release(podA)
			if err != nil {
				t.Error(err)
			}
			results <- len(got)
		}()
	}
	total := 0
	for range cap(results) {
		total += <-results
	}
	if total != 2 {
		t.Errorf("%d addresses released, want 2", total)
	}
}
