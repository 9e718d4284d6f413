package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// errNAK is the server's refusal: the client is to begin anew (RFC 2131, section 3.1).
var errNAK = errors.New("the server refuses the address (DHCPNAK)")

// client asks servers over one link. It lives for one exchange.
type client struct {
	n         *netutil.Namespace
	link      *rtnl.Link
	s         *socket
	modifiers []dhcpv4.Modifier
	timing    Timing
}

// newClient opens what an exchange needs. The link is taken up if it is down.
func newClient(n *netutil.Namespace, ifName string, modifiers []dhcpv4.Modifier, timing Timing) (*client, error) {
	l, err := netutil.FindLink(n, ifName)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, fmt.Errorf("%w: no interface %s", errGone, ifName)
	}
	if !l.Up() {
		if err := netutil.SetUp(n, ifName); err != nil {
			return nil, err
		}
	}
	s, err := openSocket(n, l)
	if err != nil {
		return nil, err
	}
	return &client{n, l, s, modifiers, timing}, nil
}

func (c *client) close() { c.s.close() }

// lease asks for one from any server: discover, offer, request, acknowledgement. Lost messages are sent again, ever more rarely.
func (c *client) lease(ctx context.Context) (*dhcpv4.DHCPv4, error) {
	for {
		discover, err := dhcpv4.NewDiscovery(c.link.MAC, c.modifiers...)
		if err != nil {
			return nil, err
		}
		c.flag(discover)
		offer, err := c.exchange(ctx, discover, c.s.broadcast, c.timing.patience(), dhcpv4.MessageTypeOffer)
		if err != nil {
			return nil, fmt.Errorf("no server offers an address: %w", err)
		}
		request, err := dhcpv4.NewRequestFromOffer(offer, c.modifiers...)
		if err != nil {
			return nil, err
		}
		c.flag(request)
		ack, err := c.exchange(ctx, request, c.s.broadcast, c.timing.Timeout, dhcpv4.MessageTypeAck)
		if err == nil || !errors.Is(err, errNAK) && !errors.Is(err, os.ErrDeadlineExceeded) {
			return ack, err
		}
		// The address has gone to another meanwhile, or the server has gone: ask all again.
		if err := pause(ctx, c.timing.jitter(time.Second)); err != nil {
			return nil, err
		}
	}
}

// flag asks for answers by broadcast, if that is wanted.
func (c *client) flag(m *dhcpv4.DHCPv4) {
	if c.timing.Broadcast {
		m.SetBroadcast()
	}
}

// renew asks the server for more time (T1), rebind asks all servers (T2).
func (c *client) renew(ctx context.Context, ack *dhcpv4.DHCPv4, until time.Duration) (*dhcpv4.DHCPv4, error) {
	m, err := dhcpv4.NewRenewFromAck(ack, c.modifiers...)
	if err != nil {
		return nil, err
	}
	server := ack.ServerIdentifier()
	send := func(m *dhcpv4.DHCPv4) error { return unicast(c.n, ack.YourIPAddr, server, m) }
	if server == nil {
		send = c.s.broadcast
	}
	return c.exchange(ctx, m, send, until, dhcpv4.MessageTypeAck)
}

func (c *client) rebind(ctx context.Context, ack *dhcpv4.DHCPv4, until time.Duration) (*dhcpv4.DHCPv4, error) {
	m, err := dhcpv4.NewRenewFromAck(ack, c.modifiers...)
	if err != nil {
		return nil, err
	}
	c.flag(m)
	return c.exchange(ctx, m, c.s.broadcast, until, dhcpv4.MessageTypeAck)
}

// exchange sends a message until an answer of the kind comes, or the time is up. A NAK is an error.
func (c *client) exchange(
	ctx context.Context, m *dhcpv4.DHCPv4, send func(*dhcpv4.DHCPv4) error, limit time.Duration, want dhcpv4.MessageType,
) (*dhcpv4.DHCPv4, error) {
	end := time.Now().Add(limit)
	begun := time.Now()
	for wait := c.timing.first(); ; wait = min(2*wait, c.timing.ResendMax) {
		m.NumSeconds = uint16(min(time.Since(begun)/time.Second, 1<<16-1))
		sendErr := send(m) // a link that is not up yet may be so soon
		deadline := time.Now().Add(c.timing.jitter(wait))
		if deadline.After(end) {
			deadline = end
		}
		for {
			reply, err := c.s.receive(ctx, m, deadline)
			if err == nil {
				switch reply.MessageType() {
				case want:
					if usable(reply) {
						return reply, nil
					}
				case dhcpv4.MessageTypeNak:
					return nil, errNAK
				}
				continue
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
				return nil, err
			}
			if time.Now().Before(end) {
				break
			}
			return nil, errors.Join(err, sendErr)
		}
	}
}

// usable refuses what no client could use.
func usable(m *dhcpv4.DHCPv4) bool {
	ip := m.YourIPAddr.To4()
	return ip != nil && !ip.IsUnspecified() && !ip.IsMulticast() && !ip.Equal(net.IPv4bcast)
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

// first is the time until a message is sent again for the first time. RFC 2131 has 4 s, of networks of 1997. A pod that starts is waited for,
// and the kernel drops what a new link sends in its first moments, on a busy node for a second.
func (t Timing) first() time.Duration { return min(100*time.Millisecond, t.ResendMax) }

// jitter is about as long, so that many clients do not ask at once (RFC 2131, section 4.1).
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
