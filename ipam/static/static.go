// Package static is the ipam role static: it gives out the addresses that the configuration names, and keeps nothing.
package static

import (
	"context"
	"net/netip"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

type role struct{}

// New is the role.
func New() roles.Role { return role{} }

// Add answers what the configuration names.
func (role) Add(_ context.Context, r *roles.Request) (*types100.Result, error) {
	c, err := load(r)
	if err != nil {
		return nil, err
	}
	result := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, Routes: c.routes, DNS: c.dns}
	for _, a := range c.addresses {
		ip := &types100.IPConfig{Address: *roles.IPNet(a.prefix)}
		if a.gateway.IsValid() {
			ip.Gateway = a.gateway.AsSlice()
		}
		result.IPs = append(result.IPs, ip)
	}
	return result, nil
}

// Check wants the previous result to have the addresses, each with its prefix length and the gateway that the configuration
// names.
func (role) Check(_ context.Context, r *roles.Request) error {
	c, err := load(r)
	if err != nil {
		return err
	}
	has := map[netip.Prefix]netip.Addr{}
	if r.Prev != nil {
		for _, ip := range r.Prev.IPs {
			addr, _ := netip.AddrFromSlice(ip.Address.IP)
			gateway, _ := netip.AddrFromSlice(ip.Gateway)
			bits, _ := ip.Address.Mask.Size()
			has[netip.PrefixFrom(addr.Unmap(), bits)] = gateway.Unmap()
		}
	}
	for _, a := range c.addresses {
		gateway, ok := has[a.prefix]
		if !ok {
			return errcode.Errorf(errcode.Differs, "%s: %s is not in prevResult", a.key, a.prefix)
		}
		if a.gateway.IsValid() && a.gateway != gateway {
			return errcode.Errorf(errcode.Differs, "%s: the gateway of %s is %s, and not so in prevResult", a.key, a.prefix, a.gateway)
		}
	}
	return nil
}

// Del has nothing to give back.
func (role) Del(context.Context, *roles.Request) error { return nil }

// GC has nothing to give back.
func (role) GC(context.Context, *roles.Request, []roles.Attachment) error { return nil }

// Status needs nothing but a right configuration.
func (role) Status(_ context.Context, r *roles.Request) error {
	_, err := load(r)
	return err
}

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r)
	return err
}
