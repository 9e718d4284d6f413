package vxlan

import (
	"context"
	"encoding/json"
	"net/netip"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// This file is the mode in which the pods of all nodes are on one link: they are attached as the role bridge does it, to a bridge that has the tunnel's
// device as a port.

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
		case r.RangeStart == "" && r.RangeEnd == "":
			err = invalid("%srangeStart: missing; in mode bridged each node needs a part of the subnet for its pods alone", at)
		case r.Gateway == "" && c.isGateway():
			err = invalid("%sgateway: missing; in mode bridged each node needs an address for its bridge alone", at)
		}
	})
	return err
}

// attacher is the plugin bridge, which attaches the pod.
func (c *conf) attacher(r *roles.Request, mtu int) (*roles.Plugin, error) {
	all, keys := map[string]json.RawMessage{}, map[string]any{"type": "bridge", "bridge": c.overlay.Bridge, "isGateway": c.isGateway(), "mtu": mtu}
	if err := json.Unmarshal(r.Conf, &all); err != nil {
		return nil, errcode.Errorf(errcode.DecodingFailure, "%w", err)
	}
	for _, key := range []string{"cniVersion", "name", "ipMasq", "dns", "ipam", "args", "runtimeConfig"} {
		if value, ok := all[key]; ok {
			keys[key] = value
		}
	}
	text, err := json.Marshal(keys)
	if err != nil {
		return nil, errcode.Errorf(errcode.Internal, "encode the bridge's configuration: %w", err)
	}
	return r.Plugin("mode", "bridge", text, false)
}

func (c *conf) addBridged(ctx context.Context, r *roles.Request, mtu int) (*types100.Result, error) {
	p, err := c.attacher(r, mtu)
	if err != nil {
		return nil, err
	}
	res, err := p.Add(ctx, nil)
	if err != nil || !c.isGateway() {
		return res, err
	}
	// The next who makes the bridge anew gives it the address again.
	s := storeOf(r)
	unlock, err := s.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return res, s.AddGateways(gatewaysOf(res))
}

func gatewaysOf(res *types100.Result) (out []netip.Prefix) {
	for _, ip := range res.IPs {
		if a, ok := netip.AddrFromSlice(ip.Gateway); ok {
			bits, _ := ip.Address.Mask.Size()
			out = append(out, netip.PrefixFrom(a.Unmap(), bits))
		}
	}
	return out
}

func (c *conf) checkBridged(ctx context.Context, r *roles.Request, mtu int) error {
	p, err := c.attacher(r, mtu)
	if err != nil {
		return err
	}
	return p.Check(ctx)
}
