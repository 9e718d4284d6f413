package ptp

import (
	"net"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// plan is the whole kernel state of an attachment.
func (c *conf) plan(o owner.Owner, mac net.HardwareAddr, ips []roles.IP, routes []*types.Route) (*netutil.Plan, error) {
	return roles.PlanRouted(o, mac, roles.Routed{MTU: c.MTU, Masquerade: c.IPMasq}, ips, routes)
}
