package bridge

import (
	"net"
	"strconv"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

func (c *conf) bridged() *roles.BridgedPlan {
	return &roles.BridgedPlan{Bridge: c.Bridge, MAC: c.mac, Default: c.IsDefaultGateway, Gateways: c.IsGateway, Plan: c.plan}
}

// plan is the whole kernel state of an attachment.
func (c *conf) plan(o owner.Owner, mac net.HardwareAddr, ips []roles.IP, routes []*types.Route) (*netutil.Plan, error) {
	b := &roles.Bridged{
		MTU: c.MTU, Links: c.planLinks(o, mac), Exclusive: true, Force: c.ForceAddress, DAD: c.EnableDAD,
		Masquerade: c.IPMasq, CheckMAC: c.MACSpoofChk, CheckIP: c.IPSpoofChk,
	}
	if c.IsGateway {
		b.Gateway = c.gatewayLink()
	}
	return roles.PlanBridged(o, mac, b, ips, routes)
}

func (c *conf) planLinks(o owner.Owner, mac net.HardwareAddr) []netutil.Link {
	up := !c.DisableContainerInterface
	links := []netutil.Link{
		{Name: c.Bridge, Kind: netutil.Bridge, Shared: true, MTU: c.MTU, Up: true, Carrier: up, Promisc: c.PromiscMode, VLANs: c.filtersVLANs()},
		{
			Name: o.LinkName(), Kind: netutil.Veth, MTU: c.MTU, MAC: o.MAC(), Up: true, Carrier: up, OwnerTag: true,
			Master: c.Bridge,
			Port:   netutil.Port{Hairpin: c.HairpinMode, Isolated: c.PortIsolation, VLANs: c.vlans, NoVLAN1: c.dropsDefaultVLAN()},
			Peer:   &netutil.Link{Place: netutil.Sandbox, Name: o.IfName, MTU: c.MTU, MAC: mac, Up: up},
		},
	}
	if c.VLAN != 0 && c.IsGateway {
		links = append(links, c.vlanGateway())
	}
	return links
}

func (c *conf) dropsDefaultVLAN() bool { return c.filtersVLANs() && !c.PreserveDefaultVLAN }

// vlanGateway is a pair of which one end is a port in the pods' VLAN, and the other has the gateway's address: the bridge itself
// stays in the default VLAN.
func (c *conf) vlanGateway() netutil.Link {
	name := vlanLinkName(c.Bridge, c.VLAN)
	port := owner.Owner{ContainerID: c.Bridge, IfName: strconv.Itoa(c.VLAN)}.LinkName()
	vlan := netutil.VLAN{First: uint16(c.VLAN), Last: uint16(c.VLAN), Access: true}
	return netutil.Link{
		Name: name, Kind: netutil.Veth, Shared: true, MTU: c.MTU, Up: true,
		Peer: &netutil.Link{
			Name: port, MTU: c.MTU, Up: true, Master: c.Bridge,
			Port: netutil.Port{VLANs: []netutil.VLAN{vlan}, NoVLAN1: true},
		},
	}
}

// gatewayLink is the link that has the gateway's address.
func (c *conf) gatewayLink() string {
	if c.VLAN != 0 {
		return vlanLinkName(c.Bridge, c.VLAN)
	}
	return c.Bridge
}
