// Package ptp is the role that connects a container to the host by a routed veth pair, without a bridge.
package ptp

import (
	"context"

	types100 "github.com/containernetworking/cni/pkg/types/100"

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
	return roles.AddRouted(ctx, r, c.routed(), c.DNS)
}

func (role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	return roles.CheckRouted(ctx, r, c.routed())
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

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r)
	return err
}
