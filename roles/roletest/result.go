package roletest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cnibox/cnibox/roles"
)

// This file holds the forms that results have in the versions of the specification, key by key. It does not use the library's types: they
// share structures between versions, and so let keys through that came later.

type result010 struct {
	CNIVersion string          `json:"cniVersion"`
	IP4        *ip010          `json:"ip4"`
	IP6        *ip010          `json:"ip6"`
	DNS        json.RawMessage `json:"dns"`
}

type ip010 struct {
	IP      netip.Prefix `json:"ip"`
	Gateway *netip.Addr  `json:"gateway"`
	Routes  []route010   `json:"routes"`
}

type route010 struct {
	Dst netip.Prefix `json:"dst"`
	GW  *netip.Addr  `json:"gw"`
}

// result030 is a result since version 0.3.0, of which interfaces, addresses and routes got other keys later.
type result030[I, P, R any] struct {
	CNIVersion string          `json:"cniVersion"`
	Interfaces []I             `json:"interfaces"`
	IPs        []P             `json:"ips"`
	Routes     []R             `json:"routes"`
	DNS        json.RawMessage `json:"dns"`
}

type interface030 struct {
	Name    string `json:"name"`
	MAC     string `json:"mac"`
	Sandbox string `json:"sandbox"`
}

type interface110 struct {
	interface030
	MTU        int    `json:"mtu"`
	SocketPath string `json:"socketPath"`
	PCIID      string `json:"pciID"`
}

type ip100 struct {
	Interface *int         `json:"interface"`
	Address   netip.Prefix `json:"address"`
	Gateway   *netip.Addr  `json:"gateway"`
}

type ip030 struct {
	Version string `json:"version"`
	ip100
}

type route110 struct {
	route010
	MTU      int  `json:"mtu"`
	AdvMSS   int  `json:"advmss"`
	Priority int  `json:"priority"`
	Table    *int `json:"table"`
	Scope    *int `json:"scope"`
}

// ReadResult reads a result that must have the form of its version, and no key that this does not know. It returns the addresses.
func ReadResult(version string, raw []byte) ([]netip.Prefix, error) {
	since := func(least string) bool {
		return slices.Index(roles.Versions(), version) >= slices.Index(roles.Versions(), least)
	}
	switch {
	case since("1.1.0"):
		return read(version, raw, func(ip ip100) (ip100, error) { return ip, nil }, result030[interface110, ip100, route110]{})
	case since("1.0.0"):
		return read(version, raw, func(ip ip100) (ip100, error) { return ip, nil }, result030[interface030, ip100, route010]{})
	case since("0.3.0"):
		return read(version, raw, ip030.plain, result030[interface030, ip030, route010]{})
	}
	return read010(version, raw)
}

func strictly(version string, raw []byte, into any, got *string) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("no result of version %s: %w: %s", version, err, raw)
	}
	if *got != version {
		return fmt.Errorf("the result is of version %q, not %s: %s", *got, version, raw)
	}
	return nil
}

func read[I, P, R any](version string, raw []byte, plain func(P) (ip100, error), res result030[I, P, R]) (addrs []netip.Prefix, err error) {
	if err := strictly(version, raw, &res, &res.CNIVersion); err != nil {
		return nil, err
	}
	for _, p := range res.IPs {
		ip, err := plain(p)
		if err != nil {
			return nil, err
		}
		if i := ip.Interface; i != nil && (*i < 0 || *i >= len(res.Interfaces)) {
			return nil, fmt.Errorf("%s is of interface %d, where there are %d: %s", ip.Address, *i, len(res.Interfaces), raw)
		}
		addrs = append(addrs, ip.Address)
	}
	return addrs, nil
}

// plain is the address without its version, which must be the right one.
func (ip ip030) plain() (ip100, error) {
	if want := map[bool]string{true: "6", false: "4"}[ip.Address.Addr().Is6()]; ip.Version != want {
		return ip.ip100, fmt.Errorf("%s has the version %q", ip.Address, ip.Version)
	}
	return ip.ip100, nil
}

func read010(version string, raw []byte) (addrs []netip.Prefix, err error) {
	var res result010
	if err := strictly(version, raw, &res, &res.CNIVersion); err != nil {
		return nil, err
	}
	for is6, ip := range map[bool]*ip010{false: res.IP4, true: res.IP6} {
		if ip == nil {
			continue
		}
		if ip.IP.Addr().Is6() != is6 {
			err = errors.Join(err, fmt.Errorf("%s is under the other family's key", ip.IP))
		}
		for _, r := range ip.Routes {
			if r.Dst.Addr().Is6() != is6 {
				err = errors.Join(err, fmt.Errorf("the route %s is under the other family's key", r.Dst))
			}
		}
		addrs = append(addrs, ip.IP)
	}
	slices.SortFunc(addrs, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return addrs, err
}
