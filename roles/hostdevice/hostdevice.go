// Package hostdevice is the role that hands an interface of the host over to a container.
package hostdevice

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
	"github.com/cnibox/cnibox/roles"
)

type role struct{ sysfs sysfs }

// New is the role.
func New() roles.Role { return role{"/sys"} }

func (x role) Add(ctx context.Context, r *roles.Request) (*types100.Result, error) {
	c, err := load(r)
	if err != nil {
		return nil, err
	}
	hardware, err := x.sysfs.device(c)
	if err != nil {
		return nil, err
	}
	if err := netutil.RefuseLink(r.Sandbox, netutil.Sandbox, r.Owner.IfName); err != nil {
		return nil, err
	}
	iface := &types100.Interface{Name: r.Owner.IfName, Sandbox: r.NetNS}
	if hardware != nil && hardware.pci {
		iface.PciID = hardware.name
	}
	var d *rtnl.Device // nil: nothing is moved
	if !c.DPDKMode && !hardware.userspace() {
		if d, err = x.locate(r.Host, c, hardware); err != nil {
			return nil, err
		}
		iface.Mac, iface.Mtu = d.MAC.String(), d.MTU
		if iface.PciID == "" {
			iface.PciID = x.sysfs.pciID(d)
		}
	}
	res := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	var ips []roles.IP
	switch {
	case r.IPAM.NeedsLink() && d == nil:
		return nil, errcode.Errorf(errcode.InvalidConfig, "ipam.type: this plugin asks over an interface, and a device for userspace has none")
	case r.IPAM != nil && !r.IPAM.NeedsLink():
		if ips, err = roles.Addresses(ctx, r, res); err != nil {
			return nil, err
		}
	}
	if d != nil {
		if ips, err = handOver(ctx, r, d, ips, res); err != nil {
			return nil, err
		}
	}
	res.Interfaces = []*types100.Interface{iface}
	return roles.Answer(r, res, ips, c.DNS), nil
}

// locate finds the interface. One that came back when its namespace died may not have its name yet.
func (x role) locate(host *netutil.Namespace, c *conf, hardware *device) (*rtnl.Device, error) {
	d, err := x.sysfs.find(host, c, hardware)
	if err == nil && !netutil.IsMarked(d) {
		return d, nil
	}
	if err := netutil.ReclaimAll(host); err != nil {
		return nil, err
	}
	return x.sysfs.find(host, c, hardware)
}

// handOver moves the interface and sets it up with the addresses, which it returns: those given, or those that can be asked for only then.
func handOver(ctx context.Context, r *roles.Request, d *rtnl.Device, given []roles.IP, res *types100.Result) ([]roles.IP, error) {
	planFor := func(ips []roles.IP) (*netutil.Plan, error) {
		given = ips
		if err := roles.CheckMTUFor(ips, d.MTU); err != nil {
			return nil, fmt.Errorf("interface %s: %w", d.Name, err)
		}
		return plan(r.Owner, nil, 0, ips, res.Routes)
	}
	p, err := planFor(given)
	if err != nil {
		return nil, err
	}
	if err := netutil.HandOver(kernel(r), r.Owner, d, r.Undo); err != nil {
		return nil, err
	}
	if r.IPAM.NeedsLink() {
		_, err = roles.LinkFirst(ctx, r, res, planFor)
	} else {
		_, err = roles.Apply(ctx, r, p)
	}
	return given, err
}

func kernel(r *roles.Request) netutil.Kernel { return netutil.Kernel{Host: r.Host, Sandbox: r.Sandbox} }

func (x role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	if r.IPAM != nil {
		if err := r.IPAM.Check(ctx); err != nil {
			return err
		}
	}
	iface, ips, err := roles.Attached(r)
	if err != nil || x.userspace(c) {
		return err
	}
	var mac net.HardwareAddr
	if iface.Mac != "" { // there are devices without one
		if mac, err = net.ParseMAC(iface.Mac); err != nil {
			return errcode.Errorf(errcode.InvalidConfig, "prevResult.interfaces: %w", err)
		}
	}
	p, err := plan(r.Owner, mac, iface.Mtu, ips, roles.OwnRoutes(r, ips))
	if err != nil {
		return err
	}
	if err := roles.Verify(ctx, r, p); err != nil {
		return err
	}
	return checkAlias(r, c)
}

// checkAlias wants the name that the device has on the host to be known.
func checkAlias(r *roles.Request, c *conf) error {
	d, err := netutil.FindDevice(r.Sandbox, r.Owner.IfName)
	if err != nil || d == nil {
		return err
	}
	if d.Alias == "" || c.Device != "" && d.Alias != c.Device {
		return errcode.Errorf(errcode.Differs, "sandbox interface %s has the alias %q, which is not its name on the host", d.Name, d.Alias)
	}
	return nil
}

// userspace tells whether there is no interface to be moved.
func (x role) userspace(c *conf) bool {
	hardware, err := x.sysfs.device(c)
	return c.DPDKMode || err == nil && hardware.userspace()
}

func (x role) Del(ctx context.Context, r *roles.Request) error {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, true); err != nil {
		return err
	}
	released := roles.ReleaseFirst(ctx, r)
	err := x.takeBack(r, c)
	// A device that is back, if under another name, is out of the container: its address can go to another.
	if err != nil && errcode.Of(err) != errcode.AlreadyExists || r.IPAM == nil || r.IPAM.NeedsLink() {
		return errors.Join(released, err)
	}
	return errors.Join(err, r.IPAM.Del(ctx))
}

// takeBack brings the device back to the host, from the sandbox or, if the namespace has died, from where the kernel has put it.
func (x role) takeBack(r *roles.Request, c *conf) error {
	if x.userspace(c) {
		return nil
	}
	name := c.Device
	if roles.CheckLinkName("device", name) != nil {
		name = ""
	}
	if r.Sandbox == nil {
		return netutil.Reclaim(r.Host, r.Owner, name)
	}
	d, err := c.inSandbox(r)
	if err != nil {
		return err
	}
	if d == nil {
		return netutil.Reclaim(r.Host, r.Owner, name)
	}
	if name == "" && roles.CheckLinkName("alias", d.Alias) == nil {
		name = d.Alias
	}
	return netutil.TakeBack(kernel(r), r.Owner, d, name)
}

// inSandbox finds the device in the sandbox, whatever the container has called it; nil if it is not there.
func (c *conf) inSandbox(r *roles.Request) (*rtnl.Device, error) {
	d, err := netutil.FindDevice(r.Sandbox, r.Owner.LinkName())
	if d != nil || err != nil {
		return d, err
	}
	// The reference plugin, and a kernel without alternative names, leave no mark but the alias.
	all, err := netutil.Devices(r.Sandbox)
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if c.isMeant(d, r.Owner.IfName) {
			return d, nil
		}
	}
	return nil, nil
}

// isMeant tells whether a device of the sandbox, which has no mark, is the one that the configuration names. Where the configuration, or a
// kernel before 5.14, does not tell, it is the one of hardware that has the attachment's name.
func (c *conf) isMeant(d *rtnl.Device, ifName string) bool {
	if roles.CheckLinkName("alias", d.Alias) != nil {
		return false
	}
	if c.Device != "" {
		return d.Alias == c.Device
	}
	if mac, err := net.ParseMAC(c.HWAddr); err == nil {
		return bytes.Equal(d.MAC, mac)
	}
	if d.Name != ifName || !isHardware(d) {
		return false
	}
	id := cmp.Or(c.RuntimeConfig.DeviceID, c.PCIBusID)
	return id == "" || d.Bus != "pci" && d.Bus != "auxiliary" || d.Parent == id
}

func (role) GC(ctx context.Context, r *roles.Request, _ []roles.Attachment) error {
	// Nobody tells where the sandbox of an attachment is that is not valid any more. But if it has died, its device is here.
	err := netutil.ReclaimAll(r.Host)
	if r.IPAM != nil {
		err = errors.Join(err, r.IPAM.GC(ctx))
	}
	return err
}

func (x role) Status(ctx context.Context, r *roles.Request) error {
	c, err := read(r)
	if err != nil {
		return err
	}
	hardware, err := x.sysfs.device(c)
	if err == nil && len(c.keys()) > 0 && !c.DPDKMode && !hardware.userspace() {
		_, err = x.sysfs.find(r.Host, c, hardware)
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

// CheckConf wants a device named, unless the runtime is to name one.
func (role) CheckConf(r *roles.Request) error {
	c, err := load(r)
	if c == nil || err == nil || len(c.keys()) > 0 {
		return err
	}
	var runtime struct {
		Capabilities struct {
			DeviceID bool `json:"deviceID"`
		} `json:"capabilities"`
	}
	if roles.Decode(r.Conf, &runtime, true) == nil && runtime.Capabilities.DeviceID {
		return nil
	}
	return err
}
