// Package daemon keeps the leases of containers' addresses: it asks DHCP servers for them, renews them, and gives them back.
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/ipam/dhcp/wire"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/record"
	"github.com/cnibox/cnibox/roles"
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
	held  map[owner.Owner]*lease
	turns map[owner.Owner]*turn // one call for an attachment at a time
}

// New makes a daemon and has it take up the leases that are on disk.
func New(ctx context.Context, c Config) (*DHCP, error) {
	d := &DHCP{
		socket: c.Socket, leases: record.Folder(c.State), hostPrefix: c.HostPrefix, timing: c.Timing, log: c.Log,
		ctx: ctx, held: map[owner.Owner]*lease{}, turns: map[owner.Owner]*turn{},
	}
	all, err := readAll(d.leases)
	if err != nil {
		d.logf("leases in %s: %v", c.State, err)
	}
	for _, s := range all {
		l := &lease{saved: *s, d: d}
		if l.wishes, err = wishesOf(s.Conf); err != nil {
			d.logf("%s: %v", s.Owner, err)
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

// start has a goroutine keep the lease.
func (d *DHCP) start(l *lease) {
	ctx, cancel := context.WithCancel(d.ctx)
	l.cancel, l.done = cancel, make(chan struct{})
	d.mutex.Lock()
	d.held[l.Owner] = l
	d.mutex.Unlock()
	go l.keep(ctx)
}

// forget drops a lease without a word to the server.
func (d *DHCP) forget(l *lease) {
	d.mutex.Lock()
	if d.held[l.Owner] == l {
		delete(d.held, l.Owner)
	}
	d.mutex.Unlock()
	if err := d.leases.Remove(nameOf(l.Owner)); err != nil {
		d.logf("%s: %v", l.Owner, err)
	}
}

func (d *DHCP) find(o owner.Owner) *lease {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.held[o]
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

// netConf is what the daemon reads of a network configuration.
type netConf struct {
	Name string `json:"name"`
	IPAM Wishes `json:"ipam"`
}

func wishesOf(conf []byte) (Wishes, error) {
	c := netConf{}
	err := json.Unmarshal(conf, &c)
	return c.IPAM, err
}

// request reads a call's arguments.
func request(a *wire.Args) (o owner.Owner, w Wishes, err error) {
	c := netConf{}
	if err := json.Unmarshal(a.StdinData, &c); err != nil {
		return o, w, fmt.Errorf("the network configuration: %w", err)
	}
	o = owner.Owner{Network: c.Name, ContainerID: a.ContainerID, IfName: a.IfName}
	if o.Network == "" || o.ContainerID == "" || o.IfName == "" {
		return o, w, errors.New("network, container ID and interface name are all needed")
	}
	if err := c.IPAM.Check(); err != nil {
		return o, w, fmt.Errorf("ipam.%w", err)
	}
	return o, c.IPAM, nil
}

func cniArgs(s string) map[string]string {
	args, err := roles.ParseArgs(s)
	if err != nil {
		return nil
	}
	return args
}

// Allocate answers the lease that the attachment has, or asks for one.
func (d *DHCP) Allocate(ctx context.Context, a *wire.Args) (*types100.Result, error) {
	d.heed()
	o, w, err := request(a)
	if err != nil {
		return nil, err
	}
	defer d.alone(o)()
	if l := d.find(o); l != nil {
		if ack, err := l.ack(); err == nil && l.current(a) && time.Now().Before(l.End) {
			return w.result(ack), nil
		}
		d.stop(l) // of a container that is gone, or whose address is
	}
	l := &lease{saved: saved{Owner: o, Netns: a.Netns, Args: a.Args, Conf: a.StdinData}, d: d, wishes: w}
	ctx, cancel := context.WithTimeout(ctx, d.timing.ResendTimeout)
	defer cancel()
	ack, err := l.ask(func(c *client) (*dhcpv4.DHCPv4, error) { return c.lease(ctx) })
	if err != nil {
		return nil, err
	}
	if err := l.commit(ack); err != nil {
		return nil, errors.Join(err, l.release())
	}
	d.logf("%s: has %s", o, ack.YourIPAddr)
	d.start(l)
	return w.result(ack), nil
}

// current tells whether the lease is that of the container which calls: an identifier may come again.
func (l *lease) current(a *wire.Args) bool {
	id, err := identity(l.d.hostPrefix + a.Netns)
	return err == nil && id == l.Namespace
}

// stop ends the keeping of a lease.
func (d *DHCP) stop(l *lease) {
	l.cancel()
	<-l.done
	d.forget(l)
}

// Release gives the attachment's lease back.
func (d *DHCP) Release(_ context.Context, a *wire.Args) error {
	d.heed()
	c := netConf{}
	if err := json.Unmarshal(a.StdinData, &c); err != nil {
		return fmt.Errorf("the network configuration: %w", err)
	}
	d.release(owner.Owner{Network: c.Name, ContainerID: a.ContainerID, IfName: a.IfName})
	return nil
}

func (d *DHCP) release(o owner.Owner) {
	defer d.alone(o)()
	l := d.find(o)
	if l == nil {
		return
	}
	d.stop(l)
	if err := l.release(); err != nil {
		d.logf("%s: release: %v", o, err) // it ends by itself
		return
	}
	d.logf("%s: released", o)
}

// Valid are a network's attachments whose leases are kept.
type Valid struct {
	Network     string      `json:"network"`
	Attachments [][2]string `json:"attachments"` // container ID and interface name
}

// Collect gives the network's other leases back.
func (d *DHCP) Collect(_ context.Context, a *wire.Args) error {
	d.heed()
	v := Valid{}
	if err := json.Unmarshal(a.StdinData, &v); err != nil {
		return fmt.Errorf("the valid attachments: %w", err)
	}
	keep := map[owner.Owner]bool{}
	for _, at := range v.Attachments {
		keep[owner.Owner{Network: v.Network, ContainerID: at[0], IfName: at[1]}] = true
	}
	var stale []owner.Owner
	d.mutex.Lock()
	for o := range d.held {
		if o.Network == v.Network && !keep[o] {
			stale = append(stale, o)
		}
	}
	d.mutex.Unlock()
	for _, o := range stale {
		d.release(o)
	}
	return nil
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
	for _, l := range d.held {
		all = append(all, l)
	}
	d.mutex.Unlock()
	for _, l := range all {
		<-l.done
	}
}
