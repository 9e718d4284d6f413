package roles

import (
	"context"
	"errors"
	"net"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// This file is what the roles share that give the container one link, and the host none: macvlan, ipvlan, vlan, dummy and tap. The link goes
// with its namespace, so nothing of it can be left behind, and DEL needs neither what it was made on nor any route.

// Inside is what such a role makes.
type Inside struct {
	Link     netutil.Link // without place and name
	Announce bool         // tell the neighbours where the addresses are now
	DNS      types.DNS
	Adopt    bool // without an ipam plugin: take the addresses of prevResult over, whose place the result takes
}

// Add is ADD: with the addresses that the ipam plugin gives, or none.
func (x *Inside) Add(ctx context.Context, r *Request) (*types100.Result, error) {
	res := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	if err := refuseInterface(r); err != nil {
		return nil, err
	}
	var ips []IP
	plan := func(given []IP) (*netutil.Plan, error) {
		ips = given
		return x.plan(r, ips, res.Routes)
	}
	made, err := x.attach(ctx, r, res, plan)
	if err != nil {
		return nil, err
	}
	mac, mtu := made.Link(netutil.Sandbox, r.Owner.IfName)
	res.Interfaces = []*types100.Interface{{Name: r.Owner.IfName, Mac: mac.String(), Mtu: mtu, Sandbox: r.NetNS}}
	if x.adopts(r) {
		alone := *r
		alone.Prev = nil
		r = &alone
	}
	return Answer(r, res, ips, x.DNS), nil
}

// attach makes the plan for the addresses that the ipam plugin gives, for those taken over, or for none.
func (x *Inside) attach(ctx context.Context, r *Request, res *types100.Result, plan func([]IP) (*netutil.Plan, error)) (*netutil.Applied, error) {
	if r.IPAM.NeedsLink() {
		return LinkFirst(ctx, r, res, plan)
	}
	var ips []IP
	var err error
	switch {
	case r.IPAM != nil:
		ips, err = askIPAM(ctx, r, res)
	case x.adopts(r):
		res.Routes, res.DNS = r.Prev.Routes, r.Prev.DNS
		ips, err = IPsOf(r.Prev.IPs)
	}
	if err != nil {
		return nil, err
	}
	p, err := plan(ips)
	if err != nil {
		return nil, err
	}
	return Apply(ctx, r, p)
}

func (x *Inside) adopts(r *Request) bool { return x.Adopt && r.IPAM == nil && r.Prev != nil }

func (x *Inside) plan(r *Request, ips []IP, routes []*types.Route) (*netutil.Plan, error) {
	if err := CheckMTUFor(ips, x.Link.MTU); err != nil {
		return nil, err
	}
	link := x.Link
	link.Place, link.Name, link.Up, link.OwnerTag = netutil.Sandbox, r.Owner.IfName, true, true
	p := &netutil.Plan{
		Owner: r.Owner, Links: []netutil.Link{link}, Sysctls: PlanIPv6(netutil.Sandbox, link.Name, ips, false),
	}
	for _, ip := range ips {
		p.Addrs = append(p.Addrs, netutil.Addr{Place: netutil.Sandbox, Link: link.Name, Prefix: ip.Prefix, Announce: x.Announce})
	}
	var err error
	p.Routes, err = PlanRoutes(link.Name, routes, ips)
	return p, err
}

// Check is CHECK.
func (x *Inside) Check(ctx context.Context, r *Request) error {
	if r.IPAM != nil {
		if err := r.IPAM.Check(ctx); err != nil {
			return err
		}
	}
	iface, ips, err := Attached(r)
	if err != nil {
		return err
	}
	if x.Link.MAC, err = macOf(iface); err != nil {
		return err
	}
	p, err := x.plan(r, ips, OwnRoutes(r, ips))
	if err != nil {
		return err
	}
	return Verify(ctx, r, p)
}

// macOf is the MAC address of a result's interface; nil if it names none, as results of old versions do.
func macOf(iface *types100.Interface) (net.HardwareAddr, error) {
	if iface.Mac == "" {
		return nil, nil
	}
	return ParseMAC("prevResult.interfaces", iface.Mac)
}

// DetachInside is DEL. The address is given back when no packet of the container can be left.
func DetachInside(ctx context.Context, r *Request, kinds ...netutil.Kind) error {
	errs := []error{ReleaseFirst(ctx, r)}
	if r.Sandbox != nil {
		errs = append(errs, netutil.DeleteInside(r.Sandbox, r.Owner, kinds...))
	}
	if err := errors.Join(errs...); err != nil || r.IPAM == nil || r.IPAM.NeedsLink() {
		return err
	}
	return r.IPAM.Del(ctx)
}

// CollectInside is GC: of attachments that are no longer valid only addresses can be left.
func CollectInside(ctx context.Context, r *Request) error {
	if r.IPAM == nil {
		return nil
	}
	return r.IPAM.GC(ctx)
}

// MasterKeys are the keys of roles whose link is made on another.
type MasterKeys struct {
	Master          string `json:"master" doc:"the interface that it is made on; left out: that of the default route, of IPv4 or else of IPv6"`
	LinkInContainer bool   `json:"linkInContainer" default:"false" doc:"the master is in the container, not on the host"`
}

// CheckMaster checks the keys.
func (m *MasterKeys) CheckMaster() error {
	if m.Master == "" {
		return nil
	}
	return CheckLinkName("master", m.Master)
}

// place is the namespace that the master is in.
func (m *MasterKeys) place() netutil.Place {
	if m.LinkInContainer {
		return netutil.Sandbox
	}
	return netutil.Host
}

// FindMaster looks the master up: the one that the key names, or that of the default route. It may be down, for it may come up later.
func (m *MasterKeys) FindMaster(r *Request) (*rtnl.Link, error) {
	n := r.Host
	if m.LinkInContainer {
		n = r.Sandbox
	}
	name := m.Master
	if name == "" {
		var err error
		if name, err = netutil.DefaultLink(n); err != nil {
			return nil, err
		}
		if name == "" {
			return nil, errcode.Errorf(errcode.InvalidConfig, "master: missing, and the %s has no default route whose interface could serve", m.place())
		}
	}
	l, err := netutil.FindLink(n, name)
	if err == nil && l == nil {
		err = errcode.Errorf(errcode.InvalidConfig, "master: the %s has no interface %s", m.place(), name)
	}
	return l, err
}

// PlanOn makes the link one on the master that was found; nil in CHECK, where it may have been that of another default route.
func (m *MasterKeys) PlanOn(l *netutil.Link, found *rtnl.Link) {
	l.Parent, l.ParentAt = m.Master, m.place()
	if found != nil {
		l.Parent = found.Name
	}
}

// CheckMasterMTU checks the key mtu against the master's.
func CheckMasterMTU(mtu int, master *rtnl.Link) error {
	if mtu > master.MTU {
		return errcode.Errorf(errcode.InvalidConfig, "mtu: %d is more than the %d of the master %s", mtu, master.MTU, master.Name)
	}
	return nil
}

// MasterStatus is STATUS: the master must be there and up, and the ipam plugin able to serve. With linkInContainer the master is not known.
func (m *MasterKeys) MasterStatus(ctx context.Context, r *Request) error {
	if !m.LinkInContainer {
		master, err := m.FindMaster(r)
		if err != nil {
			return errcode.Errorf(errcode.NotAvailable, "%s", err.Error())
		}
		if !master.Up() {
			return errcode.Errorf(errcode.NotAvailable, "master: the interface %s is down", master.Name)
		}
	}
	if r.IPAM == nil {
		return nil
	}
	return r.IPAM.Status(ctx)
}
