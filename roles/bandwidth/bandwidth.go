// Package bandwidth is the role that limits how fast a container sends and receives.
package bandwidth

import (
	"context"
	"errors"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
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
	if err := roles.NeedPrev(r, "bandwidth"); err != nil {
		return nil, err
	}
	if c.ingress == nil && c.egress == nil {
		return r.Prev, nil
	}
	host, err := hostSide(r)
	if err != nil {
		return nil, err
	}
	if err := c.checkBurst(host.MTU); err != nil {
		return nil, err
	}
	made, err := roles.Apply(ctx, r, c.plan(r.Owner, host, r.Owner.IFBName()))
	if err != nil {
		return nil, err
	}
	if c.egress == nil {
		return r.Prev, nil
	}
	mac, mtu := made.Link(netutil.Host, r.Owner.IFBName())
	res := *r.Prev
	res.Interfaces = append(append([]*types100.Interface{}, res.Interfaces...),
		&types100.Interface{Name: r.Owner.IFBName(), Mac: mac.String(), Mtu: mtu})
	return &res, nil
}

// hostSide is the host's end of the container's pair.
func hostSide(r *roles.Request) (*rtnl.Link, error) {
	l, err := netutil.HostSide(r.Host, r.Sandbox, r.Owner.IfName)
	if err == nil && l == nil {
		err = errcode.Errorf(errcode.InvalidConfig, "type: bandwidth limits veth pairs, and the container's interface %s is not one whose other end is on the host",
			r.Owner.IfName)
	}
	return l, err
}

func (role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil || c.ingress == nil && c.egress == nil {
		return err
	}
	host, err := hostSide(r)
	if err != nil {
		return errcode.Errorf(errcode.Differs, "%s", err.Error())
	}
	ifb := r.Owner.IFBName()
	if of := referenceIFBs(r); len(of) > 0 {
		ifb = of[0]
	}
	return roles.Verify(ctx, r, c.plan(r.Owner, host, ifb))
}

// Del finds the device by its name, and the pair by the container, or by the name that this executable's roles give it.
func (role) Del(_ context.Context, r *roles.Request) error {
	_, err := netutil.DeleteLink(r.Host, r.Owner.IFBName())
	errs := []error{err, deleteReference(r)}
	name := r.Owner.LinkName()
	if r.Sandbox != nil {
		l, err := netutil.HostSide(r.Host, r.Sandbox, r.Owner.IfName)
		errs = append(errs, err)
		if l != nil {
			name = l.Name
		}
	}
	errs = append(errs, netutil.Unshape(r.Host, name))
	return errors.Join(errs...)
}

// deleteReference removes the device of an attachment that the reference plugin has limited.
func deleteReference(r *roles.Request) error {
	var errs []error
	for _, name := range referenceIFBs(r) {
		errs = append(errs, netutil.DeleteLinkOf(r.Host, name, netutil.IFB))
	}
	return errors.Join(errs...)
}

// referenceIFBs are the devices of the reference plugin's that prevResult names. Their names are hashes that cnibox does not make again.
func referenceIFBs(r *roles.Request) (names []string) {
	if r.Prev == nil {
		return nil
	}
	for _, name := range roles.HostSide(r.Prev) {
		if isReferenceIFB(name) {
			names = append(names, name)
		}
	}
	return names
}

func (role) GC(_ context.Context, r *roles.Request, valid []roles.Attachment) error {
	return netutil.CollectLinks(r.Host, owner.IFBPrefix, r.Owner.Network, roles.Names(r.Owner.Network, valid, owner.Owner.IFBName))
}

func (role) Status(_ context.Context, r *roles.Request) error {
	_, err := load(r)
	return err
}

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r)
	return err
}
