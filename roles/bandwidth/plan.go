package bandwidth

import (
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// plan limits the host side of the container's pair: what it sends is what the container receives. A link can limit only what it sends, so
// what it receives is sent through a device that is there for nothing else, ifb.
func (c *conf) plan(o owner.Owner, host *rtnl.Link, ifb string) *netutil.Plan {
	p := &netutil.Plan{Owner: o}
	if c.ingress != nil {
		s := *c.ingress
		s.Link = host.Name
		p.Shapers = append(p.Shapers, s)
	}
	if c.egress != nil {
		p.Links = []netutil.Link{{Name: ifb, Kind: netutil.IFB, MTU: host.MTU, Up: true, OwnerTag: true}}
		s := *c.egress
		s.Link = ifb
		p.Shapers = append(p.Shapers, s)
		p.Redirects = []netutil.Redirect{{Link: host.Name, To: ifb}}
	}
	return p
}
