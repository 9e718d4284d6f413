package rawnl

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
)

func TestEvents(t *testing.T) {
	ns := nstest.New(t, "ns")
	var e *Events
	err := ns.Do(func() (err error) {
		e, err = Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV6_IFADDR)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wait := func(limit time.Duration) time.Duration {
		t.Helper()
		begun := time.Now()
		if err := e.Wait(limit); err != nil {
			t.Fatal(err)
		}
		return time.Since(begun)
	}
	const long, short = 10 * time.Second, 50 * time.Millisecond
	for wait(short) < short { // what the making of the namespace has left
	}
	for name, change := range map[string][]string{
		"a link": {"ip", "link", "set", "lo", "mtu", "1400"}, "an address": {"ip", "addr", "add", "fd00::1/64", "dev", "lo"},
	} {
		ns.Run(change[0], change[1:]...)
		if took := wait(long); took >= long {
			t.Errorf("%s: no event", name)
		}
		for wait(short) < short {
		}
	}
	// More than the socket holds: events are lost, of which the reader learns.
	raw, err := e.file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		ns.Run("ip", "link", "set", "lo", "mtu", "1500")
		ns.Run("ip", "link", "set", "lo", "mtu", "1400")
	}
	if took := wait(long); took >= long {
		t.Error("no event where some were lost")
	}
	e.Close()
	if e.Wait(short) == nil {
		t.Error("a closed socket tells of events")
	}
}
