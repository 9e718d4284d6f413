package netutil

import (
	"net"
	"net/netip"
	"slices"

	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Plan is the kernel state that one attachment wants. It is made without side effects; Apply makes it so, Verify is CHECK.
// Within each list the order matters: a bridge stands before its ports, a route to a gateway before the routes through it.
type Plan struct {
	Owner   owner.Owner
	Links   []Link
	Sysctls []Sysctl // written once all links exist, before the sandbox's links go up
	Addrs   []Addr
	Routes  []Route
	Filter  []nft.Entry

	Shapers   []Shaper
	Redirects []Redirect
}

// Standing is the plan for links that have been made: all else of it is still to be done.
func (p *Plan) Standing() *Plan {
	out := *p
	out.Links = nil
	for _, l := range p.Links {
		l.Kind = Existing
		out.Links = append(out.Links, l)
	}
	return &out
}

// Foreign is the plan of an attachment that another program has made, with the host side of its own: that has another name and MAC address there.
// What such a program leaves as it is, is not compared: sysctls, and how an existing link behaves as a bridge port.
func (p *Plan) Foreign(hostSide string) *Plan {
	out := *p
	own := p.Owner.LinkName()
	rename := func(place Place, name *string) {
		if place == Host && *name == own {
			*name = hostSide
		}
	}
	out.Links, out.Addrs, out.Routes, out.Sysctls = slices.Clone(p.Links), slices.Clone(p.Addrs), slices.Clone(p.Routes), nil
	for i := range out.Links {
		l := &out.Links[i]
		if l.Place == Host && l.Name == own {
			l.MAC = nil
		}
		if l.Kind == Existing {
			l.Port = Port{}
		}
		rename(l.Place, &l.Name)
	}
	for i := range out.Addrs {
		rename(out.Addrs[i].Place, &out.Addrs[i].Link)
	}
	for i := range out.Routes {
		rename(out.Routes[i].Place, &out.Routes[i].Link)
	}
	return &out
}

// Place is the namespace that an object belongs to.
type Place uint8

// The places.
const (
	Host Place = iota
	Sandbox
)

func (p Place) String() string {
	if p == Sandbox {
		return "sandbox"
	}
	return "host"
}

// Kind is the type of a link.
type Kind uint8

// The kinds. An Existing link is set up as planned, but neither made nor removed.
const (
	Existing Kind = iota
	Bridge
	Veth
	Macvlan
	IPvlan
	VLANLink // IEEE 802.1Q or 802.1ad
	Dummy
	IFB // intermediate functional block: what is sent out of it is received behind it
	TapDevice
)

// Link is a network interface.
type Link struct {
	Place    Place
	Name     string
	Kind     Kind
	Shared   bool // attachments share it: it may exist already, and is only undone by who made it, while nobody else uses it
	MTU      int  // bytes; 0: the kernel's default
	MAC      net.HardwareAddr
	Up       bool
	Promisc  bool   // Bridge: receive all frames
	VLANs    bool   // Bridge: filter by VLAN
	Master   string // name of the bridge that this is a port of, or of the VRF that it follows
	Port     Port   // how it behaves there
	Peer     *Link  // Veth: the other end
	Parent   string // Macvlan, IPvlan, VLANLink: the link that it is made on; Verify: empty if it is not known
	ParentAt Place
	Child    rtnl.Child // what it has of its own there
	Tap      *Tap       // TapDevice: what it has of its own
	Carrier  bool       // wait until the link carries traffic
	OwnerTag bool       // write the owner into the link's alias
}

// Port is what a bridge knows of one of its ports.
type Port struct {
	Hairpin  bool
	Isolated bool
	VLANs    []VLAN // nil: what the bridge gives a new port (its default PVID)
	NoVLAN1  bool   // take the default VLAN away from the port
}

// VLAN is a range of VLAN IDs that a port is a member of.
type VLAN struct {
	First, Last uint16
	Access      bool // untagged on the wire, and given to frames that arrive untagged (PVID)
}

// Sysctl is a value under /proc/sys.
type Sysctl struct {
	Place Place
	Path  []string // below /proc/sys; elements are not split, since interface names may hold dots
	Value string
}

// Addr is an address on a link.
type Addr struct {
	Place         Place
	Link          string
	Prefix        netip.Prefix // the address itself, with the length of its subnet
	DAD           bool         // IPv6: wait for duplicate address detection (RFC 4862), which takes more than a second
	NoPrefixRoute bool         // make no route to the subnet
	Announce      bool         // tell the neighbours which MAC address it has now (announce.go)
	Shared        bool         // attachments share it: it may exist already, and stays
	// Exclusive refuses another address of the link that stands in the way: any IPv4 address that is not planned, or an
	// IPv6 address of an overlapping subnet. Force removes it instead.
	Exclusive, Force bool
}

// Route is a route out of a link.
type Route struct {
	Place    Place
	Link     string
	Dst      netip.Prefix
	Gateway  netip.Addr // the zero Addr: directly connected
	Source   netip.Addr // the zero Addr: the kernel's choice
	Scope    int        // rtnetlink's RT_SCOPE_; 0 is universe
	Table    int        // 0: main
	AnyTable bool       // Verify: the table is not known
	Priority int        // metric; 0: the kernel's default
	MTU      int        // bytes; 0: the link's
	AdvMSS   int        // bytes; 0: derived from the MTU
}

// Kernel is where plans are applied.
type Kernel struct {
	Host    *Namespace
	Sandbox *Namespace
}

func (k Kernel) at(p Place) *Namespace {
	if p == Sandbox {
		return k.Sandbox
	}
	return k.Host
}
