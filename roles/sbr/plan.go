package sbr

import (
	"net/netip"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/roles"
)

// plan is a table for each address of the interface.
func (c *conf) plan(ips []roles.IP) (out []netutil.SourceTable) {
	for _, ip := range ips {
		st := netutil.SourceTable{Addr: ip.Prefix, Hint: c.AddSourceHints}
		if c.Table != nil {
			st.Table = uint32(*c.Table)
		} else {
			st.Gateways, st.Named = c.gatewaysFor(ip)
		}
		out = append(out, st)
	}
	return out
}

// gatewaysFor are those of the address's family that the configuration names, or else the address's own.
func (c *conf) gatewaysFor(ip roles.IP) (out []netip.Addr, named bool) {
	for _, g := range c.gateways {
		if g.Is6() == ip.Is6() {
			out = append(out, g)
		}
	}
	if len(out) > 0 {
		return out, true
	}
	if ip.Gateway.IsValid() {
		out = []netip.Addr{ip.Gateway}
	}
	return out, false
}
