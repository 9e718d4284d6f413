package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/ipam/dhcp/dhcpv6"
	"github.com/cnibox/cnibox/roles"
)

// grant6 is what a router advertises, and what a server has given.
type grant6 struct {
	saved6
	router *advertisement  // nil: there is none
	reply  *dhcpv6.Message // nil: none was asked for
}

// saved6 is grant6 on disk.
type saved6 struct {
	Router         []byte         `json:"router"`         // its packet
	Reply          []byte         `json:"reply"`          // the server's message
	Autoconfigured []netip.Prefix `json:"autoconfigured"` // addresses that the kernel has made
}

func (protocol6) parse(b []byte) (grant, error) {
	g := &grant6{}
	if err := json.Unmarshal(b, &g.saved6); err != nil {
		return nil, err
	}
	if len(g.Router) > 0 {
		if g.router = parseAdvertisement(g.Router); g.router == nil {
			return nil, fmt.Errorf("no router's advertisement: %x", g.Router)
		}
	}
	if len(g.Reply) > 0 {
		var err error
		if g.reply, err = dhcpv6.Parse(g.Reply); err != nil {
			return nil, err
		}
		if g.reply.ServerID == nil {
			return nil, errors.New("a reply of no server")
		}
	}
	return g, nil
}

func (g *grant6) bytes() []byte {
	b, _ := json.Marshal(&g.saved6) // bytes and prefixes: nothing that could fail
	return b
}

// given are the server's address and the association that it is part of; nil if it gave none.
func (g *grant6) given() (*dhcpv6.Association, *dhcpv6.Address) {
	if g.reply == nil {
		return nil, nil
	}
	ia, addr, err := associationIn(g.reply)
	if err != nil {
		return nil, nil
	}
	return ia, addr
}

func (g *grant6) address() (p netip.Prefix) {
	if _, addr := g.given(); addr != nil {
		p = netip.PrefixFrom(addr.Addr, addr.Addr.BitLen()) // which neighbours there are is for routers to say (RFC 5942)
	}
	return p
}

func (g *grant6) String() string {
	if p := g.address(); p.IsValid() {
		return p.Addr().String()
	}
	return fmt.Sprint(g.Autoconfigured)
}

// refreshed is how long what a server says besides addresses holds if it does not say (RFC 8415, section 21.23).
const refreshed = 24 * time.Hour

// times are the server's (RFC 8415, section 21.4). Addresses that the kernel has made it also ends; routers are then asked again only for what CHECK is to
// be told.
func (g *grant6) times(now time.Time) (t1, t2, end time.Time) {
	if ia, addr := g.given(); ia != nil {
		first, second := ia.T1, ia.T2
		if first == 0 {
			first = addr.Preferred / 2
		}
		if second == 0 {
			second = addr.Preferred / 10 * 8
		}
		return inOrder(now, first, second, addr.Valid)
	}
	lasts := refreshed
	if g.reply != nil && g.reply.RefreshTime > 0 {
		lasts = g.reply.RefreshTime
	}
	lasts = 2 * min(lasts, refreshed)
	if g.router != nil {
		for _, p := range g.router.prefixes {
			lasts = min(lasts, max(p.valid, dhcpv6.LeastRefreshTime))
		}
	}
	return inOrder(now, lasts/2, lasts/8*7, lasts)
}

func (g *grant6) result(*Wishes) *types100.Result {
	res := &types100.Result{}
	addresses := g.Autoconfigured
	if p := g.address(); p.IsValid() {
		addresses = slices.Concat([]netip.Prefix{p}, addresses)
	}
	for _, p := range addresses {
		ip := &types100.IPConfig{Address: *roles.IPNet(p)}
		if g.router != nil && g.router.lifetime > 0 {
			ip.Gateway = g.router.from.AsSlice()
		}
		res.IPs = append(res.IPs, ip)
	}
	if g.reply != nil {
		for _, a := range g.reply.DNS {
			res.DNS.Nameservers = appendNew(res.DNS.Nameservers, []string{a.String()})
		}
		res.DNS.Search = appendNew(res.DNS.Search, g.reply.Search)
	}
	if g.router != nil {
		for _, a := range g.router.servers {
			res.DNS.Nameservers = appendNew(res.DNS.Nameservers, []string{a.String()})
		}
		res.DNS.Search = appendNew(res.DNS.Search, g.router.search)
	}
	return res
}
