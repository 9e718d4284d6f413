package daemon

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cnibox/cnibox/ipam/dhcp/wire"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
)

// errGone says that the container is gone, and with it the need for an address.
var errGone = errors.New("the container is gone")

// lease is an attachment's address of one family, and what keeps it. A goroutine waits for the times at which something is to be done; it holds neither a
// thread nor a descriptor meanwhile.
type lease struct {
	mutex sync.Mutex // guards what changes of saved, which only the goroutine does once it runs
	saved
	d        *DHCP
	protocol protocol
	wishes   Wishes
	cancel   context.CancelFunc
	done     chan struct{} // closed when the goroutine has ended
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
	l.mutex.Lock()
	l.Namespace = id
	l.mutex.Unlock()
	n, err := netutil.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errGone
	}
	return n, err
}

// ask has a conversation with servers in the container's namespace.
func (l *lease) ask(ctx context.Context, do func(client) (grant, error)) (grant, error) {
	n, err := l.enter()
	if err != nil {
		return nil, err
	}
	defer n.Close()
	c, err := l.protocol.open(ctx, n, l)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return do(c)
}

// commit takes over what has been granted, on disk too.
func (l *lease) commit(g grant) error {
	t1, t2, end := g.times(time.Now())
	return l.change(g.bytes(), t1, t2, end)
}

func (l *lease) change(granted []byte, t1, t2, end time.Time) error {
	l.mutex.Lock()
	l.Granted, l.T1, l.T2, l.End = granted, t1, t2, end
	l.mutex.Unlock()
	return l.write(l.d.leases)
}

// standing is what is granted, if it is still so and for the container that calls: an identifier may come again.
func (l *lease) standing(a *wire.Args) grant {
	l.mutex.Lock()
	s := l.saved
	l.mutex.Unlock()
	g, err := s.granted()
	id, idErr := identity(l.d.hostPrefix + a.Netns)
	if err != nil || idErr != nil || id != s.Namespace || !time.Now().Before(s.End) {
		return nil
	}
	return g
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

// step waits for what is next, and does it: renew at T1, rebind at T2, begin anew at the end (RFC 2131, section 4.4.5; RFC 8415, section 14.2).
func (l *lease) step(ctx context.Context) error {
	g, err := l.granted()
	if err != nil {
		return err
	}
	now := time.Now()
	switch {
	case now.Before(l.T1):
		return pause(ctx, l.T1.Sub(now))
	case now.Before(l.T2):
		return l.extend(ctx, g, l.T2.Sub(now), client.renew)
	case now.Before(l.End):
		return l.extend(ctx, g, l.End.Sub(now), client.rebind)
	}
	return l.anew(ctx, g)
}

type extension func(client, context.Context, grant, time.Duration) (grant, error)

// extend asks for more time. That nobody answers is no error: there is a next step.
func (l *lease) extend(ctx context.Context, g grant, limit time.Duration, ask extension) error {
	got, err := l.ask(ctx, func(c client) (grant, error) { return ask(c, ctx, g, limit) })
	switch {
	case errors.Is(err, errRefused):
		l.d.logf("%s: %s: %v", l.Owner, g, err)
		now := time.Now()
		return l.change(l.Granted, now, now, now)
	case errors.Is(err, os.ErrDeadlineExceeded):
		l.d.logf("%s: %s: no server answers", l.Owner, g)
		return nil
	case err != nil:
		return err
	}
	if err := l.replace(g, got); err != nil {
		return err
	}
	l.d.logf("%s: %s renewed", l.Owner, got)
	return l.commit(got)
}

// anew takes the address away, whose time is over, and asks for one until there is one.
func (l *lease) anew(ctx context.Context, old grant) error {
	if err := l.replace(old, nil); err != nil {
		return err
	}
	got, err := l.ask(ctx, func(c client) (grant, error) { return c.lease(ctx) })
	if err != nil {
		return err
	}
	if err := l.replace(nil, got); err != nil {
		return err
	}
	l.d.logf("%s: has %s now", l.Owner, got)
	return l.commit(got)
}

// replace takes an address and its routes from the container's interface, and gives it another one; either may be nil. Where all is the same, nothing
// is touched.
func (l *lease) replace(old, next grant) error {
	before, routesBefore := l.planned(old)
	after, routes := l.planned(next)
	if before == after && slices.Equal(routesBefore, routes) {
		return nil
	}
	n, err := l.enter()
	if err != nil {
		return err
	}
	defer n.Close()
	if before.IsValid() {
		if err := netutil.RemoveAddr(n, l.Owner.IfName, before); err != nil {
			return err
		}
	}
	if !after.IsValid() {
		return nil
	}
	return netutil.Reconfigure(n, l.Owner.IfName, after, routes)
}

// planned are the address and the routes of a grant.
func (l *lease) planned(g grant) (addr netip.Prefix, routes []netutil.Route) {
	if g == nil {
		return addr, nil
	}
	for _, r := range g.result(&l.wishes).Routes {
		dst, ok := netutil.Prefix(r.Dst)
		gw, _ := netip.AddrFromSlice(r.GW)
		if ok {
			routes = append(routes, netutil.Route{Dst: dst.Masked(), Gateway: gw.Unmap(), Priority: r.Priority, MTU: r.MTU})
		}
	}
	return g.address(), routes
}

func prefixOf(n net.IPNet) netip.Prefix {
	p, _ := netutil.Prefix(n)
	return p
}

// release gives the address back.
func (l *lease) release() error {
	g, err := l.granted()
	if err != nil {
		return err
	}
	return l.protocol.release(l, g)
}
