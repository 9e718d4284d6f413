package dummy

import (
	"net/netip"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// plan is the container's link.
func (c *conf) plan(o owner.Owner) *roles.Inside {
	return &roles.Inside{Link: netutil.Link{Kind: netutil.Dummy, MAC: o.PodMAC(netip.Addr{})}, DNS: c.DNS}
}
