// Package flannel is the role that attaches containers to the subnet which flanneld has given to this node, by another plugin.
package flannel

import (
	"context"
	"encoding/json"
	"errors"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

type role struct{}

// New is the role.
func New() roles.Role { return role{} }

func (role) Add(ctx context.Context, r *roles.Request) (*types100.Result, error) {
	c, err := load(r, false)
	if err != nil {
		return nil, err
	}
	s, err := readSubnet(c.SubnetFile)
	if err != nil {
		return nil, err
	}
	k, err := c.delegate(r, s)
	if err != nil {
		return nil, err
	}
	p, err := plugin(r, k, c.kind, false)
	if err != nil {
		return nil, err
	}
	if err := save(c.folder(), r, k); err != nil {
		return nil, err
	}
	return p.Add(ctx, r.Prev)
}

// plugin makes the delegate ready.
func plugin(r *roles.Request, k keys, kind string, lenient bool) (*roles.Plugin, error) {
	text, err := json.Marshal(k)
	if err != nil {
		return nil, errcode.Errorf(errcode.Internal, "encode the delegate's configuration: %w", err)
	}
	return r.Plugin("delegate", kind, text, lenient)
}

// asAdded is the delegate with the configuration k that ADD has saved, or else one that serves for DEL.
func (c *conf) asAdded(r *roles.Request, k keys, lenient bool) (p *roles.Plugin, err error) {
	kind := c.kind
	if k == nil {
		if k, err = c.present(r); err != nil {
			return nil, err
		}
	} else if json.Unmarshal(k["type"], &kind) != nil {
		kind = c.kind
	}
	return plugin(r, k, kind, lenient)
}

// present is the delegate's configuration by what is known now.
func (c *conf) present(r *roles.Request) (keys, error) {
	s, err := readSubnet(c.SubnetFile)
	if err != nil {
		s = nil // without flanneld there is less, and enough to take an attachment away
	}
	return c.delegate(r, s)
}

func (role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r, false)
	if err != nil {
		return err
	}
	k, _, err := find(c.folder(), r.Owner)
	if err != nil {
		return err
	}
	p, err := c.asAdded(r, k, false)
	if err != nil {
		return err
	}
	return p.Check(ctx)
}

func (role) Del(ctx context.Context, r *roles.Request) error {
	c, err := load(r, true)
	if err != nil {
		return err
	}
	k, file, lost := find(c.folder(), r.Owner)
	p, err := c.asAdded(r, k, true)
	if err == nil {
		err = p.Del(ctx)
	}
	if err = errors.Join(lost, err); err != nil {
		return err // what is still saved serves the next DEL
	}
	if file != "" {
		return c.folder().Remove(file)
	}
	names := files(r.Owner)
	return errors.Join(c.folder().Tidy(names[0]), c.folder().Tidy(names[1]))
}

func (role) GC(ctx context.Context, r *roles.Request, valid []roles.Attachment) error {
	c, err := load(r, true)
	if err != nil {
		return err
	}
	k, err := c.present(r)
	if err != nil {
		return err
	}
	p, err := plugin(r, k, c.kind, true)
	if err == nil {
		err = p.GC(ctx)
	}
	return errors.Join(err, collect(c.folder(), r.Owner.Network, valid))
}

func (role) Status(ctx context.Context, r *roles.Request) error {
	c, err := load(r, false)
	if err != nil {
		return err
	}
	s, err := readSubnet(c.SubnetFile)
	if err != nil {
		return errcode.Errorf(errcode.NotAvailable, "%s", err.Error())
	}
	k, err := c.delegate(r, s)
	if err != nil {
		return err
	}
	p, err := plugin(r, k, c.kind, false)
	if err != nil {
		return err
	}
	return p.Status(ctx)
}

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r, false)
	return err
}
