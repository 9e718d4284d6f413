// Package bridge is the role that attaches a container to a Linux bridge.
package bridge

import (
	"context"

	types100 "github.com/containernetworking/cni/pkg/types/100"

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
	res, _, err := roles.AddBridged(ctx, r, c.bridged(), c.DNS)
	return res, err
}

func (role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	return roles.CheckBridged(ctx, r, c.bridged())
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

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r)
	return err
}
