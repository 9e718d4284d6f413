// Package portmap is the role that leads ports of the host to a container.
package portmap

import (
	"context"
	"errors"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
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
	if err := roles.NeedPrev(r, "portmap"); err != nil {
		return nil, err
	}
	p, err := c.planFor(r)
	if err != nil {
		return nil, err
	}
	if _, err := roles.Apply(ctx, r, p); err != nil {
		return nil, err
	}
	// Only now: before, a packet could have begun the flow anew.
	if err := netutil.EndStaleFlows(r.Host, portEntries(p)); err != nil {
		return nil, err
	}
	return r.Prev, nil
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
	return roles.Verify(ctx, r, p)
}

// Del needs no configuration: what the attachment holds stands in the packet filter.
func (role) Del(_ context.Context, r *roles.Request) error {
	held, err := netutil.NFT(r.Host).Ports(r.Owner)
	return errors.Join(err, roles.DeleteRules(r, nft.PortMap), netutil.EndFlows(r.Host, append(held, conditional(r)...)))
}

// conditional are the attachment's mappings with conditions, which the packet filter does not list, as far as the configuration can be read.
func conditional(r *roles.Request) []nft.PortEntry {
	c, err := load(r)
	if err != nil || r.Prev == nil || len(c.conditions4)+len(c.conditions6) == 0 {
		return nil
	}
	_, ips, err := roles.Attached(r)
	if err != nil {
		return nil
	}
	return portEntries(c.plan(r.Owner, targetsOf(ips), surroundings{}))
}

func (role) GC(_ context.Context, r *roles.Request, valid []roles.Attachment) error {
	return roles.CollectFilter(r, valid, nft.PortMap)
}

func (role) Status(_ context.Context, r *roles.Request) error {
	_, err := load(r)
	return err
}

// planFor plans for the container that prevResult tells of, on the host as it is.
func (c *conf) planFor(r *roles.Request) (*netutil.Plan, error) {
	if len(c.mappings) == 0 {
		return &netutil.Plan{Owner: r.Owner}, nil
	}
	_, ips, err := roles.Attached(r)
	if err != nil {
		return nil, err
	}
	t := targetsOf(ips)
	var s surroundings
	if c.mapsLoopback(t) {
		if s.towards, err = netutil.LinkTowards(r.Host, t.v4.Prefix.Addr()); err != nil {
			return nil, err
		}
	}
	bridged, err := netutil.FiltersBridged(r.Host)
	if err != nil {
		return nil, err
	}
	if bridged {
		if s.port, err = portOf(r); err != nil {
			return nil, err
		}
	}
	return c.plan(r.Owner, t, s), nil
}

// portOf is the container's port on a bridge; empty if it has none.
func portOf(r *roles.Request) (string, error) {
	there, err := netutil.Among(r.Host, roles.HostSide(r.Prev))
	return there.Port, err
}

func portEntries(p *netutil.Plan) []nft.PortEntry {
	var ports []nft.PortEntry
	for _, e := range p.Filter {
		if port, ok := e.(nft.PortEntry); ok {
			ports = append(ports, port)
		}
	}
	return ports
}

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r)
	return err
}
