package dhcp_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cnibox/cnibox/ipam/dhcp/dhcptest"
	"github.com/cnibox/cnibox/roles/roletest"
)

// TestManyLeasesNeedFewThreadsAndDescriptors has one daemon renew the leases of 200 pods, most of them at the same time.
func TestManyLeasesNeedFewThreadsAndDescriptors(t *testing.T) {
	t.Parallel()
	const count = 200
	l := newLAN(t, dhcptest.Policy{Lease: 60 * time.Second, T1: 2 * time.Second})
	cmd := l.program()
	pods := make([]*roletest.Pod, count)
	for i := range pods {
		pods[i] = l.Pod(fmt.Sprintf("p%d", i))
	}
	var all sync.WaitGroup
	for _, p := range pods {
		all.Go(func() {
			if _, err := l.Do(roletest.Call{Verb: "ADD", Role: "bridge", Pod: p, Conf: l.conf()}); err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
		})
	}
	all.Wait()
	if n := len(l.Held()); n != count {
		t.Fatalf("%d leases", n)
	}
	// All are renewed at once: what that takes, and what the daemon has when they wait again.
	begun, renewed := time.Now(), map[string]bool{}
	threads, descriptors, waiting := 0, 0, 1<<20
	for time.Since(begun) < 20*time.Second && (len(renewed) < count || waiting > 20) {
		threads = max(threads, entries(t, cmd.Process.Pid, "task"))
		n := entries(t, cmd.Process.Pid, "fd")
		descriptors, waiting = max(descriptors, n), min(waiting, n)
		for _, m := range l.Seen(request) {
			if m.At.After(begun) && isRenewal(m) && m.Unicast {
				renewed[m.From.String()] = true
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("%d leases renewed in %s with at most %d threads and %d descriptors; %d when they wait", len(renewed), time.Since(begun), threads, descriptors, waiting)
	if len(renewed) != count {
		t.Errorf("%d leases of %d were renewed", len(renewed), count)
	}
	// A lease that waits has neither. One that is renewed has up to four descriptors: two sockets, the namespace and a netlink socket there.
	if threads > count/2 || descriptors > 4*count+20 || waiting > 20 {
		t.Errorf("%d threads and %d descriptors are too many, or %d when leases wait", threads, descriptors, waiting)
	}
}

func entries(t *testing.T, pid int, dir string) int {
	t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", pid, dir))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
