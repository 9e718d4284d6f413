package firewall

import (
	"net"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// surroundings are what the role must know of the host to plan.
type surroundings struct {
	// link is the one that the pod is behind, seen from the host: a bridge, or the beginning of the names of links that lead to one pod each,
	// and "*". Empty if it is not known.
	link     string
	bridge   string // that the pod is joined to; empty if there is none
	port     string // the pod's port there
	mac      net.HardwareAddr
	legacy   bool // the host has rules of legacy iptables
	filtered bool // frames between the bridge's ports pass the packet filter of IP as well
}

// plan is the whole kernel state of an attachment.
func (c *conf) plan(o owner.Owner, ips []roles.IP, s surroundings) (*netutil.Plan, error) {
	if c.IngressPolicy == policySameBridge && s.bridge == "" {
		return nil, invalid("ingressPolicy: same-bridge is for containers on a bridge, and prevResult names none")
	}
	p := &netutil.Plan{Owner: o}
	for _, ip := range ips {
		p.Filter = append(p.Filter, c.planForward(ip, s))
		switch c.IngressPolicy {
		case policySameBridge:
			p.Filter = append(p.Filter, nft.IngressEntry{Addr: ip.Prefix.Addr(), From: s.link})
		case policyIsolated:
			p.Filter = append(p.Filter, nft.IngressEntry{Addr: ip.Prefix.Addr()})
		}
	}
	if c.IngressPolicy == policyIsolated && s.port != "" {
		p.Filter = append(p.Filter, isolate(s))
	}
	return p, nil
}

// isolate keeps out what comes from other ports of the bridge, by other ways than the container's addresses too.
func isolate(s surroundings) nft.Entry {
	if !s.filtered || len(s.mac) != 6 {
		return nft.IsolateEntry{Port: s.port}
	}
	// Frames pass the packet filter of IP, which knows nothing of ports: there it is the one address that prevResult does not tell, fe80::
	// and the MAC address.
	return nft.IngressEntry{Addr: owner.LinkLocal(s.mac)}
}

func (c *conf) planForward(ip roles.IP, s surroundings) nft.Entry {
	e := nft.ForwardEntry{
		Addr: ip.Prefix.Addr(), Link: s.link, Subnet: ip.Subnet(), Admin: c.IPTablesAdminChainName,
	}
	switch c.Backend {
	case backendFirewalld:
		e.Zone = c.FirewalldZone
	case backendIPTables:
		e.Legacy = s.legacy
	}
	if s.link == "" { // rules for the whole subnet would be for hosts elsewhere too
		e.Subnet, _ = e.Addr.Prefix(e.Addr.BitLen())
	}
	return e
}
