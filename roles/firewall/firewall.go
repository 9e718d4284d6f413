// Package firewall is the role that admits what the host forwards to and from a container, and decides who may connect to it.
package firewall

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
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
	if r.Prev == nil {
		return nil, invalid("prevResult: missing; firewall belongs behind the plugin that makes the container's interface")
	}
	p, err := c.planFor(r)
	if err != nil {
		return nil, err
	}
	switch c.Backend {
	case backendFirewalld:
		err = addToZone(ctx, r, p)
	case backendIPTables:
		err = addLegacy(ctx, r, p)
	default:
		_, err = roles.Apply(ctx, r, p)
	}
	return r.Prev, err
}

// addToZone makes the plan, and has firewalld know of it.
func addToZone(ctx context.Context, r *roles.Request, p *netutil.Plan) error {
	z, err := openZones(ctx, r.Host)
	if err != nil {
		return err
	}
	defer func() { _ = z.Close() }()
	if _, err := roles.Apply(ctx, r, p); err != nil {
		return err
	}
	r.Undo.Push("sources of firewalld", func() error {
		_, err := leaveZones(context.WithoutCancel(ctx), r)
		return err
	})
	return z.enter(r.Owner.LinkName())
}

// addLegacy makes the plan, and has legacy iptables know of it.
func addLegacy(ctx context.Context, r *roles.Request, p *netutil.Plan) error {
	r.Undo.Push("rules of legacy iptables", func() error { // once the packet filter has forgotten the container
		_, err := settleLegacy(context.WithoutCancel(ctx), r.Host)
		return err
	})
	if _, err := roles.Apply(ctx, r, p); err != nil {
		return err
	}
	_, err := settleLegacy(ctx, r.Host)
	return err
}

func (role) Check(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	p, err := c.planFor(r)
	if err != nil {
		return err
	}
	if err := roles.Verify(ctx, r, p); err != nil {
		return err
	}
	switch c.Backend {
	case backendFirewalld:
		return checkZones(ctx, r)
	case backendIPTables:
		return checkLegacy(ctx, r.Host)
	}
	return nil
}

// Del needs no configuration: what the attachment holds stands in the packet filter.
func (role) Del(ctx context.Context, r *roles.Request) error {
	c := &conf{}
	_ = roles.Decode(r.Conf, c, true)
	legacy, err := netutil.NFT(r.Host).Legacy()
	errs := []error{err}
	zoned, err := leaveZones(ctx, r)
	if errs = append(errs, err); err == nil { // else the packet filter knows of the addresses until they are in no zone
		errs = append(errs, roles.DeleteRules(r, nft.Forward, nft.Isolation))
	}
	if len(zoned) > 0 {
		if err == nil {
			errs = append(errs, settleZones(ctx, r.Host, zoned))
		}
		_, _ = syncZones(ctx, r.Host) // others' addresses, which are not this call's business to fail for
	}
	if len(legacy.Groups) > 0 || c.Backend == backendIPTables {
		_, err := settleLegacy(ctx, r.Host)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (role) GC(ctx context.Context, r *roles.Request, valid []roles.Attachment) error {
	tables := netutil.NFT(r.Host)
	legacy, err := tables.Legacy()
	errs := []error{err}
	before, err := tables.Zoned()
	errs = append(errs, err, roles.CollectFilter(r, valid, nft.Forward, nft.Isolation))
	if errors.Join(errs...) == nil {
		errs = append(errs, settleZones(ctx, r.Host, before))
	}
	if len(legacy.Groups) > 0 {
		_, err := settleLegacy(ctx, r.Host)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (role) Status(ctx context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil || c.Backend != backendFirewalld {
		return err
	}
	z, err := openZones(ctx, r.Host)
	if err != nil {
		return err
	}
	return z.Close()
}

// planFor plans for the container that prevResult tells of, on the host as it is.
func (c *conf) planFor(r *roles.Request) (*netutil.Plan, error) {
	iface, ips, err := roles.Attached(r)
	if err != nil {
		return nil, err
	}
	s, err := survey(r, ips)
	if err != nil {
		return nil, err
	}
	s.mac, _ = net.ParseMAC(iface.Mac) // which results may lack
	if c.IngressPolicy == policyIsolated {
		if s.filtered, err = netutil.FiltersBridged(r.Host); err != nil {
			return nil, err
		}
	}
	if c.Backend == backendIPTables {
		if s.legacy, err = legacyInUse(r.Host); err != nil {
			return nil, err
		}
	}
	return c.plan(r.Owner, ips, s)
}

// survey finds what the container is behind.
func survey(r *roles.Request, ips []roles.IP) (s surroundings, err error) {
	names := roles.HostSide(r.Prev)
	if len(names) == 0 { // results of before version 0.3.0 have no interfaces
		names = []string{r.Owner.LinkName()}
	}
	there, err := netutil.Among(r.Host, names)
	if err != nil {
		return s, err
	}
	s.bridge, s.port = there.Bridge, there.Port
	switch {
	case s.bridge != "":
		s.link, err = routedBy(r.Host, s.bridge, ips)
	case slices.Contains(there.Links, r.Owner.LinkName()):
		s.link = owner.LinkPrefix + "*"
	case len(there.Links) == 1:
		s.link = there.Links[0]
	}
	return s, err
}

// routedBy is the link by which the host reaches containers on the bridge: itself or, for those in a VLAN, one that is named after it.
func routedBy(n *netutil.Namespace, bridge string, ips []roles.IP) (string, error) {
	if len(ips) == 0 {
		return bridge, nil
	}
	towards, err := netutil.LinkTowards(n, ips[0].Prefix.Addr())
	if err != nil || !strings.HasPrefix(towards, bridge+".") {
		return bridge, err
	}
	return towards, nil
}

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r)
	return err
}
