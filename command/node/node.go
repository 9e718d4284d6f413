// Package node is a snapshot of what this node has for its pods: namespaces, links and addresses as the kernel tells of them, and attachments put
// together from every place where something of them is kept. It changes nothing.
package node

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/cnibox/cnibox/netutil/overlay"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Node is the snapshot.
type Node struct {
	Time        time.Time     `json:"time"`
	Host        *Namespace    `json:"host"`
	Namespaces  []*Namespace  `json:"namespaces"` // all others that could be found
	Attachments []*Attachment `json:"attachments"`
	Overlays    []*Overlay    `json:"overlays"`
	Findings    []Finding     `json:"findings"` // of no attachment
	Problems    []string      `json:"problems"` // what could not be read
}

// Namespace is a network namespace.
type Namespace struct {
	Inode uint64  `json:"inode"`
	Path  string  `json:"path"` // one by which it can be opened
	PID   int     `json:"pid"`  // of a process in it; 0: none
	NSID  int     `json:"nsid"` // its number on the host (ip-netns(8)); rtnl.NoNamespace: none
	Links []*Link `json:"links"`

	hostNSID int // the host's number in it
	byIndex  map[int]*Link
}

// Link is an interface.
type Link struct {
	Index     int            `json:"index"`
	Name      string         `json:"name"`
	Kind      string         `json:"kind,omitempty"` // "veth"; empty for hardware
	MAC       string         `json:"mac,omitempty"`
	MTU       int            `json:"mtu"`
	Up        bool           `json:"up"`      // administratively
	Running   bool           `json:"running"` // it carries traffic
	Master    int            `json:"master,omitempty"`
	Peer      int            `json:"peer,omitempty"` // index of the other end of a veth, or of the link that it is made on
	PeerNSID  int            `json:"peerNSID"`       // of the namespace that Peer is in; rtnl.NoNamespace: its own
	Alias     string         `json:"alias,omitempty"`
	AltNames  []string       `json:"altNames,omitempty"`
	VLAN      int            `json:"vlan,omitempty"`
	VXLAN     *VXLAN         `json:"vxlan,omitempty"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
}

// VXLAN is what a tunnel's device has of its own.
type VXLAN struct {
	VNI   uint32     `json:"vni"`
	Port  uint16     `json:"port"`
	Local netip.Addr `json:"local"`
}

// Attachment is an interface of a container in a network. What is not known is empty.
type Attachment struct {
	Network     string `json:"network"`
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
	Cut         bool   `json:"cut,omitempty"` // network and container ID were too long, and nothing tells them whole
	Pod         string `json:"pod,omitempty"` // namespace/name, if a runtime has told
	Type        string `json:"type,omitempty"`

	State    State     `json:"state"`
	Sandbox  string    `json:"sandbox,omitempty"`
	NSID     int       `json:"nsid"`
	Link     *Link     `json:"link,omitempty"`     // in the sandbox
	HostLink *Link     `json:"hostLink,omitempty"` // the other end of a veth
	Parent   string    `json:"parent,omitempty"`   // link of the host that Link is made on
	Bridge   string    `json:"bridge,omitempty"`
	Since    time.Time `json:"since,omitzero"`

	Addresses []netip.Prefix `json:"addresses,omitempty"` // that Link has, without link-local ones
	Reserved  []netip.Addr   `json:"reserved,omitempty"`  // by host-local
	Leased    bool           `json:"leased,omitempty"`    // by dhcp
	Result    []netip.Prefix `json:"result,omitempty"`    // as the runtime keeps it
	Ports     []*Port        `json:"ports,omitempty"`
	Limits    *Limits        `json:"limits,omitempty"`
	Rules     []Rules        `json:"rules,omitempty"`
	Findings  []Finding      `json:"findings,omitempty"`

	sources sources
}

// State says in a word how an attachment is.
type State string

// The states.
const (
	OK     State = "ok"
	Drift  State = "drift"  // something is missing or different
	Orphan State = "orphan" // its sandbox is gone, and something is left
	Gone   State = "gone"   // its sandbox is gone, and nothing is left but what the runtime keeps
)

// Port is a host port that leads to the attachment.
type Port struct {
	Protocol   string     `json:"protocol"`
	HostIP     netip.Addr `json:"hostIP,omitzero"`
	HostPort   uint16     `json:"hostPort"`
	Addr       netip.Addr `json:"addr,omitzero"`
	Port       uint16     `json:"port"`
	Conditions []string   `json:"conditions,omitempty"`
}

// String is the port as people write it.
func (p Port) String() string {
	text := strconv.Itoa(int(p.HostPort))
	if p.HostIP.IsValid() {
		text = netip.AddrPortFrom(p.HostIP, p.HostPort).String()
	}
	return text + "->" + strconv.Itoa(int(p.Port)) + "/" + p.Protocol
}

// Limits are in bits per second; 0: no limit. In is what the pod receives.
type Limits struct {
	In     uint64 `json:"in"`
	Out    uint64 `json:"out"`
	Device string `json:"device,omitempty"` // through which goes what the pod sends
}

// Rules is what the packet filter has for an attachment.
type Rules struct {
	Feature  string   `json:"feature"`
	Elements int      `json:"elements"`
	Missing  []string `json:"missing,omitempty"`
}

// Finding is something that is not right.
type Finding struct {
	Kind State  `json:"kind"` // Orphan or Drift
	Text string `json:"text"`
	Fix  string `json:"fix"` // what to do
}

// Overlay is a network over many nodes (role vxlan).
type Overlay struct {
	Network  string         `json:"network"`
	VNI      uint32         `json:"vni"`
	Port     uint16         `json:"port"`
	Device   string         `json:"device"`
	Bridge   string         `json:"bridge,omitempty"`
	Underlay netip.Addr     `json:"underlay,omitzero"` // of this node
	Subnets  []netip.Prefix `json:"subnets"`
	Peers    []Peer         `json:"peers"`
}

// Peer is another node of an overlay.
type Peer struct {
	Name     string         `json:"name"`
	Underlay []netip.Addr   `json:"underlay"`
	Subnets  []netip.Prefix `json:"subnets,omitempty"`
}

// Owner is who an attachment is, as everything that is kept of it names it.
func (a *Attachment) Owner() owner.Owner {
	return owner.Owner{Network: a.Network, ContainerID: a.ContainerID, IfName: a.IfName}
}

// Addrs are the addresses of an attachment as far as anything tells of them: the kernel, else the reservation, else the result.
func (a *Attachment) Addrs() (out []netip.Addr) {
	for _, p := range a.Addresses {
		out = append(out, p.Addr())
	}
	if len(out) == 0 {
		out = append(out, a.Reserved...)
	}
	if len(out) == 0 {
		for _, p := range a.Result {
			out = append(out, p.Addr())
		}
	}
	return out
}

// Named is the link of a name; nil if there is none.
func (n *Namespace) Named(name string) *Link {
	for _, l := range n.Links {
		if l.Name == name {
			return l
		}
	}
	return nil
}

// At is the link of an index; nil if there is none.
func (n *Namespace) At(index int) *Link {
	if n.byIndex != nil {
		return n.byIndex[index]
	}
	for _, l := range n.Links { // of a snapshot that was read from JSON
		if l.Index == index {
			return l
		}
	}
	return nil
}

// Of is the namespace of a number on the host; nil if there is none that could be found.
func (n *Node) Of(nsid int) *Namespace {
	if nsid == rtnl.NoNamespace {
		return nil
	}
	for _, ns := range n.Namespaces {
		if ns.NSID == nsid {
			return ns
		}
	}
	return nil
}

// overlayOf is what is told of an overlay.
func overlayOf(c *overlay.Config) *Overlay {
	o := &Overlay{
		Network: c.Network, VNI: c.VNI, Port: c.Port, Device: c.DeviceName(), Bridge: c.Bridge, Underlay: c.Underlay,
		Subnets: append([]netip.Prefix{}, c.Subnets...), Peers: []Peer{},
	}
	for i := range c.Peers {
		o.Peers = append(o.Peers, Peer{c.Peers[i].Name, append([]netip.Addr{}, c.Peers[i].Underlay...), c.Peers[i].Subnets})
	}
	return o
}
