// Package tuning is the role that changes sysctls and attributes of a container's interface.
package tuning

import (
	"context"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

type role struct {
	allowlist string
}

// New is the role.
func New() roles.Role { return role{allowlist: defaultAllowlist} }

func (t role) Add(_ context.Context, r *roles.Request) (*types100.Result, error) {
	c, err := load(r)
	if err != nil {
		return nil, err
	}
	if err := roles.NeedPrev(r, "tuning"); err != nil {
		return nil, err
	}
	if err := t.check(r, c); err != nil {
		return nil, err
	}
	if err := save(r, c); err != nil {
		return nil, err
	}
	if err := netutil.SetSysctls(r.Sandbox, c.sysctl); err != nil {
		return nil, err
	}
	if err := c.link.Set(r.Sandbox, r.Owner.IfName); err != nil {
		return nil, err
	}
	return c.result(r), nil
}

// check refuses what the container makes impossible.
func (t role) check(r *roles.Request, c *conf) error {
	if err := c.checkAllowed(t.allowlist); err != nil {
		return err
	}
	_, ips, err := roles.Attached(r)
	if err != nil {
		return err
	}
	return roles.CheckMTUFor(ips, c.link.MTU)
}

// save writes down what is there before anything is changed. That is also the inverse.
func save(r *roles.Request, c *conf) error {
	link, err := netutil.SettingsOf(r.Sandbox, r.Owner.IfName)
	if err == nil && link == nil {
		err = errcode.Errorf(errcode.InvalidConfig, "prevResult: the container has no interface %s", r.Owner.IfName)
	}
	if err != nil {
		return err
	}
	before, err := netutil.Before(r.Sandbox, c.sysctl)
	if err != nil {
		return err
	}
	d := c.folder()
	old, err := read(d, r.Owner)
	if err != nil {
		return err
	}
	now, all := &saved{}, &saved{}
	now.note(c, link, before, r.Owner)
	if old != nil {
		*all = *old
	}
	all.note(c, link, before, r.Owner)
	r.Undo.Push("record of "+r.Owner.String(), func() error {
		if old != nil { // an earlier ADD's, with whose values the container runs
			return old.write(d, r.Owner)
		}
		return d.Remove(fileOf(r.Owner))
	})
	if err := all.write(d, r.Owner); err != nil {
		return err
	}
	r.Undo.Push("settings of "+r.Owner.IfName, func() error { return now.restore(r.Sandbox, r.Owner.IfName) })
	return nil
}

// result is prevResult with what was changed of the interface.
func (c *conf) result(r *roles.Request) *types100.Result {
	res := *r.Prev
	res.Interfaces = nil
	for _, i := range r.Prev.Interfaces {
		own := i.Copy()
		if own != nil && own.Name == r.Owner.IfName && own.Sandbox != "" {
			if c.link.MAC != nil {
				own.Mac = c.link.MAC.String()
			}
			if c.link.MTU != 0 {
				own.Mtu = c.link.MTU
			}
		}
		res.Interfaces = append(res.Interfaces, own)
	}
	return &res
}

func (role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	if err := roles.Verify(ctx, r, &netutil.Plan{Owner: r.Owner, Sysctls: c.sysctl}); err != nil {
		return err
	}
	return c.link.Verify(r.Sandbox, r.Owner.IfName)
}

// Del puts back what the record says. Of a container that is gone only the record is left.
func (role) Del(_ context.Context, r *roles.Request) error {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, true); err != nil {
		return err
	}
	d := c.folder()
	s, err := read(d, r.Owner)
	if err != nil {
		return err
	}
	if s != nil && s.Network != "" && s.Network != r.Owner.Network {
		return nil // the reference's file names do not tell networks apart
	}
	if s != nil && r.SandboxErr != nil {
		return r.SandboxErr // the record serves the next DEL
	}
	if s != nil && r.Sandbox != nil {
		if err := s.restore(r.Sandbox, r.Owner.IfName); err != nil {
			return err
		}
	}
	return d.Remove(fileOf(r.Owner))
}

func (role) GC(_ context.Context, r *roles.Request, valid []roles.Attachment) error {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, true); err != nil {
		return err
	}
	return collect(c.folder(), r.Owner.Network, valid)
}

func (t role) Status(_ context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	return c.checkAllowed(t.allowlist)
}

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r)
	return err
}
