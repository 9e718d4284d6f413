// Package vxlan is the role that connects the pods of many nodes: each node has a subnet of its own, and what pods send to that of another node goes
// through a VXLAN tunnel; or else the pods of all nodes are on one link, which the tunnel makes of a bridge on each node.
package vxlan

import (
	"context"
	"errors"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/overlay"
	"github.com/cnibox/cnibox/roles"
)

type role struct{}

// New is the role.
func New() roles.Role { return role{} }

// features are what the role puts into the packet filter for an attachment.
func features() []nft.Feature { return []nft.Feature{nft.Masquerade, nft.SpoofCheck} }

func (role) Add(ctx context.Context, r *roles.Request) (*types100.Result, error) {
	c, err := load(r)
	if err != nil {
		return nil, err
	}
	mtu, err := join(r, c)
	if err != nil {
		return nil, err
	}
	if c.overlay.Bridge != "" {
		return c.addBridged(ctx, r, mtu)
	}
	return roles.AddRouted(ctx, r, roles.Routed{MTU: mtu, Masquerade: c.IPMasq}, c.DNS)
}

// join has the tunnel stand, for the attachment too.
func join(r *roles.Request, c *conf) (mtu int, err error) {
	if existing, err := netutil.FindLink(r.Host, r.Owner.LinkName()); err != nil {
		return 0, err
	} else if existing != nil { // it uses the tunnel already, and goes on doing so
		return 0, errcode.Errorf(errcode.AlreadyExists, "%s: host interface %s exists", r.Owner, existing.Name)
	}
	s := storeOf(r)
	unlock, err := s.Lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	r.Undo.Push("use of the tunnel", func() error { return leave(r, c.Keep) })
	if err := s.Use(r.Owner.LinkName()); err != nil {
		return 0, err
	}
	return ensure(r, c, s)
}

func (role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	if err := errors.Join(c.readPeers(), storeOf(r).Recall(&c.overlay, "")); err != nil {
		return err
	}
	s, err := overlay.Verify(r.Host, &c.overlay)
	if err != nil {
		return err
	}
	if len(s.Found) > 0 {
		return errcode.Errorf(errcode.Differs, "overlay: %s (%d differences in all)", s.Found[0], len(s.Found))
	}
	if c.overlay.Bridge != "" {
		return roles.CheckBridged(ctx, r, c.bridged(s.MTU))
	}
	return roles.CheckRouted(ctx, r, roles.Routed{MTU: s.MTU, Masquerade: c.IPMasq})
}

// keeps reads the only key that DEL and GC need.
func keeps(r *roles.Request) bool {
	var c struct {
		Keep bool `json:"keep"`
	}
	_ = roles.Decode(r.Conf, &c, true)
	return c.Keep
}

func (role) Del(ctx context.Context, r *roles.Request) error {
	return errors.Join(roles.Detach(ctx, r, features()...), leave(r, keeps(r)))
}

func (role) GC(ctx context.Context, r *roles.Request, valid []roles.Attachment) error {
	errs := []error{roles.Collect(ctx, r, valid, features()...)}
	s := storeOf(r)
	unlock, err := s.Lock()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer unlock()
	none, err := s.Keep(roles.LinkNames(r.Owner.Network, valid))
	if err == nil && none && !keeps(r) {
		err = dismantle(r, s)
	}
	return errors.Join(append(errs, err)...)
}

func (role) Status(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	if err := status(r, c); err != nil {
		return err
	}
	return r.IPAM.Status(ctx)
}

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	c, err := load(r)
	if err != nil || len(c.Peers) == 0 {
		return err // peers of a file are the node's own
	}
	return c.readPeers()
}
