// Package traffic measures TCP between two network namespaces. It knows only how much has arrived and when.
package traffic

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// Patience is how long one end waits for the other.
const Patience = 10 * time.Second

// Pair is a TCP connection, of which both ends are here. They block, so that no scheduler of Go's is part of what is measured.
type Pair struct{ near, far *os.File }

// Connect connects from one namespace to the address of another.
func Connect(from, to, addr string) (*Pair, error) {
	return ConnectBy(from, to, netip.AddrPortFrom(netip.MustParseAddr(addr), 0), "")
}

// ConnectBy connects from one namespace to another, which listens at an address and a port, 0 for any, by way of what leads there: the address and
// port to connect to, or "" if it is that itself.
func ConnectBy(from, to string, at netip.AddrPort, by string) (*Pair, error) {
	var l *net.TCPListener
	err := nstest.Enter(to, func() (err error) {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }()
	p := &Pair{}
	err = nstest.Enter(from, func() error {
		conn, err := net.DialTimeout("tcp", cmp.Or(by, l.Addr().String()), Patience)
		if err != nil {
			return err
		}
		p.near, err = blocking(conn)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := l.SetDeadline(time.Now().Add(Patience)); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	conn, err := l.Accept()
	if err == nil {
		p.far, err = blocking(conn)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// blocking takes a connection over from Go's poller.
func blocking(conn net.Conn) (*os.File, error) {
	defer func() { _ = conn.Close() }()
	polled, err := conn.(*net.TCPConn).File()
	if err != nil {
		return nil, err
	}
	defer func() { _ = polled.Close() }()
	fd, err := unix.FcntlInt(polled.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	patience := unix.NsecToTimeval(int64(Patience))
	err = errors.Join(
		unix.SetNonblock(fd, false), // os.NewFile asks for it
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience),
	)
	file := os.NewFile(uintptr(fd), "connection")
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Close ends the connection.
func (p *Pair) Close() (err error) {
	for _, f := range []*os.File{p.near, p.far} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// Send sends so many bytes and returns how long it was until all had arrived.
func (p *Pair) Send(bytes int) (time.Duration, error) {
	sent := make(chan error, 1)
	start := time.Now()
	go func() {
		block := make([]byte, 128<<10)
		for left := bytes; left > 0; {
			n, err := p.near.Write(block[:min(left, len(block))])
			if err != nil {
				sent <- fmt.Errorf("send: %w", err)
				return
			}
			left -= n
		}
		sent <- nil
	}()
	var err error
	block := make([]byte, 512<<10)
	for left := bytes; left > 0 && err == nil; {
		var n int
		n, err = p.far.Read(block)
		left -= n
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("receive: %w", err), p.shut())
	}
	took := time.Since(start)
	return took, errors.Join(err, <-sent)
}

// shut has the other end stop waiting.
func (p *Pair) shut() error { return unix.Shutdown(int(p.near.Fd()), unix.SHUT_RDWR) }

// PingPong sends one byte there and one back, again and again while more says so, which is told how long each time was.
func (p *Pair) PingPong(more func(time.Duration) bool) error {
	echoed := make(chan error, 1)
	go func() { echoed <- p.echo() }()
	var err error
	one := []byte{0}
	for again := true; again && err == nil; {
		start := time.Now()
		if _, err = p.near.Write(one); err == nil {
			_, err = p.near.Read(one)
		}
		again = err == nil && more(time.Since(start))
	}
	if err == nil {
		_, err = p.near.Write([]byte{last})
	} else {
		err = errors.Join(err, p.shut())
	}
	return errors.Join(err, <-echoed)
}

// last is the byte that is not answered.
const last = 1

func (p *Pair) echo() error {
	one := []byte{0}
	for {
		if _, err := p.far.Read(one); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		if one[0] == last {
			return nil
		}
		if _, err := p.far.Write(one); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}
