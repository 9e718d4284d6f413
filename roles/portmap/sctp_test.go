package portmap_test

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// sctp makes a one-to-one SCTP socket (RFC 6458, section 4) in a namespace, which package net does not know.
func sctp(t *testing.T, ns *nstest.NS, family int) (fd int) {
	t.Helper()
	err := ns.Do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		return err
	})
	if err != nil {
		t.Fatalf("SCTP socket: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	limit := unix.Timeval{Sec: 5}
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} { // the latter bounds connect(2) as well
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &limit); err != nil {
			t.Fatal(err)
		}
	}
	return fd
}

func TestSCTPPortsReachThePod(t *testing.T) {
	nstest.Need(t, "sctp")
	n := newNode(t, "bridge")
	one := n.pod("one")
	one.expose(mapping(`{"hostPort": 3868, "containerPort": 3869, "protocol": "sctp"}`))
	server := sctp(t, one.NS, unix.AF_INET)
	if err := unix.Bind(server, &unix.SockaddrInet4{Port: 3869}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(server, 1); err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 1)
	go func() {
		c, from, err := unix.Accept(server)
		if err != nil {
			seen <- err.Error()
			return
		}
		defer func() { _ = unix.Close(c) }()
		in4, _ := from.(*unix.SockaddrInet4)
		seen <- netip.AddrFrom4(in4.Addr).String()
	}()
	client := sctp(t, n.outside, unix.AF_INET)
	to := [4]byte(net.ParseIP("192.0.2.1").To4())
	if err := unix.Connect(client, &unix.SockaddrInet4{Addr: to, Port: 3868}); err != nil {
		t.Fatalf("connect to the host's port: %v", err)
	}
	if got := <-seen; got != "192.0.2.100" {
		t.Errorf("the pod saw %s", got)
	}
}
