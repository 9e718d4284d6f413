package vxlan

import (
	"context"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// This file is the mode in which the pods of all nodes are on one link: a bridge on each node has the tunnel's device as a port.

// readMode reads the keys that one mode has and the other has not.
func (c *conf) readMode() error {
	switch c.Mode {
	case "", "routed":
		switch {
		case c.Bridge != "":
			return invalid("bridge: only in mode bridged")
		case c.Group != "":
			return invalid("group: only in mode bridged")
		case c.IsGateway != nil:
			return invalid("isGateway: only in mode bridged")
		case c.NeighSuppress != nil:
			return invalid("neighSuppress: only in mode bridged")
		case c.MACSpoofChk || c.IPSpoofChk:
			return invalid("macspoofchk and ipspoofchk: only in mode bridged")
		}
		return nil
	case "bridged":
		return c.readBridged()
	}
	return invalid("mode: %q is neither routed nor bridged", c.Mode)
}

func (c *conf) readBridged() error {
	o := &c.overlay
	if o.Bridge = c.Bridge; o.Bridge == "" {
		o.Bridge = bridgeName(o.Network)
	}
	if err := roles.CheckLinkName("bridge", o.Bridge); err != nil {
		return err
	}
	if c.Group != "" {
		var err error
		if o.Group, err = netip.ParseAddr(c.Group); err != nil || !o.Group.IsMulticast() || o.Group.Zone() != "" {
			return invalid("group: %q is no multicast address", c.Group)
		}
	}
	o.NoHost, o.AskAll = !c.isGateway(), c.NeighSuppress != nil && !*c.NeighSuppress
	if c.IPMasq && o.NoHost {
		return invalid("ipMasq: without isGateway the pods send nothing by way of this node")
	}
	return c.checkParts()
}

// bridgeName is the name of the bridge where nobody asked for one. It stays the same if the VNI changes.
func bridgeName(network string) string {
	if name := "br-" + network; roles.CheckLinkName("", name) == nil {
		return name
	}
	return "br-" + owner.Owner{Network: network}.LinkName()[len(owner.LinkPrefix):]
}

// isGateway tells whether the bridge is to have the gateway's address.
func (c *conf) isGateway() bool { return c.IsGateway == nil || *c.IsGateway }

// checkParts refuses what would give two nodes the same addresses: of one subnet each node needs a part, and in it an address for its bridge.
func (c *conf) checkParts() (err error) {
	if c.IPAM.Type != "host-local" {
		return nil
	}
	c.eachRange(func(at string, r *ipamRange) {
		switch {
		case err != nil:
		case r.RangeStart == "" || r.RangeEnd == "":
			err = invalid("%srangeStart and rangeEnd: missing; in mode bridged each node needs a part of the subnet for its pods alone", at)
		case r.Gateway == "" && c.isGateway():
			err = invalid("%sgateway: missing; in mode bridged each node needs an address for its bridge alone", at)
		}
	})
	return err
}

// plan is the whole kernel state of an attachment, on a bridge that stands.
func (c *conf) plan(o owner.Owner, mac net.HardwareAddr, mtu int, ips []roles.IP, routes []*types.Route) (*netutil.Plan, error) {
	b := &roles.Bridged{
		MTU: mtu, Masquerade: c.IPMasq, CheckMAC: c.MACSpoofChk, CheckIP: c.IPSpoofChk,
		Links: []netutil.Link{{
			Name: o.LinkName(), Kind: netutil.Veth, MTU: mtu, MAC: o.MAC(), Up: true, Carrier: true, OwnerTag: true, Master: c.overlay.Bridge,
			Peer: &netutil.Link{Place: netutil.Sandbox, Name: o.IfName, MTU: mtu, MAC: mac, Up: true},
		}},
	}
	if c.isGateway() {
		b.Gateway = c.overlay.Bridge
	}
	return roles.PlanBridged(o, mac, b, ips, routes)
}

func (c *conf) bridged(mtu int) *roles.BridgedPlan {
	plan := func(o owner.Owner, mac net.HardwareAddr, ips []roles.IP, routes []*types.Route) (*netutil.Plan, error) {
		return c.plan(o, mac, mtu, ips, routes)
	}
	return &roles.BridgedPlan{Bridge: c.overlay.Bridge, Gateways: c.isGateway(), Plan: plan}
}

func (c *conf) addBridged(ctx context.Context, r *roles.Request, mtu int) (*types100.Result, error) {
	res, ips, err := roles.AddBridged(ctx, r, c.bridged(mtu), c.DNS)
	if err == nil && c.isGateway() {
		err = rememberGateways(r, ips)
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}

// rememberGateways has the next who makes the bridge anew give it the addresses again.
func rememberGateways(r *roles.Request, ips []roles.IP) error {
	s := storeOf(r)
	unlock, err := s.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	var gateways []netip.Prefix
	for _, ip := range ips {
		gateways = append(gateways, netip.PrefixFrom(ip.Gateway, ip.Prefix.Bits()))
	}
	return s.AddGateways(gateways)
}
