// Package daemon keeps the leases of containers' addresses: it asks DHCP servers for them, renews them, and gives them back.
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/ipam/dhcp/wire"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/record"
)

// Where the daemon listens and keeps its leases.
const (
	DefaultSocket = "/run/cni/dhcp.sock"
	DefaultState  = "/var/lib/cni/dhcp"
)

// Config is what the command line says.
type Config struct {
	Socket     string // path of the socket, and of the folder beside it in which plugins leave word
	State      string // folder for the leases
	HostPrefix string // in front of the paths of namespaces: where the host's root is
	Timing     Timing
	Log        io.Writer
}

// DHCP is a daemon.
type DHCP struct {
	socket     string
	leases     record.Folder
	hostPrefix string
	timing     Timing
	log        io.Writer

	ctx   context.Context // ends with the daemon
	mutex sync.Mutex
	held  map[owner.Owner][]*lease // one of each family
	turns map[owner.Owner]*turn    // one call for an attachment at a time
}

// New makes a daemon and has it take up the leases that are on disk.
func New(ctx context.Context, c Config) (*DHCP, error) {
	d := &DHCP{
		socket: c.Socket, leases: record.Folder(c.State), hostPrefix: c.HostPrefix, timing: c.Timing, log: c.Log,
		ctx: ctx, held: map[owner.Owner][]*lease{}, turns: map[owner.Owner]*turn{},
	}
	all, err := readAll(d.leases)
	if err != nil {
		d.logf("leases in %s: %v", c.State, err)
	}
	for _, s := range all {
		s.doubtClock(time.Now())
		l, err := d.lease(*s)
		if err != nil {
			d.logf("%s: %v", s.Owner, err)
			continue
		}
		d.start(l)
	}
	d.heed()
	return d, nil
}

func (d *DHCP) logf(format string, args ...any) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	_, _ = fmt.Fprintf(d.log, format+"\n", args...)
}

// lease makes one of what is on disk, or is to be.
func (d *DHCP) lease(s saved) (l *lease, err error) {
	l = &lease{saved: s, d: d}
	if l.protocol, err = protocolOf(s.Family); err != nil {
		return nil, err
	}
	c := netConf{}
	if err := json.Unmarshal(s.Conf, &c); err != nil {
		return nil, fmt.Errorf("the network configuration: %w", err)
	}
	l.wishes = c.IPAM
	return l, nil
}

// start has a goroutine keep the lease.
func (d *DHCP) start(l *lease) {
	ctx, cancel := context.WithCancel(d.ctx)
	l.cancel, l.done = cancel, make(chan struct{})
	d.mutex.Lock()
	d.held[l.Owner] = append(d.held[l.Owner], l)
	d.mutex.Unlock()
	go l.keep(ctx)
}

// forget drops a lease without a word to the server.
func (d *DHCP) forget(l *lease) {
	d.mutex.Lock()
	// A copy: who has found the leases goes through them yet.
	left := slices.DeleteFunc(slices.Clone(d.held[l.Owner]), func(other *lease) bool { return other == l })
	if d.held[l.Owner] = left; len(left) == 0 {
		delete(d.held, l.Owner)
	}
	d.mutex.Unlock()
	if err := d.leases.Remove(l.file()); err != nil {
		d.logf("%s: %v", l.Owner, err)
	}
}

// stop ends the keeping of a lease.
func (d *DHCP) stop(l *lease) {
	l.cancel()
	<-l.done
	d.forget(l)
}

// end ends a lease, and gives the address back.
func (d *DHCP) end(l *lease) {
	d.stop(l)
	if err := l.release(); err != nil {
		d.logf("%s: release: %v", l.Owner, err) // it ends by itself
		return
	}
	d.logf("%s: released", l.Owner)
}

// find finds an attachment's leases.
func (d *DHCP) find(o owner.Owner) []*lease {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.held[o]
}

// findOf is its lease of a family, or nil.
func (d *DHCP) findOf(o owner.Owner, family string) *lease {
	for _, l := range d.find(o) {
		if l.Family == family {
			return l
		}
	}
	return nil
}

// alone keeps other calls for the attachment away until unlock is called.
func (d *DHCP) alone(o owner.Owner) (unlock func()) {
	d.mutex.Lock()
	t := d.turns[o]
	if t == nil {
		t = &turn{}
		d.turns[o] = t
	}
	t.calls++
	d.mutex.Unlock()
	t.Lock()
	return func() {
		t.Unlock()
		d.mutex.Lock()
		defer d.mutex.Unlock()
		if t.calls--; t.calls == 0 {
			delete(d.turns, o)
		}
	}
}

// turn is held by one of the calls for an attachment; the others wait.
type turn struct {
	sync.Mutex
	calls int
}

// heed does what plugins have left word of while no daemon ran.
func (d *DHCP) heed() { heed(d.socket, d.release) }

// Serve answers the calls that come in, until the context ends.
func (d *DHCP) Serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) { // for the moment: the leases must be kept
			d.logf("a call: %v", err)
			_ = pause(ctx, time.Second)
			continue
		}
		if err != nil {
			return err
		}
		go func() {
			if err := wire.Serve(ctx, c, d); err != nil && ctx.Err() == nil {
				d.logf("a call: %v", err)
			}
		}()
	}
}

// Wait returns when the goroutines that keep leases have ended, which they do with the context.
func (d *DHCP) Wait() {
	d.mutex.Lock()
	var all []*lease
	for _, leases := range d.held {
		all = append(all, leases...)
	}
	d.mutex.Unlock()
	for _, l := range all {
		<-l.done
	}
}
