package daemon

import (
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/cnibox/cnibox/ipam/dhcp/dhcpv6"
	"github.com/cnibox/cnibox/netutil/owner"
)

// This file is what is asked of servers of DHCPv6, and which of their answers are of use.

// duidOf identifies an attachment to servers, always in the same way (RFC 6355).
func duidOf(o owner.Owner) dhcpv6.DUID {
	h := fnv.New128a()
	_, _ = h.Write([]byte(clientID(o)))
	return dhcpv6.UUID([16]byte(h.Sum(nil)))
}

// message is one to a server, or to all, with what all messages have in common.
func (c *client6) message(kind dhcpv6.Type, server dhcpv6.DUID, ask ...dhcpv6.Association) *dhcpv6.Message {
	m := dhcpv6.New(kind)
	m.ClientID, m.ServerID, m.Associations = c.duid, server, ask
	if kind != dhcpv6.Release {
		m.Requested = []dhcpv6.Option{dhcpv6.OptionDNS, dhcpv6.OptionSearchList, dhcpv6.OptionRefreshTime, dhcpv6.OptionSolMaxRT}
	}
	return m
}

// association is the identity association for one address, with the address that there is.
func association(have ...*dhcpv6.Address) dhcpv6.Association {
	ia := dhcpv6.Association{ID: [4]byte{0, 0, 0, 1}} // an interface has one, and an identifier of its own
	for _, a := range have {
		ia.Addresses = append(ia.Addresses, dhcpv6.Address{Addr: a.Addr})
	}
	return ia
}

// associationIn finds the address that a server gives.
func associationIn(m *dhcpv6.Message) (*dhcpv6.Association, *dhcpv6.Address, error) {
	if s := statusOf(m); s != dhcpv6.Success {
		return nil, nil, fmt.Errorf("the server answers %s", s)
	}
	for i := range m.Associations {
		ia := &m.Associations[i]
		if ia.ID != association().ID {
			continue
		}
		for j := range ia.Addresses {
			a := &ia.Addresses[j]
			if a.Valid > 0 && !a.Addr.IsUnspecified() && !a.Addr.IsMulticast() && !a.Addr.Is4In6() {
				return ia, a, nil
			}
		}
	}
	return nil, nil, errors.New("the server gives no address")
}

// statusOf is the status of a message, or of the association in it.
func statusOf(m *dhcpv6.Message) dhcpv6.Status {
	if m.Status != dhcpv6.Success {
		return m.Status
	}
	for _, ia := range m.Associations {
		if ia.ID == association().ID && ia.Status != dhcpv6.Success {
			return ia.Status
		}
	}
	return dhcpv6.Success
}
