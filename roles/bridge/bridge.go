// Package bridge is the role that attaches a container to a Linux bridge.
package bridge

import (
	"context"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/roles"
)

type role struct{}

// New is the role.
func New() roles.Role { return role{} }

// features are what the role puts into the packet filter.
func features() []nft.Feature { return []nft.Feature{nft.Masquerade, nft.SpoofCheck} }

func (role) Add(ctx context.Context, r *roles.Request) (*types100.Result, error) {
	c, err := load(r)
	if err != nil {
		return nil, err
	}
	res := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	var ips []roles.IP
	mac := c.mac
	made, err := roles.Attach(ctx, r, res, func(given []roles.IP) (p *netutil.Plan, err error) {
		if ips, err = c.gateways(given); err != nil {
			return nil, err
		}
		if c.IsDefaultGateway {
			res.Routes = roles.WithDefault(res.Routes, ips)
		}
		if mac == nil {
			mac = roles.PodMAC(r.Owner, ips)
		}
		return c.plan(r.Owner, mac, ips, res.Routes)
	})
	if err != nil {
		return nil, err
	}
	res.Interfaces = roles.BridgedInterfaces(r, made, c.Bridge, mac)
	return roles.Answer(r, res, ips, c.DNS), nil
}

func (role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	ips, mac, err := roles.Expected(ctx, r)
	if err != nil {
		return err
	}
	if ips, err = c.gateways(ips); err != nil {
		return err
	}
	p, err := c.plan(r.Owner, mac, ips, roles.OwnRoutes(r, ips))
	if err != nil {
		return err
	}
	return roles.Verify(ctx, r, p)
}

func (role) Del(ctx context.Context, r *roles.Request) error {
	return roles.Detach(ctx, r, features()...)
}

func (role) GC(ctx context.Context, r *roles.Request, valid []roles.Attachment) error {
	return roles.Collect(ctx, r, valid, features()...)
}

func (role) Status(ctx context.Context, r *roles.Request) error {
	if _, err := load(r); err != nil {
		return err
	}
	if r.IPAM == nil {
		return nil
	}
	return r.IPAM.Status(ctx)
}
