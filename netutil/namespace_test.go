package netutil_test

import (
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nstest"
)

// Who has given up waiting for the lock, and then waits again, has it alone when he gets it.
func TestALockThatWasGivenUpIsNotTakenAway(t *testing.T) {
	t.Parallel()
	ns := nstest.New(t, "host")
	open := func() *netutil.Namespace {
		n, err := netutil.Open(ns.Path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Close)
		return n
	}
	for range 20 { // which of two who wait is served first is the kernel's choice
		plugin, looks, next := open(), open(), open()
		unlock, err := plugin.Lock()
		if err != nil {
			t.Fatal(err)
		}
		looks.WaitAtMost(time.Millisecond)
		if _, err := looks.Lock(); err == nil {
			t.Fatal("two have the lock")
		}
		looks.WaitAtMost(time.Minute)
		time.AfterFunc(5*time.Millisecond, unlock)
		unlock, err = looks.Lock()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond) // for who has given up, and is served now
		next.WaitAtMost(10 * time.Millisecond)
		if _, err := next.Lock(); err == nil {
			t.Fatal("the lock was taken away")
		}
		unlock()
	}
}
