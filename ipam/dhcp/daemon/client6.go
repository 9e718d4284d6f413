package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/ipam/dhcp/dhcpv6"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// protocol6 is DHCPv6 (RFC 8415) as far as routers tell hosts to use it (RFC 4861, section 4.2).
type protocol6 struct{}

// How long is waited for what may never come.
const (
	routerPatience = 4 * time.Second // RFC 4861, section 6.3.7
	informPatience = 2 * time.Second // there may be no server, though the router says so
	kernelPatience = 4 * time.Second // for an address, with duplicate address detection
	parting        = time.Second     // for the answer to a release
)

// client6 asks routers and servers over one link.
type client6 struct {
	n      *netutil.Namespace
	link   *rtnl.Link
	local  netip.Addr
	s      *socket
	duid   dhcpv6.DUID
	timing Timing
}

func (protocol6) open(ctx context.Context, n *netutil.Namespace, l *lease) (client, error) {
	return open6(ctx, n, l)
}

func open6(ctx context.Context, n *netutil.Namespace, l *lease) (*client6, error) {
	link, err := interfaceOf(n, l.Owner.IfName)
	if err != nil {
		return nil, err
	}
	// Runtimes like to disable IPv6 in new namespaces. An interface listens to routers with the value 2 though its host be one itself.
	for key, value := range map[string]string{"disable_ipv6": "0", "accept_ra": "2"} {
		if _, err := n.SetSysctl(value, "net", "ipv6", "conf", link.Name, key); err != nil {
			return nil, err
		}
	}
	local, err := netutil.LinkLocal(ctx, n, link, l.d.timing.patience())
	if err != nil {
		return nil, err
	}
	const clientPort6 = 546 // RFC 8415, section 7.2
	s, err := openSocket(n, "UDP socket on "+link.Name, unix.AF_INET6, unix.SOCK_DGRAM, 0, func(fd int) error {
		return unix.Bind(fd, &unix.SockaddrInet6{Port: clientPort6, ZoneId: uint32(link.Index), Addr: local.As16()})
	})
	if err != nil {
		return nil, err
	}
	return &client6{n, link, local, s, duidOf(l.Owner), l.d.timing}, nil
}

func (c *client6) close() { c.s.close() }

// lease does what the routers say.
func (c *client6) lease(ctx context.Context) (grant, error) {
	for {
		g, err := c.grant(ctx, min(routerPatience, c.timing.patience()/2))
		if err == nil || !errors.Is(err, errRefused) {
			return g, err
		}
		if err := pause(ctx, c.timing.jitter(time.Second)); err != nil {
			return nil, err
		}
	}
}

func (c *client6) grant(ctx context.Context, patience time.Duration) (grant, error) {
	router, err := askRouters(ctx, c.n, c.link, c.local, c.timing, patience)
	if err != nil {
		return nil, err
	}
	g := &grant6{router: router}
	switch {
	case router == nil, router.managed: // RFC 4862, section 5.5.2: where no router is there may be a server
		g.reply, err = c.solicit(ctx)
	case router.other:
		g.reply, err = c.inform(ctx)
	}
	if err != nil {
		return nil, err
	}
	if router != nil {
		g.Router = router.packet
		g.Autoconfigured, err = c.autoconfigured(ctx, router)
	}
	if g.reply != nil {
		g.Reply = g.reply.Packet
	}
	if err == nil && !g.address().IsValid() && len(g.Autoconfigured) == 0 {
		err = fmt.Errorf("the router %s advertises no way to come by an address that the kernel would go", router.from)
	}
	return g, err
}

// autoconfigured are the addresses that the kernel has made, if it is to make any.
func (c *client6) autoconfigured(ctx context.Context, router *advertisement) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, p := range router.prefixes {
		prefixes = append(prefixes, p.Prefix)
	}
	wanted, err := c.n.Sysctl("net", "ipv6", "conf", c.link.Name, "autoconf")
	if err != nil || wanted == "0" || len(prefixes) == 0 {
		return nil, err
	}
	return netutil.Autoconfigured(ctx, c.n, c.link, prefixes, kernelPatience)
}

// solicit asks all servers for an address, and then the best of those that answer.
func (c *client6) solicit(ctx context.Context) (*dhcpv6.Message, error) {
	m := c.message(dhcpv6.Solicit, nil, association())
	var best *dhcpv6.Message
	var refusal error
	consider := func(offer *dhcpv6.Message) (bool, error) {
		if _, _, err := associationIn(offer); err != nil {
			refusal = err
			return false, nil
		}
		if best == nil || offer.Preference > best.Preference {
			best = offer
		}
		return true, nil
	}
	begun := time.Now()
	if err := c.exchange(ctx, m, c.timing.patience(), dhcpv6.Advertise, consider); err != nil {
		return nil, fmt.Errorf("no DHCPv6 server offers an address: %w", errors.Join(err, refusal))
	}
	// The others have as long as until the first message would have been sent again (RFC 8415, section 18.2.1).
	err := c.s.receive(ctx, begun.Add(c.timing.first()), c.answers(m, dhcpv6.Advertise, func(offer *dhcpv6.Message) (bool, error) {
		_, _ = consider(offer)
		return false, nil
	}))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, err
	}
	_, addr, err := associationIn(best)
	if err != nil {
		return nil, err
	}
	got, err := c.request(ctx, best.ServerID, addr)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: %w", errRefused, err) // it has gone: ask all again
	}
	return got, err
}

// request asks a server for an address.
func (c *client6) request(ctx context.Context, server dhcpv6.DUID, addr *dhcpv6.Address) (*dhcpv6.Message, error) {
	return c.confirmed(ctx, dhcpv6.Request, c.timing.Timeout, server, addr)
}

// inform asks for what there is to know besides addresses. That no server answers is no reason to be without an address.
func (c *client6) inform(ctx context.Context) (got *dhcpv6.Message, err error) {
	m := c.message(dhcpv6.InformationRequest, nil)
	err = c.exchange(ctx, m, min(informPatience, c.timing.Timeout), dhcpv6.Reply, func(m *dhcpv6.Message) (bool, error) {
		got = m
		return true, nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
		err = nil
	}
	return got, err
}

func (c *client6) renew(ctx context.Context, g grant, limit time.Duration) (grant, error) {
	return c.extend(ctx, g, dhcpv6.Renew, limit)
}

func (c *client6) rebind(ctx context.Context, g grant, limit time.Duration) (grant, error) {
	return c.extend(ctx, g, dhcpv6.Rebind, limit)
}

// extend asks for more time. A server that has forgotten the address is asked for it once more. Without an address, what there is to know is
// asked again.
func (c *client6) extend(ctx context.Context, g grant, kind dhcpv6.Type, limit time.Duration) (grant, error) {
	old, err := as[*grant6](g)
	if err != nil {
		return nil, err
	}
	_, addr := old.given()
	if addr == nil {
		return c.grant(ctx, limit)
	}
	var server dhcpv6.DUID
	if kind == dhcpv6.Renew {
		server = old.reply.ServerID
	}
	got, err := c.confirmed(ctx, kind, limit, server, addr)
	var forgotten *notBoundError
	if errors.As(err, &forgotten) {
		if got, err = c.request(ctx, forgotten.server, addr); err != nil {
			err = fmt.Errorf("%w: %w", errRefused, err)
		}
	}
	if err != nil {
		return nil, err
	}
	next := &grant6{saved6: old.saved6, router: old.router, reply: got}
	next.Reply = got.Packet
	return next, nil
}

// notBoundError says that a server knows nothing of the address.
type notBoundError struct{ server dhcpv6.DUID }

func (*notBoundError) Error() string { return "the server knows nothing of the address (NoBinding)" }

// confirmed asks a server, or all if it is nil, until one has confirmed the address, or refused it: errRefused, or notBoundError.
func (c *client6) confirmed(
	ctx context.Context, kind dhcpv6.Type, limit time.Duration, server dhcpv6.DUID, addr *dhcpv6.Address,
) (got *dhcpv6.Message, err error) {
	m := c.message(kind, server, association(addr))
	err = c.exchange(ctx, m, limit, dhcpv6.Reply, func(reply *dhcpv6.Message) (bool, error) {
		if _, _, err := associationIn(reply); err != nil {
			if statusOf(reply) == dhcpv6.NoBinding {
				return false, &notBoundError{reply.ServerID}
			}
			return false, fmt.Errorf("%w: %w", errRefused, err)
		}
		got = reply
		return true, nil
	})
	return got, err
}

// exchange sends a message until take has what it wants of the answers, or the time is up.
func (c *client6) exchange(
	ctx context.Context, m *dhcpv6.Message, limit time.Duration, want dhcpv6.Type, take func(*dhcpv6.Message) (done bool, err error),
) error {
	const serverPort6 = 547
	to := &unix.SockaddrInet6{Port: serverPort6, ZoneId: uint32(c.link.Index), Addr: netip.MustParseAddr("ff02::1:2").As16()}
	send := func(sofar time.Duration) error {
		return c.s.send(m.Bytes(sofar), to)
	}
	return c.s.exchange(ctx, c.timing, limit, send, c.answers(m, want, take))
}

// answers hands on those of the kind to a message.
func (c *client6) answers(m *dhcpv6.Message, want dhcpv6.Type, take func(*dhcpv6.Message) (bool, error)) func([]byte) (bool, error) {
	return func(packet []byte) (bool, error) {
		reply, err := dhcpv6.Parse(packet)
		if err != nil || reply.Type != want || reply.Transaction != m.Transaction || reply.ServerID == nil {
			return false, nil
		}
		if !bytes.Equal(reply.ClientID, c.duid) {
			return false, nil
		}
		return take(reply)
	}
}

// release tells the server that the address is free (RFC 8415, section 18.2.7). Only the container's own link leads to it.
func (protocol6) release(l *lease, g grant) error {
	old, err := as[*grant6](g)
	if err != nil {
		return err
	}
	_, addr := old.given()
	if addr == nil {
		return nil
	}
	n, err := l.enter()
	if err != nil {
		return err
	}
	defer n.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*parting)
	defer cancel()
	c, err := open6(ctx, n, l)
	if err != nil {
		return err
	}
	defer c.close()
	m := c.message(dhcpv6.Release, old.reply.ServerID, association(addr))
	return c.exchange(ctx, m, parting, dhcpv6.Reply, func(*dhcpv6.Message) (bool, error) { return true, nil })
}
