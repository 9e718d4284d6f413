package roles

import (
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// This file writes results of roles that make an interface in the container, and finds the interface in those of others.

// ResultIPs are the addresses as a result shows them, all of the interface with the given index.
func ResultIPs(ips []IP, index int) []*types100.IPConfig {
	out := make([]*types100.IPConfig, 0, len(ips))
	for _, ip := range ips {
		c := &types100.IPConfig{
			Interface: types100.Int(index),
			Address:   *IPNet(ip.Prefix),
		}
		if ip.Gateway.IsValid() {
			c.Gateway = ip.Gateway.AsSlice()
		}
		out = append(out, c)
	}
	return out
}

// Answer completes a role's own result, whose last interface has the addresses: name servers of the role's configuration replace the
// ipam plugin's, and what plugins before it in the list have answered stands in front.
func Answer(r *Request, own *types100.Result, ips []IP, dns types.DNS) *types100.Result {
	own.IPs = ResultIPs(ips, len(own.Interfaces)-1)
	if !dns.IsEmpty() {
		own.DNS = dns
	}
	return Chained(r.Prev, own)
}

// Chained puts a role's own result behind that of the plugins before it in the list (CNI spec, section 3: a plugin must hand on
// prevResult). prev may be nil and is not changed.
func Chained(prev, own *types100.Result) *types100.Result {
	if prev == nil {
		return own
	}
	out := &types100.Result{CNIVersion: own.CNIVersion, DNS: own.DNS}
	if own.DNS.IsEmpty() {
		out.DNS = *prev.DNS.Copy()
	}
	for _, i := range prev.Interfaces {
		out.Interfaces = append(out.Interfaces, i.Copy())
	}
	shift := len(out.Interfaces)
	out.Interfaces = append(out.Interfaces, own.Interfaces...)
	for _, ip := range prev.IPs {
		out.IPs = append(out.IPs, ip.Copy())
	}
	for _, ip := range own.IPs {
		moved := ip.Copy()
		if moved.Interface != nil {
			*moved.Interface += shift
		}
		out.IPs = append(out.IPs, moved)
	}
	for _, r := range prev.Routes {
		out.Routes = append(out.Routes, r.Copy())
	}
	out.Routes = append(out.Routes, own.Routes...)
	return out
}

// NeedPrev is an error if a role that works on what other plugins have made has no prevResult.
func NeedPrev(r *Request, role string) error {
	if r.Prev == nil {
		return errcode.Errorf(errcode.InvalidConfig, "prevResult: missing; %s belongs behind the plugin that makes the container's interface", role)
	}
	return nil
}

// Attached finds the container's interface in a prevResult, and the addresses that it has there. A result of versions before 0.3.0
// knows no interfaces: then the addresses are all, and the interface has only its name.
func Attached(r *Request) (*types100.Interface, []IP, error) {
	index := -1
	for i, iface := range r.Prev.Interfaces {
		if iface != nil && iface.Sandbox != "" && iface.Name == r.Owner.IfName {
			index = i
		}
	}
	if index < 0 && len(r.Prev.Interfaces) > 0 {
		return nil, nil, errcode.Errorf(errcode.InvalidConfig, "prevResult: no interface %s in a sandbox", r.Owner.IfName)
	}
	var configs []*types100.IPConfig
	for _, ip := range r.Prev.IPs {
		if ip != nil && (index < 0 || ip.Interface == nil || *ip.Interface == index) {
			configs = append(configs, ip)
		}
	}
	ips, err := IPsOf(configs)
	if err != nil {
		return nil, nil, err
	}
	if index < 0 {
		return &types100.Interface{Name: r.Owner.IfName}, ips, nil
	}
	return r.Prev.Interfaces[index], ips, nil
}

// HostSide are the names of the interfaces that the plugins before this one made or used in the host.
func HostSide(prev *types100.Result) []string {
	var names []string
	for _, i := range prev.Interfaces {
		if i != nil && i.Sandbox == "" {
			names = append(names, i.Name)
		}
	}
	return names
}
