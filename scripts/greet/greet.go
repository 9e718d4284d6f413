// Package greet is the least of servers and its client: it tells who asks.
package greet

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Serve answers every connection to a port with a line that says who is seen to ask, and at which address. It listens in the calling thread's network namespace.
func Serve(port int) error {
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintln(conn, addr(conn.RemoteAddr()), addr(conn.LocalAddr()))
			_ = conn.Close()
		}
	}()
	return nil
}

func addr(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr().Unmap() }

// Ask connects from the calling thread's network namespace and returns whom the other side saw.
func Ask(to string) (seen string, err error) {
	seen, _, err = Meet(to)
	return seen, err
}

// Meet is Ask that also returns the address at which the other side is, which may not be the one that was asked.
func Meet(to string) (seen, at string, err error) {
	conn, err := net.DialTimeout("tcp", to, 5*time.Second)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	seen, at, _ = strings.Cut(strings.TrimSpace(line), " ")
	return seen, at, err
}
