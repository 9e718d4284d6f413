// Package ptp is the role that connects a container to the host by a routed veth pair, without a bridge.
package ptp

import (
	"context"
	"net"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/roles"
)

type role struct{}

// New is the role.
func New() roles.Role { return role{} }

func (role) Add(ctx context.Context, r *roles.Request) (*types100.Result, error) {
	c, err := load(r)
	if err != nil {
		return nil, err
	}
	res := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	var ips []roles.IP
	var mac net.HardwareAddr
	made, err := roles.Attach(ctx, r, res, func(given []roles.IP) (p *netutil.Plan, err error) {
		if ips, err = roles.WithGateways(given); err != nil {
			return nil, err
		}
		if mac == nil {
			mac = roles.PodMAC(r.Owner, ips)
		}
		return c.plan(r.Owner, mac, ips, res.Routes)
	})
	if err != nil {
		return nil, err
	}
	hostMAC, mtu := made.Link(netutil.Host, r.Owner.LinkName())
	res.Interfaces = []*types100.Interface{
		{Name: r.Owner.LinkName(), Mac: hostMAC.String(), Mtu: mtu},
		{Name: r.Owner.IfName, Mac: mac.String(), Mtu: mtu, Sandbox: r.NetNS},
	}
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
	if ips, err = roles.WithGateways(ips); err != nil {
		return err
	}
	p, err := c.plan(r.Owner, mac, ips, roles.OwnRoutes(r, ips))
	if err != nil {
		return err
	}
	return roles.Verify(ctx, r, p)
}

func (role) Del(ctx context.Context, r *roles.Request) error {
	return roles.Detach(ctx, r, nft.Masquerade)
}

func (role) GC(ctx context.Context, r *roles.Request, valid []roles.Attachment) error {
	return roles.Collect(ctx, r, valid, nft.Masquerade)
}

func (role) Status(ctx context.Context, r *roles.Request) error {
	if _, err := load(r); err != nil {
		return err
	}
	return r.IPAM.Status(ctx)
}
