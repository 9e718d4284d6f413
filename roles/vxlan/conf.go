package vxlan

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/overlay"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	VNI           int             `json:"vni" required:"true" min:"1" max:"16777215" doc:"the network's number in the tunnel, 1 to 16777215; the same on all nodes"`
	Port          *int            `json:"port" min:"1" max:"65535" default:"4789" doc:"UDP port of the tunnel; the same on all nodes"`
	Underlay      string          `json:"underlay" doc:"this node's address there, or the interface that has it; without, the one that the list has for this node's subnets, or else the one from which the first peer is reached"`
	Peers         json.RawMessage `json:"peers" type:"list" doc:"all nodes; this one may be among them, so that one list serves all"`
	PeersFile     string          `json:"peersFile" file:"root" doc:"a file that holds the list, in place of 'peers'; each ADD sees whether it has changed, so it must be replaced as a whole (rename). It is root's, nobody else may write to it, and it has at most 8 MiB"`
	NodeSubnets   []string        `json:"nodeSubnets" doc:"this node's subnets, as the others list them; without, those of the ranges of 'ipam'"`
	DirectRouting bool            `json:"directRouting" default:"false" doc:"peers on the same link are reached by a route beside the tunnel"`
	MTU           int             `json:"mtu" min:"68" max:"65535" also:"0" default:"0" doc:"of pods, in bytes; 0 is what the underlay leaves: 50 less than its interface has over IPv4, 70 over IPv6"`
	IPMasq        bool            `json:"ipMasq" default:"false" doc:"what pods send to elsewhere carries the node's address; never what they send to pods, on this node or another"`
	Keep          bool            `json:"keep" default:"false" doc:"the tunnel stays when the last pod goes"`
	Mode          string          `json:"mode" enum:"routed,bridged" default:"routed" doc:"'routed', or 'bridged': the pods of all nodes are on one link, see below"`
	Bridge        string          `json:"bridge" doc:"bridged: the name of the bridge; without, 'br-' and the network's name, if that is short enough"`
	Group         string          `json:"group" doc:"bridged: the multicast address where frames for all go, in place of one to each peer"`
	IsGateway     *bool           `json:"isGateway" default:"true" doc:"bridged: the bridge has the address that ipam names as the gateway; else the node is not on the link"`
	NeighSuppress *bool           `json:"neighSuppress" default:"true" doc:"bridged: see below"`
	MACSpoofChk   bool            `json:"macspoofchk" default:"false" doc:"bridged: as of the plugin bridge"`
	IPSpoofChk    bool            `json:"ipspoofchk" default:"false" doc:"bridged: as of the plugin bridge"`
	DNS           types.DNS       `json:"dns" doc:"replaces what ipam says"`
	IPAM          struct {
		Type string `json:"type"`
		ipamRange
		Ranges [][]ipamRange `json:"ranges"`
	} `json:"ipam" plugin:"ipam" required:"true" doc:"any ipam plugin. Of host-local's ranges this role reads 'subnet', and in mode bridged 'rangeStart', 'rangeEnd' and 'gateway'"`

	overlay overlay.Config // without peers
}

// ipamRange is what the role reads of a range of the ipam plugin host-local.
type ipamRange struct {
	Subnet     string `json:"subnet"`
	RangeStart string `json:"rangeStart"`
	RangeEnd   string `json:"rangeEnd"`
	Gateway    string `json:"gateway"`
}

func invalid(format string, args ...any) error {
	return errcode.Errorf(errcode.InvalidConfig, format, args...)
}

// load reads and checks the configuration, but for the peers.
func load(r *roles.Request) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	if c.IPAM.Type == "" {
		return nil, invalid("ipam.type: missing; an interface is nothing here without an address")
	}
	if err := c.checkNumbers(); err != nil {
		return nil, err
	}
	if len(c.Peers) > 0 && c.PeersFile != "" {
		return nil, invalid("peersFile: peers are there as well")
	}
	if len(c.Peers) == 0 && c.PeersFile == "" && c.Group == "" {
		return nil, invalid("peers: missing, and no peersFile either")
	}
	if c.PeersFile != "" && !filepath.IsAbs(c.PeersFile) {
		return nil, invalid("peersFile: %q is no absolute path", c.PeersFile)
	}
	o := &c.overlay
	*o = overlay.Config{Network: r.Owner.Network, VNI: uint32(c.VNI), Port: uint16(*c.Port), MTU: c.MTU, Direct: c.DirectRouting, PeersFile: c.PeersFile}
	if err := c.readUnderlay(); err != nil {
		return nil, err
	}
	if err := c.readMode(); err != nil {
		return nil, err
	}
	subnets, err := c.subnets()
	if err != nil {
		return nil, err
	}
	o.Subnets = subnets
	return c, o.Check()
}

func (c *conf) checkNumbers() error {
	if c.VNI < 1 || c.VNI > overlay.MostVNI {
		return invalid("vni: %d is not within 1 and %d", c.VNI, overlay.MostVNI)
	}
	if c.Port == nil {
		standard := overlay.DefaultPort
		c.Port = &standard
	}
	if *c.Port < 1 || *c.Port > 1<<16-1 {
		return invalid("port: %d is not within 1 and %d", *c.Port, 1<<16-1)
	}
	return roles.CheckMTU(c.MTU)
}

// readUnderlay reads an address or the name of a link.
func (c *conf) readUnderlay() error {
	if c.Underlay == "" {
		return nil
	}
	if a, err := netip.ParseAddr(c.Underlay); err == nil && a.Zone() == "" {
		c.overlay.Underlay = a.Unmap()
		return nil
	}
	c.overlay.Device = c.Underlay
	return roles.CheckLinkName("underlay", c.Underlay)
}

// subnets are the node's own: those of nodeSubnets, or of the ranges that ipam has.
func (c *conf) subnets() (out []netip.Prefix, err error) {
	add := func(key, text string) {
		p, parseErr := roles.ParsePrefix(key, text)
		if err == nil {
			err = parseErr
		}
		if parseErr == nil {
			out = append(out, p.Masked())
		}
	}
	for i, s := range c.NodeSubnets {
		add(roles.Elem("nodeSubnets", i), s)
	}
	if len(c.NodeSubnets) > 0 {
		return out, err
	}
	c.eachRange(func(at string, r *ipamRange) { add(at+"subnet", r.Subnet) })
	return widest(out), err
}

// eachRange calls f with the ranges of the ipam plugin, and with the key that each of theirs begins with.
func (c *conf) eachRange(f func(at string, r *ipamRange)) {
	if c.IPAM.Subnet != "" {
		f("ipam.", &c.IPAM.ipamRange)
	}
	for i, set := range c.IPAM.Ranges {
		for j := range set {
			f(roles.Elem(roles.Elem("ipam.ranges", i), j)+".", &set[j])
		}
	}
}

// widest leaves out those subnets that others hold.
func widest(subnets []netip.Prefix) (out []netip.Prefix) {
	slices.SortStableFunc(subnets, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	for _, s := range subnets {
		if !slices.ContainsFunc(out, s.Overlaps) {
			out = append(out, s)
		}
	}
	return out
}
