// Package sbr is the role that has a container answer on the interface where it was asked: routing by source.
package sbr

import (
	"context"
	"net/netip"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/roles"
)

type role struct{}

// New is the role.
func New() roles.Role { return role{} }

func (role) Add(_ context.Context, r *roles.Request) (*types100.Result, error) {
	c, err := load(r)
	if err != nil {
		return nil, err
	}
	if err := roles.NeedPrev(r, "sbr"); err != nil {
		return nil, err
	}
	_, ips, err := roles.Attached(r)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		return nil, invalid("prevResult: the interface %s has no address to route by", r.Owner.IfName)
	}
	if err := netutil.RouteBySource(r.Sandbox, r.Owner.IfName, c.plan(ips), r.Undo); err != nil {
		return nil, err
	}
	return r.Prev, nil
}

func (role) Check(_ context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	_, ips, err := roles.Attached(r)
	if err != nil {
		return err
	}
	return netutil.VerifySources(r.Sandbox, r.Owner.IfName, c.plan(ips))
}

// Del needs no configuration: rules are told by their addresses. All else is gone with the namespace.
func (role) Del(_ context.Context, r *roles.Request) error {
	if r.Sandbox == nil {
		return r.SandboxErr
	}
	var given []netip.Addr
	if r.Prev != nil {
		if _, ips, err := roles.Attached(r); err == nil {
			for _, ip := range ips {
				given = append(given, ip.Prefix.Addr())
			}
		}
	}
	return netutil.ForgetSources(r.Sandbox, r.Owner.IfName, given)
}

// GC has nothing to do: rules and tables go with their containers.
func (role) GC(context.Context, *roles.Request, []roles.Attachment) error { return nil }

func (role) Status(_ context.Context, r *roles.Request) error {
	_, err := load(r)
	return err
}

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r)
	return err
}
