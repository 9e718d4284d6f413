package overlay

import (
	"net"
	"net/netip"
	"slices"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// protocol is the number that marks routes and neighbour entries as an overlay's (RTPROT_, /etc/iproute2/rt_protos has no name for it). A route
// over the underlay's link has the VNI as its metric, by which the overlays of a node are told apart.
const protocol = 193

// desired is what the kernel is to hold.
type desired struct {
	*underlay
	name  string
	alias string
	vxlan rtnl.VXLAN
	mac   net.HardwareAddr
	mark  net.HardwareAddr // that it is made with, by which it is known until it has its alias
	mtu   int

	addrs     map[netip.Prefix]bool
	routes    map[netip.Prefix]way
	neighbors map[netip.Addr]string // MAC addresses, as those of which the kernel tells
	forwards  map[string]netip.Addr // by MAC address
}

// way is how a subnet is reached.
type way struct {
	gateway netip.Addr
	direct  bool // over the underlay's link
}

// desire works out what the kernel is to hold.
func (c *Config) desire(u *underlay) (*desired, error) {
	mtu, err := u.mtu(c)
	if err != nil {
		return nil, err
	}
	own := deviceMAC(c.VNI, c.Subnets)
	d := &desired{
		underlay: u, name: c.DeviceName(), alias: aliasOf(c.Network), mtu: mtu, mac: own, mark: own,
		vxlan: rtnl.VXLAN{VNI: c.VNI, Port: c.Port, Local: u.addr},
		addrs: map[netip.Prefix]bool{}, routes: map[netip.Prefix]way{}, neighbors: map[netip.Addr]string{}, forwards: map[string]netip.Addr{},
	}
	self, subnets := c.self(u.addr), c.Subnets
	if self != nil {
		// What the others know counts.
		d.mac, subnets = self.mac(c.VNI), self.Subnets
	}
	for _, s := range subnets {
		first := s.Masked().Addr()
		d.addrs[netip.PrefixFrom(first, first.BitLen())] = true
	}
	for i := range c.Peers {
		p := &c.Peers[i]
		if p == self {
			continue
		}
		if err := d.reach(c, p); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// filter is what the packet filter is to know.
func (c *Config) filter(underlay netip.Addr) *nft.Overlay {
	o := &nft.Overlay{Network: c.Network, Port: c.Port}
	self := c.self(underlay)
	if self == nil {
		o.Subnets = append(o.Subnets, c.Subnets...)
	}
	for i := range c.Peers {
		p := &c.Peers[i]
		o.Subnets = append(o.Subnets, p.Subnets...)
		if a := p.reachedBy(underlay); p != self && a.IsValid() {
			o.Peers = append(o.Peers, a)
		}
	}
	return o
}

// reach adds what leads to a peer.
func (d *desired) reach(c *Config, p *Peer) error {
	for _, s := range p.Subnets {
		for _, own := range c.Subnets {
			if own.Overlaps(s) {
				return errcode.Errorf(errcode.InvalidConfig, "peers: the subnet %s of %s and this node's %s overlap", s, p.Name, own)
			}
		}
	}
	mac, tunnelled := p.mac(c.VNI), false
	for _, s := range p.Subnets {
		if !slices.ContainsFunc(c.Subnets, func(own netip.Prefix) bool { return own.Addr().Is4() == s.Addr().Is4() }) {
			continue // nobody here speaks to them
		}
		if gw := d.direct(p, s); gw.IsValid() {
			d.routes[s] = way{gw, true}
			continue
		}
		// A subnet's first address is nobody's: it stands for the peer's device.
		d.routes[s], d.neighbors[s.Addr()], tunnelled = way{gateway: s.Addr()}, mac.String(), true
	}
	if !tunnelled {
		return nil
	}
	remote := p.reachedBy(d.addr)
	if !remote.IsValid() {
		return errcode.Errorf(errcode.InvalidConfig, "peers: %s has no underlay address of the family of this node's, %s", p.Name, d.addr)
	}
	if mac.String() == d.mac.String() {
		return errcode.Errorf(errcode.InvalidConfig, "peers: %s has the MAC address of this node, %s", p.Name, mac)
	}
	if other, ok := d.forwards[mac.String()]; ok {
		return errcode.Errorf(errcode.InvalidConfig, "peers: %s has the MAC address of the peer at %s, %s", p.Name, other, mac)
	}
	d.forwards[mac.String()] = remote
	return nil
}
