// Package ipvlan is the role that gives a container an interface on one of the host's, whose MAC address it shares.
package ipvlan

import (
	"context"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
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
	if err := c.takeOver(r); err != nil {
		return nil, err
	}
	master, err := c.FindMaster(r)
	if err != nil {
		return nil, err
	}
	if err := roles.CheckMasterMTU(c.MTU, master); err != nil {
		return nil, err
	}
	return c.plan(master).Add(ctx, r)
}

func (role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	return c.plan(nil).Check(ctx, r)
}

func (role) Del(ctx context.Context, r *roles.Request) error {
	return roles.DetachInside(ctx, r, netutil.IPvlan)
}

func (role) GC(ctx context.Context, r *roles.Request, _ []roles.Attachment) error {
	return roles.CollectInside(ctx, r)
}

func (role) Status(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	return c.MasterStatus(ctx, r)
}

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r)
	return err
}
