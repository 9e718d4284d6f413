package hostlocal

import (
	"net/netip"

	"github.com/cnibox/cnibox/ipam/store"
	"github.com/cnibox/cnibox/roles"
)

// Pools is what a configuration has given out, for who wants to know how full that is. Ranges that only a runtime knows are not in it.
type Pools struct {
	DataDir string // where the addresses are kept; empty: store.DefaultDir
	Sets    []store.Set
	Subnets []netip.Prefix // each once
}

// ReadPools reads the configuration of a plugin. Where the addresses are kept is told also if the rest is wrong.
func ReadPools(text []byte) (*Pools, error) {
	var p place
	if err := roles.Decode(text, &p, true); err != nil {
		return &Pools{}, err
	}
	out := &Pools{DataDir: p.IPAM.DataDir}
	c := &conf{}
	if err := roles.Decode(text, c, false); err != nil || c.IPAM == nil {
		return out, err
	}
	sets, err := c.sets()
	out.Sets = storeSets(sets)
	known := map[netip.Prefix]bool{}
	for _, set := range sets {
		for _, p := range set {
			if !known[p.subnet] {
				known[p.subnet] = true
				out.Subnets = append(out.Subnets, p.subnet)
			}
		}
	}
	return out, err
}
