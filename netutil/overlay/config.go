// Package overlay keeps a node's part of a network over many nodes: a VXLAN device (RFC 7348), and for each other node a route to its pods, a
// neighbour entry and a forwarding entry; or else a bridge that has the device as a port, and for each other node an entry by which it gets what is for
// all. From a list of peers and a node's settings follows what the kernel is to hold; what it lacks is made, and what it has too much of ours is taken
// away. It knows nothing of pods.
package overlay

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
)

// Config is a node's settings, and its peers.
type Config struct {
	Network  string         // whose overlay it is; stands in the device's alias
	VNI      uint32         // VXLAN network identifier, 1 to 2^24-1
	Port     uint16         // UDP; all nodes have the same
	Device   string         // underlay: the link that leads to the peers; empty: that of Underlay
	Underlay netip.Addr     // this node's address there; the zero Addr: the first of Device, or the one that towardsPeers finds
	MTU      int            // bytes, of a packet in the tunnel; 0: what the underlay leaves
	Direct   bool           // peers on the same link are reached without the tunnel
	Subnets  []netip.Prefix // of the node's pods; bridged: of the pods of all nodes
	Peers    []Peer         // may have this node in it
	Bridged
	// PeersFile is where the list of peers was read; empty: it was not in a file.
	PeersFile string
}

// Bridged is what there is besides where the pods of all nodes are on one link (a broadcast domain). What the pods that are there rely on stays the same
// until the last of them goes.
type Bridged struct {
	Bridge   string           // of which the tunnel's device is a port; empty: the pods are reached by routes
	Group    netip.Addr       // multicast, where frames for all go in place of to each peer; the zero Addr: none
	AskAll   bool             // all nodes get all ARP requests and neighbour solicitations
	NoHost   bool             // the node itself is not on the link
	MAC      net.HardwareAddr // of the bridge; nil: one that follows from the node's underlay address
	KeptMTU  int              // bytes; 0: what the underlay leaves now
	Gateways []netip.Prefix   // addresses of the bridge, and their subnets
	Ports    []string         // other links that belong to the bridge, if they are there
}

// DefaultPort is that of VXLAN (IANA).
const DefaultPort = 4789

// MostVNI is the greatest VXLAN network identifier.
const MostVNI = 1<<24 - 1

// bridged tells whether the pods of all nodes are on one link (a broadcast domain).
func (c *Config) bridged() bool { return c.Bridge != "" }

// Check refuses what no node can have. The error has the code errcode.InvalidConfig and names the key.
func (c *Config) Check() error {
	switch {
	case c.VNI == 0 || c.VNI > MostVNI:
		return errcode.Errorf(errcode.InvalidConfig, "vni: %d is not within 1 and %d", c.VNI, MostVNI)
	case c.Port == 0:
		return errcode.Errorf(errcode.InvalidConfig, "port: 0 is none")
	case len(c.Subnets) == 0:
		return errcode.Errorf(errcode.InvalidConfig, "nodeSubnets: missing, and no range of ipam either; other nodes do not know this one's pods by anything else")
	case c.bridged() && c.Direct:
		return errcode.Errorf(errcode.InvalidConfig, "directRouting: not in mode bridged, where there are no routes")
	case c.Group.IsValid() && !c.Group.IsMulticast():
		return errcode.Errorf(errcode.InvalidConfig, "group: %s is no multicast address", c.Group)
	}
	return nil
}

// DeviceName is the name of the tunnel's device.
func (c *Config) DeviceName() string { return "vxlan" + strconv.FormatUint(uint64(c.VNI), 10) }

// aliasOf is the device's alias, which says whose it is.
func aliasOf(network string) string { return "cnibox overlay " + network }

// deviceMAC follows from the subnets of a node, so that the others know it without asking, and it never changes.
func deviceMAC(vni uint32, subnets []netip.Prefix) net.HardwareAddr {
	var least netip.Prefix // of none, as a list may have that was meant for another mode
	if len(subnets) > 0 {
		least = slices.MinFunc(subnets, netip.Prefix.Compare)
	}
	return owner.NodeMAC(strconv.FormatUint(uint64(vni), 10) + "/" + least.String())
}

// overhead is what the tunnel adds to a packet, in bytes: Ethernet within, VXLAN, UDP and IP.
func overhead(underlay netip.Addr) int {
	const inner, vxlan, udp, ipv4, ipv6 = 14, 8, 8, 20, 40
	if underlay.Is4() {
		return inner + vxlan + udp + ipv4
	}
	return inner + vxlan + udp + ipv6
}

// leastMTU is what IPv4 and IPv6 need, in bytes (RFC 791; RFC 8200, section 5).
func leastMTU(subnets []netip.Prefix) int {
	if slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		return 1280
	}
	return 68
}

// self is this node's entry in the list of peers; nil if there is none.
func (c *Config) self(underlay netip.Addr) *Peer {
	for i := range c.Peers {
		if slices.Contains(c.Peers[i].Underlay, underlay) {
			return &c.Peers[i]
		}
	}
	return nil
}
