// Package tap is the role that gives a container a tap device, for a program such as a virtual machine to open.
package tap

import (
	"context"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

type role struct{ tun string } // the path of netutil.TunDevice

// New is the role.
func New() roles.Role { return role{netutil.TunDevice} }

func (x role) Add(ctx context.Context, r *roles.Request) (*types100.Result, error) {
	c, err := load(r)
	if err != nil {
		return nil, err
	}
	if err := c.checkHost(r.Sandbox); err != nil {
		return nil, err
	}
	return x.plan(c).Add(ctx, r)
}

func (x role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	return x.plan(c).Check(ctx, r)
}

func (role) Del(ctx context.Context, r *roles.Request) error {
	return roles.DetachInside(ctx, r, netutil.TapDevice)
}

func (role) GC(ctx context.Context, r *roles.Request, _ []roles.Attachment) error {
	return roles.CollectInside(ctx, r)
}

func (x role) Status(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	file, err := netutil.OpenTun(x.tun)
	if err == nil {
		_ = file.Close()
		err = c.checkHost(nil)
	}
	if err != nil {
		return errcode.Errorf(errcode.NotAvailable, "%s", err.Error())
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
