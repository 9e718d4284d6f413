// Package vrf is the role that puts an interface of a container into a VRF, so that it has a routing table of its own.
package vrf

import (
	"context"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
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
	if r.Prev == nil {
		return nil, errcode.Errorf(errcode.InvalidConfig, "prevResult: missing; vrf needs a plugin before it that makes the interface")
	}
	if err := netutil.JoinVRF(ctx, r.Sandbox, c.vrf(), r.Owner.IfName, r.Undo); err != nil {
		return nil, err
	}
	return r.Prev, nil
}

func (role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	_, ips, err := roles.Attached(r)
	if err != nil {
		return err
	}
	p, err := c.plan(r.Owner, ips, roles.OwnRoutes(r, ips))
	if err != nil {
		return err
	}
	if err := netutil.VerifyVRF(r.Sandbox, c.vrf()); err != nil {
		return err
	}
	return roles.Verify(ctx, r, p)
}

// Del does without the VRF's name too, if it cannot be read.
func (role) Del(_ context.Context, r *roles.Request) error {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, true); err != nil || r.Sandbox == nil {
		return err
	}
	return netutil.LeaveVRF(r.Sandbox, c.VRFName, r.Owner.IfName)
}

// GC has nothing to remove: a VRF goes with its sandbox.
func (role) GC(context.Context, *roles.Request, []roles.Attachment) error { return nil }

func (role) Status(_ context.Context, r *roles.Request) error {
	if _, err := load(r); err != nil {
		return err
	}
	if err := netutil.KnowsVRF(r.Host); err != nil {
		return errcode.Errorf(errcode.NotAvailable, "%s", err.Error())
	}
	return nil
}

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r)
	return err
}
