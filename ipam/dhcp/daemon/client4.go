package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// protocol4 is DHCP (RFC 2131).
type protocol4 struct{}

// grant4 is a server's acknowledgement.
type grant4 struct{ *dhcpv4.DHCPv4 }

func (g grant4) bytes() []byte                               { return g.ToBytes() }
func (g grant4) address() netip.Prefix                       { return prefixOf(address(g.DHCPv4)) }
func (g grant4) times(now time.Time) (t1, t2, end time.Time) { return times(g.DHCPv4, now) }
func (g grant4) result(w *Wishes) *types100.Result           { return w.result(g.DHCPv4) }
func (g grant4) String() string                              { return g.YourIPAddr.String() }

func (protocol4) parse(b []byte) (grant, error) {
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		return nil, err
	}
	return grant4{m}, nil
}

// client4 asks servers over one link.
type client4 struct {
	n         *netutil.Namespace
	link      *rtnl.Link
	s         *socket
	modifiers []dhcpv4.Modifier
	timing    Timing
}

func (protocol4) open(_ context.Context, n *netutil.Namespace, l *lease) (client, error) {
	return open4(n, l)
}

func open4(n *netutil.Namespace, l *lease) (*client4, error) {
	link, err := interfaceOf(n, l.Owner.IfName)
	if err != nil {
		return nil, err
	}
	s, err := packetSocket(n, link, unix.ETH_P_IP, repliesOnly())
	if err != nil {
		return nil, err
	}
	return &client4{n, link, s, l.wishes.modifiers(clientID(l.Owner), cniArgs(l.Args)), l.d.timing}, nil
}

func (c *client4) close() { c.s.close() }

// lease asks for an address: discover, offer, request, acknowledgement.
func (c *client4) lease(ctx context.Context) (grant, error) {
	for {
		discover, err := dhcpv4.NewDiscovery(c.link.MAC, c.modifiers...)
		if err != nil {
			return nil, err
		}
		c.flag(discover)
		offer, err := c.exchange(ctx, discover, c.broadcast, c.timing.patience(), dhcpv4.MessageTypeOffer)
		if err != nil {
			return nil, fmt.Errorf("no server offers an address: %w", err)
		}
		request, err := dhcpv4.NewRequestFromOffer(offer, c.modifiers...)
		if err != nil {
			return nil, err
		}
		c.flag(request)
		ack, err := c.exchange(ctx, request, c.broadcast, c.timing.Timeout, dhcpv4.MessageTypeAck)
		if err == nil {
			return grant4{ack}, nil
		}
		if !errors.Is(err, errRefused) && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		// The address has gone to another meanwhile, or the server has gone: ask all again.
		if err := pause(ctx, c.timing.jitter(time.Second)); err != nil {
			return nil, err
		}
	}
}

// flag asks for answers by broadcast, if that is wanted. An ipvlan needs them: it shares its MAC address with others, and has no address yet by which
// the kernel could tell that an answer is for it.
func (c *client4) flag(m *dhcpv4.DHCPv4) {
	if c.timing.Broadcast || c.link.Kind == "ipvlan" {
		m.SetBroadcast()
	}
}

func (c *client4) renew(ctx context.Context, g grant, limit time.Duration) (grant, error) {
	ack, err := as[grant4](g)
	if err != nil {
		return nil, err
	}
	send := c.broadcast
	if server := ack.ServerIdentifier(); server != nil {
		send = func(m *dhcpv4.DHCPv4) error { return unicast(c.n, ack.YourIPAddr, server, m) }
	}
	return c.extend(ctx, ack, send, limit)
}

func (c *client4) rebind(ctx context.Context, g grant, limit time.Duration) (grant, error) {
	ack, err := as[grant4](g)
	if err != nil {
		return nil, err
	}
	return c.extend(ctx, ack, func(m *dhcpv4.DHCPv4) error { c.flag(m); return c.broadcast(m) }, limit)
}

func (c *client4) extend(ctx context.Context, ack grant4, send func(*dhcpv4.DHCPv4) error, limit time.Duration) (grant, error) {
	m, err := dhcpv4.NewRenewFromAck(ack.DHCPv4, c.modifiers...)
	if err != nil {
		return nil, err
	}
	got, err := c.exchange(ctx, m, send, limit, dhcpv4.MessageTypeAck)
	if err != nil {
		return nil, err
	}
	if got.YourIPAddr.Equal(ack.YourIPAddr) {
		inherit(got, ack.DHCPv4)
	}
	return grant4{got}, nil
}

// exchange sends a message until an answer of the kind comes, or the time is up. A NAK is errRefused.
func (c *client4) exchange(
	ctx context.Context, m *dhcpv4.DHCPv4, send func(*dhcpv4.DHCPv4) error, limit time.Duration, want dhcpv4.MessageType,
) (got *dhcpv4.DHCPv4, err error) {
	again := func(sofar time.Duration) error {
		m.NumSeconds = uint16(min(sofar/time.Second, 1<<16-1))
		return send(m)
	}
	err = c.s.exchange(ctx, c.timing, limit, again, func(packet []byte) (bool, error) {
		reply := parseReply(packet)
		if reply == nil || reply.TransactionID != m.TransactionID || reply.ClientHWAddr.String() != m.ClientHWAddr.String() {
			return false, nil
		}
		if reply.MessageType() == dhcpv4.MessageTypeNak {
			return false, errRefused
		}
		got = reply
		return reply.MessageType() == want && usable(reply), nil
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// usable refuses what no client could use.
func usable(m *dhcpv4.DHCPv4) bool {
	ip := m.YourIPAddr.To4()
	return ip != nil && !ip.IsUnspecified() && !ip.IsMulticast() && !ip.Equal(net.IPv4bcast)
}

// release tells the server that the address is free (RFC 2131, section 4.4.6). From a container that is gone the host speaks in its place, if it
// has a way to the server.
func (protocol4) release(l *lease, g grant) error {
	ack, err := as[grant4](g)
	if err != nil {
		return err
	}
	m, err := dhcpv4.NewReleaseFromACK(ack.DHCPv4, l.wishes.modifiers(clientID(l.Owner), cniArgs(l.Args))...)
	server := ack.ServerIdentifier()
	if err != nil || server == nil {
		return fmt.Errorf("release: no server to tell: %w", err)
	}
	if n, err := l.enter(); err == nil {
		defer n.Close()
		if unicast(n, ack.YourIPAddr, server, m) == nil {
			return nil
		}
		// The interface no longer has the address, or no route to the server. One that is on the same link hears it all the same.
		if c, err := open4(n, l); err == nil {
			defer c.close()
			return c.send(m, server)
		}
	}
	host, err := netutil.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	return unicast(host, nil, server, m)
}
