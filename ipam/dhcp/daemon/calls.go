package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/ipam/dhcp/wire"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// This file is what plugins call.

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
	conf, args, err := lasting(a)
	if err != nil {
		return answer{err: err}
	}
	l, err := d.lease(saved{Owner: o, Netns: a.Netns, Args: args, Conf: conf, Family: family})
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

// lasting is what a lease goes by as long as it is kept, on disk too. What else a configuration and CNI_ARGS hold can be a secret.
func lasting(a *wire.Args) (conf []byte, args string, err error) {
	c := netConf{}
	if err := json.Unmarshal(a.StdinData, &c); err != nil {
		return nil, "", fmt.Errorf("the network configuration: %w", err)
	}
	all := cniArgs(a.Args)
	for _, p := range c.IPAM.Provide {
		if value, ok := all[p.FromArg]; ok {
			args += p.FromArg + "=" + value + ";"
		}
	}
	conf, err = json.Marshal(c)
	return conf, args, err
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
