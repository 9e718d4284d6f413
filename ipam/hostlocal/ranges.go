package hostlocal

import (
	"net/netip"
	"slices"

	"github.com/cnibox/cnibox/ipam/store"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// rangeConf is a range as the configuration has it.
type rangeConf struct {
	Subnet     string `json:"subnet" required:"true" doc:"the subnet in which the addresses are, without host bits; at most /30 or /126"`
	RangeStart string `json:"rangeStart" default:"the subnet's first" doc:"the first address. The subnet's own address is never given out"`
	RangeEnd   string `json:"rangeEnd" default:"the subnet's last" doc:"the last address, itself included. The IPv4 broadcast address is never given out"`
	Gateway    string `json:"gateway" default:"the subnet's first" doc:"goes with the addresses, and is given to nobody. It is in the subnet, or an IPv6 link-local address"`
}

// shortConf is the same as the configuration has it without ranges.
type shortConf struct {
	Subnet     string `json:"subnet" doc:"short form of a first range set that has one range: its 'subnet'"`
	RangeStart string `json:"rangeStart" doc:"its 'rangeStart'"`
	RangeEnd   string `json:"rangeEnd" doc:"its 'rangeEnd'"`
	Gateway    string `json:"gateway" doc:"its 'gateway'"`
}

// pool is a range with all that its addresses come with.
type pool struct {
	store.Range
	subnet  netip.Prefix
	gateway netip.Addr
}

// parseSet reads a range set: ranges of one family that have no address in common.
func parseSet(key string, confs []rangeConf) ([]pool, error) {
	if len(confs) == 0 {
		return nil, errcode.Errorf(errcode.InvalidConfig, "%s: a range set needs a range", key)
	}
	var set []pool
	for i, c := range confs {
		at := roles.Elem(key, i)
		p, err := c.parse(at)
		if err != nil {
			return nil, err
		}
		if i > 0 && p.subnet.Addr().BitLen() != set[0].subnet.Addr().BitLen() {
			return nil, errcode.Errorf(errcode.InvalidConfig, "%s.subnet: %s is not of the family of %s, and a range set has one address for"+
				" a container", at, p.subnet, set[0].subnet)
		}
		if q, _, yes := overlap(set, []pool{p}); yes {
			return nil, errcode.Errorf(errcode.InvalidConfig, "%s: %s overlaps with %s of its range set", at, p.Range, q)
		}
		set = append(set, p)
	}
	return set, nil
}

// parse checks a range and fills in what it leaves out: all of its subnet, and the first address as the gateway.
func (c rangeConf) parse(key string) (p pool, err error) {
	if p.subnet, err = parseSubnet(key+".subnet", c.Subnet); err != nil {
		return p, err
	}
	first, last := hosts(p.subnet)
	if p.gateway, err = parseGateway(key+".gateway", c.Gateway, p.subnet); err != nil {
		return p, err
	}
	if p.First, err = within(key+".rangeStart", c.RangeStart, p.subnet, first); err != nil {
		return p, err
	}
	if p.Last, err = within(key+".rangeEnd", c.RangeEnd, p.subnet, last); err != nil {
		return p, err
	}
	if p.First.Compare(p.Last) > 0 {
		return p, errcode.Errorf(errcode.InvalidConfig, "%s.rangeStart: %s is above rangeEnd, %s", key, p.First, p.Last)
	}
	// The addresses at the subnet's ends are no container's, even if the range names them.
	if p.First.Compare(first) < 0 {
		p.First = first
	}
	if p.Last.Compare(last) > 0 {
		p.Last = last
	}
	if p.First.Compare(p.Last) > 0 {
		return p, errcode.Errorf(errcode.InvalidConfig, "%s.rangeStart: the range has only the subnet's own address or its broadcast address", key)
	}
	return p, nil
}

func parseSubnet(key, value string) (netip.Prefix, error) {
	subnet, err := roles.ParsePrefix(key, value)
	if err != nil {
		return subnet, err
	}
	if subnet != subnet.Masked() {
		return subnet, errcode.Errorf(errcode.InvalidConfig, "%s: %s has host bits set; the subnet is %s", key, subnet, subnet.Masked())
	}
	if subnet.Bits() > subnet.Addr().BitLen()-2 {
		return subnet, errcode.Errorf(errcode.InvalidConfig, "%s: %s is too small to give out addresses of", key, subnet)
	}
	return subnet, nil
}

// parseGateway is the subnet's first address where there is no value. Outside the subnet a gateway cannot be reached, but for an
// IPv6 router by its link-local address.
func parseGateway(key, value string, subnet netip.Prefix) (netip.Addr, error) {
	if value == "" {
		first, _ := hosts(subnet)
		return first, nil
	}
	gateway, err := roles.ParseAddr(key, value)
	if err != nil {
		return gateway, err
	}
	linkLocal := gateway.Is6() && gateway.IsLinkLocalUnicast() && subnet.Addr().Is6()
	if !subnet.Contains(gateway) && !linkLocal {
		return gateway, errcode.Errorf(errcode.InvalidConfig, "%s: %s is outside the subnet %s", key, gateway, subnet)
	}
	return gateway, nil
}

// within reads an address of the subnet.
func within(key, value string, subnet netip.Prefix, missing netip.Addr) (netip.Addr, error) {
	if value == "" {
		return missing, nil
	}
	addr, err := roles.ParseAddr(key, value)
	if err == nil && !subnet.Contains(addr) {
		err = errcode.Errorf(errcode.InvalidConfig, "%s: %s is outside the subnet %s", key, addr, subnet)
	}
	return addr, err
}

// hosts are the first and the last address of a subnet that a container can have: not the subnet's own address (IPv6: that of
// all of its routers, RFC 4291 section 2.6.1), nor the broadcast address of IPv4.
func hosts(subnet netip.Prefix) (first, last netip.Addr) {
	end := subnet.Addr().AsSlice()
	for bit := subnet.Bits(); bit < len(end)*8; bit++ {
		end[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ = netip.AddrFromSlice(end)
	if last.Is4() {
		last = last.Prev()
	}
	return subnet.Addr().Next(), last
}

// overlap finds ranges of two sets that have an address in common.
func overlap(a, b []pool) (store.Range, store.Range, bool) {
	for _, p := range a {
		for _, q := range b {
			if p.Contains(q.First) || q.Contains(p.First) {
				return p.Range, q.Range, true
			}
		}
	}
	return store.Range{}, store.Range{}, false
}

// storeSets is the sets as the store knows them. No gateway is given out, in whatever set it is.
func storeSets(sets [][]pool) []store.Set {
	var gateways []netip.Addr
	for _, set := range sets {
		for _, p := range set {
			if !slices.Contains(gateways, p.gateway) {
				gateways = append(gateways, p.gateway)
			}
		}
	}
	out := make([]store.Set, len(sets))
	for i, set := range sets {
		out[i].Skip = gateways
		for _, p := range set {
			out[i].Ranges = append(out[i].Ranges, p.Range)
		}
	}
	return out
}

// poolOf is the set's range that an address is of.
func poolOf(set []pool, addr netip.Addr) pool {
	return set[slices.IndexFunc(set, func(p pool) bool { return p.Contains(addr) })]
}
