package portmap_test

import (
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
	for host, client := range map[string]string{"192.0.2.1": "192.0.2.100", "2001:db8::1": "2001:db8::100"} {
		family := map[bool]int{false: unix.AF_INET, true: unix.AF_INET6}[netip.MustParseAddr(host).Is6()]
		seen := serveSCTP(t, one.NS, sockaddr(family, netip.Addr{}, 3869), family)
		if err := unix.Connect(sctp(t, n.outside, family), sockaddr(family, netip.MustParseAddr(host), 3868)); err != nil {
			t.Fatalf("connect to the port of %s: %v", host, err)
		}
		if got := <-seen; got != client {
			t.Errorf("the pod saw %s, not %s", got, client)
		}
	}
}

// sockaddr is an address and port; the zero Addr is any address of the family.
func sockaddr(family int, addr netip.Addr, port int) unix.Sockaddr {
	if family == unix.AF_INET6 {
		sa := &unix.SockaddrInet6{Port: port}
		if addr.IsValid() {
			sa.Addr = addr.As16()
		}
		return sa
	}
	sa := &unix.SockaddrInet4{Port: port}
	if addr.IsValid() {
		sa.Addr = addr.As4()
	}
	return sa
}

// serveSCTP accepts one association and tells who asked for it.
func serveSCTP(t *testing.T, ns *nstest.NS, at unix.Sockaddr, family int) <-chan string {
	t.Helper()
	server := sctp(t, ns, family)
	if family == unix.AF_INET6 { // the other family has a server of its own
		if err := unix.SetsockoptInt(server, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Bind(server, at); err != nil {
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
		switch from := from.(type) {
		case *unix.SockaddrInet4:
			seen <- netip.AddrFrom4(from.Addr).String()
		case *unix.SockaddrInet6:
			seen <- netip.AddrFrom16(from.Addr).String()
		}
	}()
	return seen
}
