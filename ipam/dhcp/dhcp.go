// Package dhcp is the ipam role that asks a DHCP server for addresses, by way of a daemon that renews their leases.
package dhcp

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/ipam/dhcp/daemon"
	"github.com/cnibox/cnibox/ipam/dhcp/wire"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

type role struct{}

// New is the role.
func New() roles.Role { return role{} }

func (role) Add(ctx context.Context, r *roles.Request) (*types100.Result, error) {
	c, err := load(r, false)
	if err != nil {
		return nil, err
	}
	return allocate(ctx, c, r)
}

func allocate(ctx context.Context, c *conf, r *roles.Request) (*types100.Result, error) {
	res, err := wire.Allocate(ctx, c.IPAM.DaemonSocketPath, args(r))
	if err != nil {
		return nil, failed(ctx, c, err)
	}
	for _, family := range c.IPAM.Wanted() {
		if !slices.ContainsFunc(res.IPs, func(ip *types100.IPConfig) bool { return (ip.Address.IP.To4() == nil) == (family == daemon.IPv6) }) {
			return nil, errcode.Errorf(errcode.DelegateFailed, "ipam.families: the dhcp daemon at %s gave no address of %s", c.IPAM.DaemonSocketPath, family)
		}
	}
	res.CNIVersion = types100.ImplementedSpecVersion
	return res, nil
}

// failed explains why the daemon did not answer. All of it may pass: the daemon starts, the server comes back.
func failed(ctx context.Context, c *conf, err error) error {
	switch {
	case errors.Is(err, wire.ErrAbsent):
		return errcode.Errorf(errcode.TryAgainLater, "ipam.daemonSocketPath: %w", err)
	case ctx.Err() != nil:
		return errcode.Errorf(errcode.TryAgainLater, "ipam: interrupted while the dhcp daemon at %s was asking: %w", c.IPAM.DaemonSocketPath, ctx.Err())
	}
	return errcode.Errorf(errcode.TryAgainLater, "ipam: the dhcp daemon at %s: %w", c.IPAM.DaemonSocketPath, err)
}

// args are those of the reference's calls. The daemon works in another folder, so the namespace's path must be absolute.
func args(r *roles.Request) *wire.Args {
	a := &wire.Args{ContainerID: r.Owner.ContainerID, IfName: r.Owner.IfName, Args: r.Args, Path: r.Path, StdinData: r.Conf}
	if r.NetNS != "" {
		a.Netns = r.NetNS
		if abs, err := filepath.Abs(r.NetNS); err == nil {
			a.Netns = abs
		}
	}
	return a
}

// Check asks for the lease that there is; a daemon that has lost it would ask for a new one, as the reference's does.
func (role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r, false)
	if err != nil {
		return err
	}
	res, err := allocate(ctx, c, r)
	if err != nil {
		return err
	}
	for _, ip := range res.IPs {
		p, _ := netutil.Prefix(ip.Address)
		if !slices.ContainsFunc(r.Prev.IPs, func(have *types100.IPConfig) bool { return have != nil && same(have, p) }) {
			return errcode.Errorf(errcode.Differs, "ipam: the lease is for %s, which prevResult does not have", p)
		}
	}
	return nil
}

func same(have *types100.IPConfig, p netip.Prefix) bool {
	h, ok := netutil.Prefix(have.Address)
	return ok && h == p
}

// Del has the lease given back. Without a daemon it leaves word for the next one.
func (role) Del(ctx context.Context, r *roles.Request) error {
	c, err := load(r, true)
	if err != nil {
		return err
	}
	socket, a := c.IPAM.DaemonSocketPath, args(r)
	err = wire.Release(ctx, socket, a)
	if !errors.Is(err, wire.ErrAbsent) {
		if err != nil {
			return failed(ctx, c, err)
		}
		return nil
	}
	if daemon.LeaveWord(socket, r.Owner) {
		// It may have started in between, and have looked for words already.
		_ = wire.Release(ctx, socket, a)
	}
	return nil
}

// GC tells a daemon of ours which attachments are valid; the reference's knows no such call. Without a daemon there is nothing to collect that
// would not be found when it starts: leases of containers that are gone.
func (role) GC(ctx context.Context, r *roles.Request, valid []roles.Attachment) error {
	c, err := load(r, true)
	if err != nil {
		return err
	}
	keep := daemon.Valid{Network: r.Owner.Network}
	for _, v := range valid {
		keep.Attachments = append(keep.Attachments, [2]string{v.ContainerID, v.IfName})
	}
	text, err := json.Marshal(keep)
	if err != nil {
		return errcode.Errorf(errcode.Internal, "encode the valid attachments: %w", err)
	}
	err = wire.Collect(ctx, c.IPAM.DaemonSocketPath, &wire.Args{StdinData: text})
	var remote wire.Remote
	if errors.Is(err, wire.ErrAbsent) || errors.As(err, &remote) {
		return nil
	}
	return err
}

func (role) Status(ctx context.Context, r *roles.Request) error {
	c, err := load(r, false)
	if err != nil {
		return err
	}
	if err := wire.Ping(ctx, c.IPAM.DaemonSocketPath); err != nil {
		return errcode.Errorf(errcode.NotAvailable, "ipam.daemonSocketPath: %w", err)
	}
	return nil
}

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r, false)
	return err
}
