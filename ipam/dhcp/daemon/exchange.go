package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// errRefused is a server's refusal: the client is to begin anew (DHCPNAK, RFC 2131, section 3.1; NoBinding, RFC 8415, section 18.2.10.1).
var errRefused = errors.New("the server refuses the address")

// socket exchanges packets. It is opened in the container's namespace and stays there, so that no thread does. It lives for one conversation.
type socket struct {
	file *os.File
	what string
}

// openSocket opens a socket in the namespace. prepare binds it.
func openSocket(n *netutil.Namespace, what string, domain, kind, protocol int, prepare func(fd int) error) (*socket, error) {
	var fd int
	err := n.Do(func() (err error) {
		fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := prepare(fd); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return &socket{os.NewFile(uintptr(fd), what), what}, nil
}

func (s *socket) close() { _ = s.file.Close() }

// send sends a packet.
func (s *socket) send(packet []byte, to unix.Sockaddr) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), packet, 0, to)
		return !errors.Is(sent, unix.EAGAIN)
	})
	if err = errors.Join(err, sent); err != nil {
		return fmt.Errorf("%s: send: %w", s.what, err)
	}
	return nil
}

// receive hands packets to take until it has what it wants, or the deadline is over.
func (s *socket) receive(ctx context.Context, deadline time.Time, take func(packet []byte) (done bool, err error)) error {
	defer context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) })()
	if err := s.file.SetReadDeadline(deadline); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := s.file.Read(buf)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if done, err := take(buf[:n]); done || err != nil {
			return err
		}
	}
}

// exchange sends a message, ever more rarely, until take has what it wants of the answers, or the time is up: os.ErrDeadlineExceeded.
func (s *socket) exchange(
	ctx context.Context, t Timing, limit time.Duration, send func(sofar time.Duration) error, take func(packet []byte) (done bool, err error),
) error {
	begun := time.Now()
	end := begun.Add(limit)
	for wait := t.first(); ; wait = min(2*wait, t.ResendMax) {
		sendErr := send(time.Since(begun)) // a link that is not up yet may be so soon
		deadline := time.Now().Add(t.jitter(wait))
		if deadline.After(end) {
			deadline = end
		}
		err := s.receive(ctx, deadline, take)
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return err
		}
		if !time.Now().Before(end) {
			return errors.Join(err, sendErr)
		}
	}
}

// Timing is how long the daemon waits for servers.
type Timing struct {
	Timeout       time.Duration // for the answer to one request
	ResendMax     time.Duration // the longest time between two messages
	ResendTimeout time.Duration // for an address
	Broadcast     bool          // ask servers to answer by broadcast
}

// DefaultTiming is what flags change.
func DefaultTiming() Timing {
	return Timing{Timeout: 10 * time.Second, ResendMax: 62 * time.Second, ResendTimeout: 30 * time.Second}
}

// patience is how long an offer is waited for.
func (t Timing) patience() time.Duration { return t.ResendTimeout }

// first is the time until a message is sent again for the first time. RFC 2131 has 4 s, of networks of 1997, and RFC 8415 has 1 s. A pod that
// starts is waited for, and the kernel drops what a new link sends in its first moments, on a busy node for a second.
func (t Timing) first() time.Duration { return min(100*time.Millisecond, t.ResendMax) }

// jitter is about as long, so that many clients do not ask at once (RFC 2131, section 4.1; RFC 8415, section 15).
func (t Timing) jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// interfaceOf finds an attachment's interface, and takes it up if it is down.
func interfaceOf(n *netutil.Namespace, name string) (*rtnl.Link, error) {
	l, err := netutil.FindLink(n, name)
	if err == nil && l == nil {
		err = fmt.Errorf("%w: no interface %s", errGone, name)
	}
	if err == nil && !l.Up() {
		err = netutil.SetUp(n, name)
	}
	return l, err
}
