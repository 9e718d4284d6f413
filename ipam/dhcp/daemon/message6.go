package daemon

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/cnibox/cnibox/netutil/owner"
)

// This file is what messages of DHCPv6 hold (RFC 8415, section 21).

// duidOf identifies an attachment to servers, always in the same way (RFC 6355).
func duidOf(o owner.Owner) dhcpv6.DUID {
	h := fnv.New128a()
	_, _ = h.Write([]byte(clientID(o)))
	return &dhcpv6.DUIDUUID{UUID: [16]byte(h.Sum(nil))}
}

// message is one to servers, with what all have in common.
func (c *client6) message(kind dhcpv6.MessageType, options ...dhcpv6.Option) (*dhcpv6.Message, error) {
	m, err := dhcpv6.NewMessage()
	if err != nil {
		return nil, err
	}
	m.MessageType = kind
	m.AddOption(dhcpv6.OptClientID(c.duid))
	if kind != dhcpv6.MessageTypeRelease {
		m.AddOption(dhcpv6.OptRequestedOption(
			dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList, dhcpv6.OptionInformationRefreshTime, dhcpv6.OptionSolMaxRT,
		))
	}
	for _, o := range options {
		m.AddOption(o)
	}
	return m, nil
}

// association is the identity association for one address, with the address that there is.
func association(have ...*dhcpv6.OptIAAddress) *dhcpv6.OptIANA {
	ia := &dhcpv6.OptIANA{IaId: [4]byte{0, 0, 0, 1}} // an interface has one, and an identifier of its own
	for _, a := range have {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.IPv6Addr})
	}
	return ia
}

// associationIn finds the address that a server gives.
func associationIn(m *dhcpv6.Message) (*dhcpv6.OptIANA, *dhcpv6.OptIAAddress, error) {
	if s := statusOf(m); s != iana.StatusSuccess {
		return nil, nil, fmt.Errorf("the server answers %s", s)
	}
	for _, ia := range m.Options.IANA() {
		if ia.IaId != association().IaId {
			continue
		}
		for _, a := range ia.Options.Addresses() {
			ip, ok := netip.AddrFromSlice(a.IPv6Addr)
			if ok && a.ValidLifetime > 0 && !ip.IsUnspecified() && !ip.IsMulticast() && !ip.Is4In6() {
				return ia, a, nil
			}
		}
	}
	return nil, nil, errors.New("the server gives no address")
}

// statusOf is the status of a message, or of the association in it.
func statusOf(m *dhcpv6.Message) iana.StatusCode {
	if s := m.Options.Status(); s != nil && s.StatusCode != iana.StatusSuccess {
		return s.StatusCode
	}
	for _, ia := range m.Options.IANA() {
		if s := ia.Options.Status(); s != nil && ia.IaId == association().IaId {
			return s.StatusCode
		}
	}
	return iana.StatusSuccess
}
