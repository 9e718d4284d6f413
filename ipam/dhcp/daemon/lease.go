package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
)

// errGone says that the container is gone, and with it the need for an address.
var errGone = errors.New("the container is gone")

// lease is an attachment's address, and what keeps it. A goroutine waits for the times at which something is to be done; it holds neither a
// thread nor a descriptor meanwhile.
type lease struct {
	saved
	d      *DHCP
	wishes Wishes
	cancel context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended
}

// clientID is the reference's (its daemon's leases are gone with it, but servers remember).
func clientID(o owner.Owner) string {
	id := o.ContainerID + "/" + o.Network + "/" + o.IfName
	const most = 254 // an option has 255 bytes, of which one is the kind
	return id[:min(len(id), most)]
}

// enter opens the container's namespace, if it is still the same one.
func (l *lease) enter() (*netutil.Namespace, error) {
	path := l.d.hostPrefix + l.Netns
	id, err := identity(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && l.Namespace != "" && id != l.Namespace:
		return nil, errGone
	case err != nil:
		return nil, err
	}
	l.Namespace = id
	n, err := netutil.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errGone
	}
	return n, err
}

// ask makes an exchange in the container's namespace.
func (l *lease) ask(do func(*client) (*dhcpv4.DHCPv4, error)) (*dhcpv4.DHCPv4, error) {
	n, err := l.enter()
	if err != nil {
		return nil, err
	}
	defer n.Close()
	c, err := newClient(n, l.Owner.IfName, l.wishes.modifiers(clientID(l.Owner), cniArgs(l.Args)), l.d.timing)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return do(c)
}

// commit takes over what a server has acknowledged, on disk too.
func (l *lease) commit(ack *dhcpv4.DHCPv4) error {
	l.ACK = ack.ToBytes()
	l.T1, l.T2, l.End = times(ack, time.Now())
	return l.write(l.d.leases)
}

// keep renews the lease until the context ends or the container is gone.
func (l *lease) keep(ctx context.Context) {
	defer close(l.done)
	for ctx.Err() == nil {
		err := l.step(ctx)
		switch {
		case errors.Is(err, errGone):
			l.d.logf("%s: %v", l.Owner, err)
			l.d.forget(l)
			return
		case err != nil && ctx.Err() == nil:
			l.d.logf("%s: %v", l.Owner, err)
			_ = pause(ctx, l.d.timing.jitter(time.Second)) // whatever it was must not keep a processor busy
		}
	}
}

// step waits for what is next, and does it: renew at T1, rebind at T2, begin anew at the end (RFC 2131, section 4.4.5).
func (l *lease) step(ctx context.Context) error {
	ack, err := l.ack()
	if err != nil {
		return err
	}
	now := time.Now()
	switch {
	case now.Before(l.T1):
		return pause(ctx, l.T1.Sub(now))
	case now.Before(l.T2):
		return l.extend(ctx, ack, l.T2.Sub(now), (*client).renew)
	case now.Before(l.End):
		return l.extend(ctx, ack, l.End.Sub(now), (*client).rebind)
	}
	return l.anew(ctx, ack)
}

type extension func(*client, context.Context, *dhcpv4.DHCPv4, time.Duration) (*dhcpv4.DHCPv4, error)

// extend asks for more time. That nobody answers is no error: there is a next step.
func (l *lease) extend(ctx context.Context, ack *dhcpv4.DHCPv4, until time.Duration, ask extension) error {
	got, err := l.ask(func(c *client) (*dhcpv4.DHCPv4, error) { return ask(c, ctx, ack, until) })
	switch {
	case errors.Is(err, errNAK):
		l.d.logf("%s: %s: %v", l.Owner, ack.YourIPAddr, err)
		now := time.Now()
		l.T1, l.T2, l.End = now, now, now
		return l.write(l.d.leases)
	case errors.Is(err, os.ErrDeadlineExceeded):
		l.d.logf("%s: %s: no server answers", l.Owner, ack.YourIPAddr)
		return nil
	case err != nil:
		return err
	}
	if got.YourIPAddr.Equal(ack.YourIPAddr) {
		inherit(got, ack)
	} else if err := l.replace(ack, got); err != nil {
		return err
	}
	l.d.logf("%s: %s renewed", l.Owner, got.YourIPAddr)
	return l.commit(got)
}

// anew takes the address away, whose time is over, and asks for one until there is one.
func (l *lease) anew(ctx context.Context, old *dhcpv4.DHCPv4) error {
	if err := l.replace(old, nil); err != nil {
		return err
	}
	got, err := l.ask(func(c *client) (*dhcpv4.DHCPv4, error) { return c.lease(ctx) })
	if err != nil {
		return err
	}
	if err := l.replace(nil, got); err != nil {
		return err
	}
	l.d.logf("%s: has %s now", l.Owner, got.YourIPAddr)
	return l.commit(got)
}

// replace takes an address and its routes from the container's interface, and gives it another one; either may be nil.
func (l *lease) replace(old, next *dhcpv4.DHCPv4) error {
	n, err := l.enter()
	if err != nil {
		return err
	}
	defer n.Close()
	if old != nil {
		if err := netutil.RemoveAddr(n, l.Owner.IfName, prefixOf(address(old))); err != nil {
			return err
		}
	}
	if next == nil {
		return nil
	}
	var routes []netutil.Route
	for _, r := range l.wishes.result(next).Routes {
		dst, ok := netutil.Prefix(r.Dst)
		gw, _ := netip.AddrFromSlice(r.GW)
		if ok {
			routes = append(routes, netutil.Route{Dst: dst.Masked(), Gateway: gw.Unmap(), Priority: r.Priority, MTU: r.MTU})
		}
	}
	return netutil.Reconfigure(n, l.Owner.IfName, prefixOf(address(next)), routes)
}

func prefixOf(n net.IPNet) netip.Prefix {
	p, _ := netutil.Prefix(n)
	return p
}

// release tells the server that the address is free (RFC 2131, section 4.4.6). From a container that is gone the host speaks in its place, if it
// has a way to the server.
func (l *lease) release() error {
	ack, err := l.ack()
	if err != nil {
		return err
	}
	m, err := dhcpv4.NewReleaseFromACK(ack, l.wishes.modifiers(clientID(l.Owner), cniArgs(l.Args))...)
	server := ack.ServerIdentifier()
	if err != nil || server == nil {
		return fmt.Errorf("release: no server to tell: %w", err)
	}
	n, err := l.enter()
	if err != nil {
		if n, err = netutil.Current(); err != nil {
			return err
		}
		defer n.Close()
		return unicast(n, nil, server, m)
	}
	defer n.Close()
	if unicast(n, ack.YourIPAddr, server, m) == nil {
		return nil
	}
	// The interface no longer has the address, or no route to the server. One that is on the same link hears it all the same.
	_, err = l.ask(func(c *client) (*dhcpv4.DHCPv4, error) { return nil, c.s.send(m, server) })
	return err
}
