package doctor

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// subnets looks for others that have a part of the pods' networks. Of networks that overlap the check of their configurations tells.
func subnets(f *facts, l *list) {
	for _, link := range f.node.Host.Links {
		if link.Name == "lo" || f.podsLink(link) {
			continue
		}
		for _, p := range link.Addresses {
			f.hostSubnet(link, p, l)
		}
	}
	for _, v6 := range []bool{false, true} {
		f.routes(v6, l)
	}
}

// hostSubnet compares an address of the host with the pods' networks. On a link that pods' interfaces are made on, both are meant to be one.
func (f *facts) hostSubnet(link *node.Link, p netip.Prefix, l *list) {
	for i := range f.nets {
		n := &f.nets[i]
		if n.main.Master == link.Name || !n.routed() {
			continue
		}
		for _, s := range n.Subnets {
			if s.Overlaps(p.Masked()) && !p.Addr().IsLinkLocalUnicast() {
				l.add(Problem, fmt.Sprintf("%s of network %s overlaps with the host's own subnet %s on %s", s, n.Name, p.Masked(), link.Name),
					"pods and machines of that subnet do not reach each other", "give the network another subnet, and its pods new addresses")
			}
		}
	}
}

// routes looks for routes to pods that lead by other links.
func (f *facts) routes(v6 bool, l *list) {
	like := netip.IPv4Unspecified()
	if v6 {
		like = netip.IPv6Unspecified()
	}
	bodies, err := netutil.List(f.host, "routes", rtnl.GetRoutes(like))
	l.cannot("routes", err)
	for _, b := range bodies {
		for _, r := range rtnl.ParseRoute(b) {
			link := f.node.Host.At(r.Link)
			if link == nil || r.Table != unix.RT_TABLE_MAIN || r.Type != unix.RTN_UNICAST || link.Name == "lo" || f.podsLink(link) || f.isSubnetOf(link, r.Dst) {
				continue
			}
			f.strayRoute(&r, link, l)
		}
	}
}

// isSubnetOf tells whether a route is that of a link's own subnet, of which hostSubnet tells.
func (f *facts) isSubnetOf(link *node.Link, dst netip.Prefix) bool {
	for _, p := range link.Addresses {
		if p.Masked() == dst {
			return true
		}
	}
	return false
}

func (f *facts) strayRoute(r *rtnl.Route, link *node.Link, l *list) {
	for i := range f.nets {
		n := &f.nets[i]
		for _, s := range n.Subnets {
			if n.main.Master == link.Name || !n.routed() || !s.Overlaps(r.Dst) || r.Dst.Bits() < s.Bits() || !n.gives(r.Dst) {
				continue
			}
			l.add(Problem, fmt.Sprintf("the route to %s leads by %s, but %s is the pods' of network %s", r.Dst, link.Name, s, n.Name),
				"what is for those pods goes elsewhere", "ip route del "+r.Dst.String()+" dev "+link.Name+", or give the network another subnet")
		}
	}
}
