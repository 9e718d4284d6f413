package roles

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// This file reads what the configurations of ipam plugins have in common.

// RouteConf is a route as a configuration has it (CNI spec, section 5, "routes"). Addresses are text, so that an error can name
// the key.
type RouteConf struct {
	Dst      string `json:"dst" required:"true" doc:"the subnet that the route leads to, such as '0.0.0.0/0'"`
	GW       string `json:"gw" doc:"the next hop; left out: the gateway"`
	MTU      int    `json:"mtu" min:"0" max:"65520" default:"0" doc:"bytes; 0 is the interface's"`
	AdvMSS   int    `json:"advmss" min:"0" max:"65495" default:"0" doc:"the largest TCP segment that is announced, in bytes; 0 follows from the MTU"`
	Priority int    `json:"priority" min:"0" max:"4294967295" default:"0" doc:"metric; 0 is the kernel's choice"`
	Table    *int   `json:"table" min:"0" max:"4294967295" doc:"the routing table; left out: the main one"`
	Scope    *int   `json:"scope" min:"0" max:"255" doc:"as of rtnetlink(7)"`
}

// ParseRoutes checks the routes that the key (named in the error) holds. The result is nil if there are none.
func ParseRoutes(key string, confs []RouteConf) ([]*types.Route, error) {
	var routes []*types.Route
	for i, c := range confs {
		at := Elem(key, i)
		dst, err := ParsePrefix(at+".dst", c.Dst)
		if err != nil {
			return nil, err
		}
		route := &types.Route{
			Dst: *IPNet(dst), MTU: c.MTU, AdvMSS: c.AdvMSS, Priority: c.Priority, Table: c.Table, Scope: c.Scope,
		}
		if c.GW != "" {
			gw, err := ParseAddr(at+".gw", c.GW)
			if err != nil {
				return nil, err
			}
			route.GW = gw.AsSlice()
		}
		if err := checkRouteNumbers(at, c); err != nil {
			return nil, err
		}
		routes = append(routes, route)
	}
	return routes, nil
}

// checkRouteNumbers checks what the kernel has 32 bits for, and a byte for the scope (rtnetlink(7)). Of more than mostMTU and mostMSS it
// would make these without a word (linux/net/ipv4/metrics.c), and no CHECK would ever pass.
func checkRouteNumbers(at string, c RouteConf) error {
	const most, mostScope, mostMTU, mostMSS = 1<<32 - 1, 255, 65535 - 15, 65535 - 40
	for _, n := range []struct {
		key   string
		value *int
		most  int64
	}{
		{".mtu", &c.MTU, mostMTU},
		{".advmss", &c.AdvMSS, mostMSS},
		{".priority", &c.Priority, most},
		{".table", c.Table, most},
		{".scope", c.Scope, mostScope},
	} {
		if n.value != nil && (*n.value < 0 || int64(*n.value) > n.most) {
			return errcode.Errorf(errcode.InvalidConfig, "%s%s: %d is not within 0 and %d", at, n.key, *n.value, n.most)
		}
	}
	return nil
}

// ParseAddr reads an IP address that the key (named in the error) holds. An IPv4 address in IPv6 is the IPv4 address.
func ParseAddr(key, value string) (netip.Addr, error) {
	if value == "" {
		return netip.Addr{}, errcode.Errorf(errcode.InvalidConfig, "%s: missing", key)
	}
	addr, err := netip.ParseAddr(value)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, errcode.Errorf(errcode.InvalidConfig, "%s: %q is no IP address", key, value)
	}
	return addr.Unmap(), nil
}

// ParsePrefix reads an address and the length of its prefix. Host bits are kept.
func ParsePrefix(key, value string) (netip.Prefix, error) {
	if value == "" {
		return netip.Prefix{}, errcode.Errorf(errcode.InvalidConfig, "%s: missing", key)
	}
	prefix, err := netip.ParsePrefix(value)
	if err != nil || prefix.Addr().Is4In6() {
		return netip.Prefix{}, errcode.Errorf(errcode.InvalidConfig, "%s: %q is no address with a prefix length, such as 10.1.2.0/24 or fd00::/64",
			key, value)
	}
	return prefix, nil
}

// IPNet is the prefix, host bits included, as results have it.
func IPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Elem is the key of a list's element, for errors.
func Elem(key string, i int) string {
	return key + "[" + strconv.Itoa(i) + "]"
}

// CheckFamilies refuses more than one address of a family where the result cannot carry it: before version 0.3.0 it had one
// field for each family.
func CheckFamilies(key, cniVersion string, addrs []netip.Addr) error {
	if cniVersion != "" && cniVersion != "0.1.0" && cniVersion != "0.2.0" {
		return nil
	}
	var n [2]int
	for _, a := range addrs {
		family := 0
		if a.Is6() {
			family = 1
		}
		if n[family]++; n[family] > 1 {
			return errcode.Errorf(errcode.InvalidConfig, "%s: a result of version %s carries one address of each family", key, cniVersion)
		}
	}
	return nil
}
