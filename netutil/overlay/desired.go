package overlay

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// protocol is the number that marks routes and neighbour entries as an overlay's (RTPROT_, /etc/iproute2/rt_protos has no name for it). A route
// over the underlay's link has the VNI as its metric, by which the overlays of a node are told apart.
const protocol = 193

// desired is what the kernel is to hold.
type desired struct {
	*underlay
	alias  string
	vxlan  rtnl.VXLAN
	tunnel device
	bridge *device // nil: the pods are reached by routes

	addrs     map[netip.Prefix]bool // of the bridge, or else the tunnel's device
	routes    map[netip.Prefix]way
	neighbors map[netip.Addr]string // MAC addresses, as those of which the kernel tells
	forwards  map[string]netip.Addr // by MAC address
	flood     map[netip.Addr]bool   // who gets what is for all
	known     map[netip.Addr]bool   // behind whom pods can be; nil: anybody
	ports     []string              // of the bridge, besides the tunnel's device
	suppress  rtnl.Switch           // on the tunnel's port
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
	mark := deviceMAC(c.VNI, c.Subnets)
	d := &desired{
		underlay: u, alias: aliasOf(c.Network),
		vxlan:  rtnl.VXLAN{VNI: c.VNI, Port: c.Port, Local: u.addr},
		tunnel: device{name: c.DeviceName(), kind: "vxlan", key: "vni", mac: mark, mark: mark, mtu: mtu},
		addrs:  map[netip.Prefix]bool{}, routes: map[netip.Prefix]way{}, neighbors: map[netip.Addr]string{}, forwards: map[string]netip.Addr{},
		flood: map[netip.Addr]bool{},
	}
	if c.bridged() {
		return d, d.bridged(c)
	}
	return d, d.routed(c)
}

// routed adds what leads to the peers' subnets.
func (d *desired) routed(c *Config) error {
	self, subnets := c.self(d.addr), c.Subnets
	if self != nil {
		// What the others know counts.
		d.tunnel.mac, subnets = self.mac(c.VNI), self.Subnets
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
			return err
		}
	}
	return nil
}

// mostLearned is how many pods of other nodes the kernel remembers: a pod that sends from ever new MAC addresses must not take all memory.
const mostLearned = 1 << 14

// bridged adds what leads to the peers where all pods are on one link.
func (d *desired) bridged(c *Config) error {
	id := strconv.FormatUint(uint64(c.VNI), 10) + "/" + d.addr.String()
	d.tunnel.mac, d.tunnel.keepsMAC = owner.NodeMAC(id), true
	d.bridge = &device{name: c.Bridge, kind: "bridge", key: "bridge", mac: c.MAC, mark: d.tunnel.mark, mtu: d.tunnel.mtu}
	if c.MAC == nil {
		d.bridge.mac, d.bridge.keepsMAC = owner.NodeMAC(id+"/bridge"), true
	}
	d.vxlan.Learns, d.vxlan.Limit = true, mostLearned
	d.ports, d.suppress = c.Ports, rtnl.SwitchOf(!c.AskAll)
	for _, g := range c.Gateways {
		d.addrs[g] = true
	}
	self := c.self(d.addr)
	for i := range c.Peers {
		p := &c.Peers[i]
		if p == self {
			continue
		}
		remote, err := d.remoteOf(p)
		if err != nil {
			return err
		}
		d.flood[remote] = true
	}
	if len(c.Peers) > 0 {
		d.known = d.flood
	}
	if !c.Group.IsValid() {
		return nil
	}
	if c.Group.Is4() != d.addr.Is4() {
		return errcode.Errorf(errcode.InvalidConfig, "group: %s is not of the family of this node's underlay address, %s", c.Group, d.addr)
	}
	d.vxlan.Group, d.vxlan.Link = c.Group, d.link.Index
	d.flood = map[netip.Addr]bool{c.Group: true}
	return nil
}

// remoteOf is where the tunnel to a peer ends.
func (d *desired) remoteOf(p *Peer) (netip.Addr, error) {
	remote := p.reachedBy(d.addr)
	if !remote.IsValid() {
		return remote, errcode.Errorf(errcode.InvalidConfig, "peers: %s has no underlay address of the family of this node's, %s", p.Name, d.addr)
	}
	return remote, nil
}

// filter is what the packet filter is to know: who the nodes are, between which subnets nothing is masqueraded, and by what ways the pods of other nodes
// come in. Where all are on one link they come by the bridge, like those of this node: but then the packet filter sees them only if module
// br_netfilter is loaded.
func (d *desired) filter(c *Config) *nft.Overlay {
	o := &nft.Overlay{Network: c.Network, Port: c.Port, VNI: c.VNI}
	if len(c.Peers) == 0 {
		o.Port = 0 // whoever is in the group may send
	}
	self := c.self(d.addr)
	for i := range c.Peers {
		p := &c.Peers[i]
		if a := p.reachedBy(d.addr); p != self && a.IsValid() {
			o.Peers = append(o.Peers, a)
		}
	}
	switch {
	case !c.bridged():
		d.routedFilter(c, self, o)
	case !c.NoHost:
		o.Subnets, o.Device, o.Local = c.Subnets, c.Bridge, c.Subnets
	}
	return o
}

func (d *desired) routedFilter(c *Config, self *Peer, o *nft.Overlay) {
	own := c.Subnets
	if self != nil {
		own = self.Subnets
	} else {
		o.Subnets = append(o.Subnets, own...)
	}
	for i := range c.Peers {
		o.Subnets = append(o.Subnets, c.Peers[i].Subnets...)
	}
	if len(d.routes) == 0 { // there are no other nodes
		return
	}
	o.Device, o.Local = c.DeviceName(), own
	for dst, w := range d.routes {
		if w.direct {
			o.Direct = append(o.Direct, dst)
		}
	}
	slices.SortFunc(o.Direct, netip.Prefix.Compare) // a record of it is compared as text
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
	remote, err := d.remoteOf(p)
	if err != nil {
		return err
	}
	if mac.String() == d.tunnel.mac.String() {
		return errcode.Errorf(errcode.InvalidConfig, "peers: %s has the MAC address of this node, %s", p.Name, mac)
	}
	if other, ok := d.forwards[mac.String()]; ok {
		return errcode.Errorf(errcode.InvalidConfig, "peers: %s has the MAC address of the peer at %s, %s", p.Name, other, mac)
	}
	d.forwards[mac.String()] = remote
	return nil
}
