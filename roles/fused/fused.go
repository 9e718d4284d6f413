// Package fused is the role that runs the plugins of a list in one process, as a runtime would one after another.
package fused

import (
	"context"
	"errors"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/roles"
)

// Name is what the role is called by: the executable's own name.
const Name = "cnibox"

type role struct{}

// New is the role.
func New() roles.Role { return role{} }

// Add looks all plugins up before it calls the first.
func (role) Add(ctx context.Context, r *roles.Request) (*types100.Result, error) {
	c, err := load(r.Conf, false)
	if err != nil {
		return nil, err
	}
	plugins, err := c.ready(r, false)
	if err != nil {
		return nil, err
	}
	res := r.Prev
	for _, p := range plugins {
		if res, err = p.Add(ctx, res); err != nil {
			return nil, err
		}
	}
	return res, nil
}

func (role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r.Conf, false)
	if err != nil || c.disableCheck {
		return err
	}
	return c.first(r, func(p *roles.Plugin) error { return p.Check(ctx) })
}

// Del calls the plugins in reverse order. It goes on after errors and joins them.
func (role) Del(ctx context.Context, r *roles.Request) error {
	c, err := load(r.Conf, true)
	if err != nil {
		return err
	}
	plugins, err := c.ready(r, true)
	errs := []error{err}
	for _, p := range slices.Backward(plugins) {
		errs = append(errs, p.Del(ctx))
	}
	return errors.Join(errs...)
}

// GC goes on after errors and joins them.
func (role) GC(ctx context.Context, r *roles.Request, _ []roles.Attachment) error {
	c, err := load(r.Conf, true)
	if err != nil || c.disableGC {
		return err
	}
	plugins, err := c.ready(r, true)
	errs := []error{err}
	for _, p := range plugins {
		errs = append(errs, p.GC(ctx))
	}
	return errors.Join(errs...)
}

func (role) Status(ctx context.Context, r *roles.Request) error {
	c, err := load(r.Conf, false)
	if err != nil {
		return err
	}
	return c.first(r, func(p *roles.Plugin) error { return p.Status(ctx) })
}

// first calls the plugins in order, up to the first error.
func (c *conf) first(r *roles.Request, call func(*roles.Plugin) error) error {
	plugins, err := c.ready(r, false)
	if err != nil {
		return err
	}
	for _, p := range plugins {
		if err := call(p); err != nil {
			return err
		}
	}
	return nil
}

// ready makes the plugins of the list ready to be called. Read leniently, those that can be are returned beside the errors of those that
// cannot; else it ends with the first error.
func (c *conf) ready(r *roles.Request, lenient bool) (plugins []*roles.Plugin, err error) {
	var errs []error
	for i := range c.plugins {
		p, err := c.prepare(&c.plugins[i], r, lenient)
		switch {
		case err == nil:
			plugins = append(plugins, p)
		case lenient:
			errs = append(errs, err)
		default:
			return nil, err
		}
	}
	return plugins, errors.Join(errs...)
}

func (c *conf) prepare(p *plugin, r *roles.Request, lenient bool) (*roles.Plugin, error) {
	if p.err != nil {
		return nil, p.err
	}
	text, err := c.confFor(p, r)
	if err != nil {
		return nil, err
	}
	return r.Plugin(p.key, p.Type, text, lenient)
}

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r.Conf, false)
	return err
}
