// Package loopback is the role that takes a container's loopback interface up.
package loopback

import (
	"context"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

type role struct{}

// New is the role.
func New() roles.Role { return role{} }

func (role) Add(ctx context.Context, r *roles.Request) (*types100.Result, error) {
	if _, err := roles.Apply(ctx, r, plan()); err != nil {
		return nil, err
	}
	if r.Prev != nil {
		return r.Prev, nil
	}
	have, err := netutil.Addrs(r.Sandbox, name)
	if err != nil {
		return nil, err
	}
	var ips []roles.IP
	for _, p := range have {
		if p.Addr().IsLoopback() {
			ips = append(ips, roles.IP{Prefix: p})
		}
	}
	return &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{{Name: name, Mac: "00:00:00:00:00:00", Sandbox: r.NetNS}},
		IPs:        roles.ResultIPs(ips, 0),
	}, nil
}

// Check wants the interface up, with those loopback addresses that ADD answered.
func (role) Check(ctx context.Context, r *roles.Request) error {
	if err := roles.Verify(ctx, r, plan()); err != nil {
		return err
	}
	have, err := netutil.Addrs(r.Sandbox, name)
	if err != nil {
		return err
	}
	want, err := roles.IPsOf(r.Prev.IPs)
	if err != nil {
		return err
	}
	for _, ip := range want {
		if ip.Prefix.Addr().IsLoopback() && !slices.Contains(have, ip.Prefix) {
			return errcode.Errorf(errcode.Differs, "%s has no address %s", name, ip.Prefix)
		}
	}
	return nil
}

// Del takes the interface down, as it was before, if its namespace is still there.
func (role) Del(_ context.Context, r *roles.Request) error {
	if r.Sandbox == nil {
		return nil
	}
	return netutil.SetDown(r.Sandbox, name)
}

func (role) GC(context.Context, *roles.Request, []roles.Attachment) error { return nil }

func (role) Status(context.Context, *roles.Request) error { return nil }

func (role) Conf() any { return &struct{}{} }

func (role) CheckConf(*roles.Request) error { return nil }
