package hostlocal

import (
	"net/netip"

	"github.com/cnibox/cnibox/roles"
)

// Range is a range of a configuration, for commands.
type Range struct {
	Key         string // where the configuration has it
	Set         int    // number of its range set; an attachment gets one address of each
	First, Last netip.Addr
	Subnet      netip.Prefix
	Gateway     netip.Addr
}

// Ranges are those of a configuration, as an attachment gets its addresses of them.
func Ranges(r *roles.Request) ([]Range, error) {
	c, err := load(r)
	if err != nil {
		return nil, err
	}
	asked := c.asked
	var keys []string
	for i := range asked.RuntimeConfig.IPRanges {
		keys = append(keys, roles.Elem("runtimeConfig.ipRanges", i))
	}
	if asked.IPAM.Subnet != "" {
		keys = append(keys, "ipam")
	}
	for i := range asked.IPAM.Ranges {
		keys = append(keys, roles.Elem("ipam.ranges", i))
	}
	var out []Range
	for i, set := range c.sets {
		for j, p := range set {
			key := keys[i]
			if key != "ipam" {
				key = roles.Elem(key, j)
			}
			out = append(out, Range{key, i, p.First, p.Last, p.subnet, p.gateway})
		}
	}
	return out, nil
}
