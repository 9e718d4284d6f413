package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// forwarding looks at the sysctls that a router needs.
func forwarding(f *facts, l *list) {
	f.forwards(false, l, "net", "ipv4", "ip_forward")
	f.forwards(true, l, "net", "ipv6", "conf", "all", "forwarding")
	f.disabledIPv6(l)
	defaults := f.defaultLinks(l)
	f.strict(defaults, l)
	f.advertisements(l)
}

// forwards looks whether a family is forwarded, if pods need it. The first pod of a network switches it on.
func (f *facts) forwards(v6 bool, l *list, parts ...string) {
	var who []string
	for _, a := range f.node.Attachments {
		if f.routesFor(a) && slices.ContainsFunc(a.Addrs(), func(addr netip.Addr) bool { return addr.Is6() == v6 }) {
			who = append(who, a.Network)
		}
	}
	if on, ok := f.sysctl(parts...); !ok || on != 0 || len(who) == 0 {
		return
	}
	key := strings.Join(parts, ".")
	l.add(Problem, key+" is 0", fmt.Sprintf("pods of %s reach nothing beyond this host", strings.Join(unique(who), ", ")),
		"sysctl -w "+key+"=1, and look in /etc/sysctl.d for who switches it off").by(func() error {
		_, err := f.host.SetSysctl("1", parts...)
		return err
	})
}

func (f *facts) disabledIPv6(l *list) {
	if off, _ := f.sysctl("net", "ipv6", "conf", "all", "disable_ipv6"); off == 0 {
		return
	}
	for i := range f.nets {
		if n := &f.nets[i]; n.is6(true) && n.routed() {
			l.add(Problem, "net.ipv6.conf.all.disable_ipv6 is 1", "network "+n.Name+" has IPv6 addresses, and the host forwards none",
				"sysctl -w net.ipv6.conf.all.disable_ipv6=0, or take the IPv6 range out of the network")
			return
		}
	}
}

// defaultLinks are the links that default routes of IPv4 lead by.
func (f *facts) defaultLinks(l *list) (links []*node.Link) {
	bodies, err := netutil.List(f.host, "routes", rtnl.GetRoutes(netip.IPv4Unspecified()))
	l.cannot("routes", err)
	for _, b := range bodies {
		for _, r := range rtnl.ParseRoute(b) {
			link := f.node.Host.At(r.Link)
			if r.Dst.Bits() == 0 && r.Table == unix.RT_TABLE_MAIN && link != nil && !slices.Contains(links, link) {
				links = append(links, link)
			}
		}
	}
	return links
}

// strict looks for strict reverse path filters where packets may come in by another link than answers take: with several ways out, and behind tunnels.
func (f *facts) strict(defaults []*node.Link, l *list) {
	watched := slices.Clone(defaults)
	if len(defaults) < 2 {
		watched = nil
	}
	for _, o := range f.node.Overlays {
		if link := f.node.Host.Named(o.Device); link != nil {
			watched = append(watched, link)
		}
	}
	all, _ := f.sysctl("net", "ipv4", "conf", "all", "rp_filter")
	for _, link := range watched {
		own, ok := f.sysctl("net", "ipv4", "conf", link.Name, "rp_filter")
		if !ok || max(all, own) != 1 {
			continue
		}
		key := "net.ipv4.conf." + link.Name + ".rp_filter"
		l.add(Warning, key+" is 1 (strict; the larger one of it and of \"all\" counts)",
			"packets that come in by "+link.Name+" are dropped if the way back leads by another link", "sysctl -w "+key+"=2 (loose)")
	}
}

// madeByRouter is RTPROT_RA, the protocol of routes that a router's advertisement has brought.
const madeByRouter = 9

// advertisements looks for hosts that live by a router's advertisements and no longer take them, since they forward.
func (f *facts) advertisements(l *list) {
	if on, _ := f.sysctl("net", "ipv6", "conf", "all", "forwarding"); on == 0 {
		return
	}
	bodies, err := netutil.List(f.host, "routes", rtnl.GetRoutes(netip.IPv6Unspecified()))
	if err != nil { // a kernel without IPv6
		return
	}
	told := map[int]bool{}
	for _, b := range bodies {
		for _, r := range rtnl.ParseRoute(b) {
			link := f.node.Host.At(r.Link)
			if r.Protocol != madeByRouter || r.Dst.Bits() != 0 || link == nil || told[r.Link] {
				continue
			}
			told[r.Link] = true
			if takes, ok := f.sysctl("net", "ipv6", "conf", link.Name, "accept_ra"); !ok || takes != 1 {
				continue
			}
			key := "net.ipv6.conf." + link.Name + ".accept_ra"
			l.add(Warning, key+" is 1 while the host forwards", "the kernel then takes no router's advertisement, and the IPv6 default route by "+link.Name+" runs out",
				"sysctl -w "+key+"=2")
		}
	}
}
