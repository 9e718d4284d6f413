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
	res := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	var ips []roles.IP
	if r.IPAM != nil {
		if ips, err = roles.Addresses(ctx, r, res); err != nil {
			return nil, err
		}
	}
	mac := c.mac
	if mac == nil {
		mac = roles.PodMAC(r.Owner, ips)
	}
	p, err := c.plan(r.Owner, mac, ips, res.Routes)
	if err != nil {
		return nil, err
	}
	if err := netutil.MakeTap(r.Sandbox, x.tun, c.device(r.Owner, mac), r.Undo); err != nil {
		return nil, err
	}
	made, err := roles.Apply(ctx, r, p)
	if err != nil {
		return nil, err
	}
	_, mtu := made.Link(netutil.Sandbox, r.Owner.IfName)
	res.Interfaces = []*types100.Interface{{Name: r.Owner.IfName, Mac: mac.String(), Mtu: mtu, Sandbox: r.NetNS}}
	return roles.Answer(r, res, ips, c.DNS), nil
}

func (role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	ips, mac, err := roles.Expected(ctx, r)
	if err != nil {
		return err
	}
	p, err := c.plan(r.Owner, mac, ips, roles.OwnRoutes(r, ips))
	if err != nil {
		return err
	}
	if err := roles.Verify(ctx, r, p); err != nil {
		return err
	}
	return netutil.VerifyTap(r.Sandbox, c.device(r.Owner, mac))
}

func (role) Del(ctx context.Context, r *roles.Request) error {
	if r.Sandbox != nil {
		if err := netutil.DeleteTap(r.Sandbox, r.Owner.IfName); err != nil {
			return err
		}
	}
	if r.IPAM == nil {
		return nil
	}
	return r.IPAM.Del(ctx)
}

// GC has nothing to remove but addresses: a device goes with its sandbox.
func (role) GC(ctx context.Context, r *roles.Request, _ []roles.Attachment) error {
	if r.IPAM == nil {
		return nil
	}
	return r.IPAM.GC(ctx)
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
