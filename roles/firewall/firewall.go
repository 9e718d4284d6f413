// Package firewall is the role that admits what the host forwards to and from a container, and decides who may connect to it.
package firewall

import (
	"context"
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
	if _, err := roles.Apply(ctx, r, p); err != nil {
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
	return netutil.NFT(r.Host).Delete(r.Owner, nft.Forward, nft.Isolation)
}

func (role) GC(_ context.Context, r *roles.Request, valid []roles.Attachment) error {
	return roles.CollectFilter(r, valid, nft.Forward, nft.Isolation)
}

func (role) Status(_ context.Context, r *roles.Request) error {
	_, err := load(r)
	return err
}

// planFor plans for the container that prevResult tells of, on the host as it is.
func (c *conf) planFor(r *roles.Request) (*netutil.Plan, error) {
	_, ips, err := roles.Attached(r)
	if err != nil {
		return nil, err
	}
	s, err := survey(r, ips)
	if err != nil {
		return nil, err
	}
	if c.IngressPolicy == policyIsolated {
		if s.filtered, err = netutil.FiltersBridged(r.Host); err != nil {
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
