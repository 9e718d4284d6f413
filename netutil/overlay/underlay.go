package overlay

import (
	"net/netip"
	"slices"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// underlay is the network below the tunnel, as this node sees it.
type underlay struct {
	addr   netip.Addr
	link   *rtnl.Link
	onLink []netip.Prefix // subnets of the link's addresses, if peers there are to be reached without the tunnel
}

// findUnderlay finds the link and the address by which this node reaches the others. An error has the code errcode.NotAvailable if what is missing
// may come.
func findUnderlay(n *netutil.Namespace, c *Config) (*underlay, error) {
	want, err := c.Underlay, error(nil)
	switch {
	case want.IsValid():
	case c.Device != "":
		want, err = addressOf(n, c.Device)
	default:
		want, err = towardsPeers(n, c)
	}
	if err != nil {
		return nil, err
	}
	l, err := netutil.LinkOf(n, want)
	switch {
	case err != nil:
		return nil, err
	case l == nil:
		return nil, errcode.Errorf(errcode.NotAvailable, "underlay: this node does not have the address %s", want)
	case c.Device != "" && l.Name != c.Device:
		return nil, errcode.Errorf(errcode.NotAvailable, "underlay: %s has the address %s, not %s", l.Name, want, c.Device)
	case !l.Up():
		return nil, errcode.Errorf(errcode.NotAvailable, "underlay: interface %s is down", l.Name)
	}
	u := &underlay{addr: want, link: l}
	if c.Direct {
		u.onLink, err = subnetsOf(n, l)
	}
	return u, err
}

// addressOf is the first address of a link from which others can be reached.
func addressOf(n *netutil.Namespace, device string) (netip.Addr, error) {
	l, err := netutil.FindLink(n, device)
	if err != nil {
		return netip.Addr{}, err
	}
	if l == nil {
		return netip.Addr{}, errcode.Errorf(errcode.NotAvailable, "underlay: no interface %s", device)
	}
	for _, like := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		list, err := netutil.AddrsOf(n, l, like)
		if err != nil {
			return netip.Addr{}, err
		}
		for _, a := range list {
			if usable(a.Prefix.Addr()) {
				return a.Prefix.Addr(), nil
			}
		}
	}
	return netip.Addr{}, errcode.Errorf(errcode.NotAvailable, "underlay: interface %s has no address", device)
}

// subnetsOf are those of a link's addresses.
func subnetsOf(n *netutil.Namespace, l *rtnl.Link) (all []netip.Prefix, err error) {
	for _, like := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		list, err := netutil.AddrsOf(n, l, like)
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			all = append(all, a.Prefix.Masked())
		}
	}
	return all, nil
}

// usable tells whether other hosts can be reached from an address.
func usable(a netip.Addr) bool { return !a.IsLoopback() && !a.IsLinkLocalUnicast() }

// towardsPeers is the address under which the list knows this node, by its subnets; where it does not, the one by which the first peer is reached
// that is not this node.
func towardsPeers(n *netutil.Namespace, c *Config) (netip.Addr, error) {
	for _, p := range c.Peers {
		if !slices.ContainsFunc(p.Subnets, func(s netip.Prefix) bool { return slices.Contains(c.Subnets, s) }) {
			continue
		}
		for _, a := range p.Underlay {
			if _, local, err := netutil.SourceTowards(n, a); err == nil && local {
				return a, nil
			}
		}
	}
	for _, p := range c.Peers {
		for _, a := range p.Underlay {
			source, local, err := netutil.SourceTowards(n, a)
			if err == nil && !local && source.IsValid() {
				return source, nil
			}
		}
	}
	return netip.Addr{}, errcode.Errorf(errcode.NotAvailable, "underlay: no route to any peer; name a link or an address")
}

// mtu of the tunnel's device, in bytes.
func (u *underlay) mtu(c *Config) (int, error) {
	most := u.link.MTU - overhead(u.addr)
	switch {
	case c.MTU > most:
		return 0, errcode.Errorf(errcode.InvalidConfig, "mtu: %d is more than %d, which the underlay leaves: %s has %d, and the tunnel takes %d",
			c.MTU, most, u.link.Name, u.link.MTU, overhead(u.addr))
	case c.KeptMTU != 0:
		return c.KeptMTU, nil
	case c.MTU != 0:
		most = c.MTU
	}
	if least := leastMTU(c.Subnets); most < least {
		return 0, errcode.Errorf(errcode.InvalidConfig, "mtu: %d is less than %d", most, least)
	}
	return most, nil
}

// direct is the address by which a peer's subnet is reached over the link itself; the zero Addr if it is not on it.
func (u *underlay) direct(p *Peer, subnet netip.Prefix) netip.Addr {
	a := p.reachedBy(subnet.Addr())
	for _, s := range u.onLink {
		if a.IsValid() && s.Contains(a) {
			return a
		}
	}
	return netip.Addr{}
}
