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

	types100 "github.com/containernetworking/cni/pkg/types/100"
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

// netConf is what the daemon reads of a network configuration.
type netConf struct {
	Name string `json:"name"`
	IPAM Wishes `json:"ipam"`
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

// Allocate answers the leases that the attachment has, or asks for them: all families at the same time, and all or none.
func (d *DHCP) Allocate(ctx context.Context, a *wire.Args) (*types100.Result, error) {
	d.heed()
	o, w, err := request(a)
	if err != nil {
		return nil, err
	}
	defer d.alone(o)()
	ctx, cancel := context.WithTimeout(ctx, d.timing.ResendTimeout)
	defer cancel()
	answers := make([]answer, len(w.Wanted()))
	var all sync.WaitGroup
	for i, family := range w.Wanted() {
		all.Go(func() { answers[i] = d.obtain(ctx, o, a, family) })
	}
	all.Wait()
	res := &types100.Result{}
	for _, got := range answers {
		if err = errors.Join(err, got.err); err == nil {
			merge(res, got.grant.result(&w))
		}
	}
	if err == nil {
		return res, nil
	}
	for _, got := range answers {
		if got.made != nil {
			d.end(got.made)
		}
	}
	return nil, err
}

// answer is what became of one family.
type answer struct {
	grant grant
	made  *lease // if it is a new one
	err   error
}

// obtain finds the lease of a family, or asks for one.
func (d *DHCP) obtain(ctx context.Context, o owner.Owner, a *wire.Args, family string) (got answer) {
	if l := d.findOf(o, family); l != nil {
		if g := l.standing(a); g != nil {
			return answer{grant: g}
		}
		d.stop(l) // of a container that is gone, or whose address is
	}
	l, err := d.lease(saved{Owner: o, Netns: a.Netns, Args: a.Args, Conf: a.StdinData, Family: family})
	if err != nil {
		return answer{err: err}
	}
	if got.grant, err = l.ask(ctx, func(c client) (grant, error) { return c.lease(ctx) }); err != nil {
		return answer{err: err}
	}
	if err := l.commit(got.grant); err != nil {
		return answer{err: errors.Join(err, l.release())}
	}
	d.logf("%s: has %s", o, got.grant)
	d.start(l)
	got.made = l
	return got
}

// merge adds one family's part of a result to the others'.
func merge(into, from *types100.Result) {
	into.IPs = append(into.IPs, from.IPs...)
	into.Routes = append(into.Routes, from.Routes...)
	into.DNS.Nameservers = appendNew(into.DNS.Nameservers, from.DNS.Nameservers)
	into.DNS.Search = appendNew(into.DNS.Search, from.DNS.Search)
	if into.DNS.Domain == "" {
		into.DNS.Domain = from.DNS.Domain
	}
}

func appendNew(to, more []string) []string {
	for _, s := range more {
		if !slices.Contains(to, s) {
			to = append(to, s)
		}
	}
	return to
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
	for _, l := range d.find(o) {
		d.end(l)
	}
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
	for _, leases := range d.held {
		all = append(all, leases...)
	}
	d.mutex.Unlock()
	for _, l := range all {
		<-l.done
	}
}
