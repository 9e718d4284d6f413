package portmap

import (
	"net/netip"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// surroundings are what the role must know of the host to plan.
type surroundings struct {
	towards string // the link through which the host reaches the container's IPv4 address; empty if none is needed, or there is none
	port    string // the bridge port of the container, if frames between ports pass the packet filter; else empty
}

// targets are the addresses that ports lead to: the container's first of each family; the zero IP if it has none.
type targets struct{ v4, v6 roles.IP }

func targetsOf(ips []roles.IP) targets {
	var t targets
	for _, ip := range ips {
		switch {
		case ip.Is6() && !t.v6.Prefix.IsValid():
			t.v6 = ip
		case !ip.Is6() && !t.v4.Prefix.IsValid():
			t.v4 = ip
		}
	}
	return t
}

// plan is the whole kernel state of an attachment.
func (c *conf) plan(o owner.Owner, t targets, s surroundings) *netutil.Plan {
	p := &netutil.Plan{Owner: o}
	p.Filter = append(c.planFamily(t.v4, c.conditions4), c.planFamily(t.v6, c.conditions6)...)
	if len(p.Filter) == 0 {
		return p
	}
	if s.port != "" {
		p.Links = []netutil.Link{{Kind: netutil.Existing, Name: s.port, Port: netutil.Port{Hairpin: true}}}
	}
	if s.towards != "" && c.mapsLoopback(t) {
		p.Sysctls = []netutil.Sysctl{{Path: []string{"net", "ipv4", "conf", s.towards, "route_localnet"}, Value: "1"}}
	}
	return p
}

// planFamily leads the ports to one address of the container.
func (c *conf) planFamily(to roles.IP, conditions []nft.Condition) []nft.Entry {
	if !to.Prefix.IsValid() {
		return nil
	}
	var entries []nft.Entry
	for i := range c.mappings {
		m := &c.mappings[i]
		if !m.serves(to.Is6()) {
			continue
		}
		entries = append(entries, nft.PortEntry{
			Protocol: m.protocol, HostIP: m.address(), HostPort: m.hostPort,
			Addr: to.Prefix.Addr(), Port: m.containerPort, Conditions: conditions,
		})
	}
	if len(entries) > 0 && c.SNAT {
		entries = append(entries, nft.SourceNATEntry{Addr: to.Prefix.Addr(), Subnet: to.Subnet(), All: c.MasqAll})
	}
	return entries
}

// mapsLoopback tells whether connections to 127.0.0.0/8 are to reach the container. They can only be answered under another source
// address, so without snat there is nothing to prepare for them.
func (c *conf) mapsLoopback(t targets) bool {
	if !c.SNAT || !t.v4.Prefix.IsValid() {
		return false
	}
	for i := range c.mappings {
		m := &c.mappings[i]
		if m.serves(false) && (m.address() == netip.Addr{} || m.address().IsLoopback()) {
			return true
		}
	}
	return false
}
