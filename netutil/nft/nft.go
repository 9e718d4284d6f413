// Package nft keeps cnibox's nftables state: static chains, made once, and elements of sets and maps that attachments
// add and remove in one atomic batch per operation. No program is started; all goes over netlink.
package nft

import (
	"net"
	"net/netip"

	"github.com/cnibox/cnibox/netutil/owner"
)

// Tables are cnibox's tables in one network namespace. The socket is opened on first use. Not safe for concurrent use.
type Tables struct {
	fd int
}

// Open names the namespace by its descriptor, which must stay open until Close. It opens no socket yet.
func Open(fd int) *Tables { return &Tables{fd: fd} }

// Close gives the socket back.
func (t *Tables) Close() {}

// Feature is what a group of entries is for. An attachment's entries are added, checked and deleted by feature, so that
// roles in one chain (bridge, portmap) never touch each other's.
type Feature uint8

// The features. The numbers stand in the kernel (in the key of the journal), so they never change.
const (
	Masquerade Feature = 1
	PortMap    Feature = 2
	SpoofCheck Feature = 3
)

// Entry is one thing that an attachment wants from the packet filter: MasqueradeEntry, PortEntry, SourceNATEntry, SpoofCheckEntry.
type Entry interface {
	feature() Feature
}

// MasqueradeEntry gives the traffic of a pod to outside its own subnet the node's address.
type MasqueradeEntry struct {
	Addr   netip.Addr
	Subnet netip.Prefix // what stays as it is; multicast stays too
}

// PortEntry leads a port of the host to a pod.
type PortEntry struct {
	Protocol   uint8      // IPPROTO_TCP, _UDP or _SCTP
	HostIP     netip.Addr // the zero Addr: every address of the host, of the family of Addr
	HostPort   uint16
	Addr       netip.Addr
	Port       uint16
	Conditions []Condition // all must hold, else the mapping does not apply
}

// Condition narrows a port mapping (the keys conditionsV4 and conditionsV6 of portmap).
type Condition struct {
	Key    string // "saddr", "daddr", "iifname", ...
	Negate bool
	Value  string
}

// SourceNATEntry masquerades connections that came through a host port where the pod could not answer them otherwise:
// from its own subnet (itself included) and from the host's loopback addresses; all of them if All is set.
type SourceNATEntry struct {
	Addr   netip.Addr
	Subnet netip.Prefix
	All    bool
}

// SpoofCheckEntry drops frames that enter the bridge port with another source MAC.
type SpoofCheckEntry struct {
	Port string // name of the bridge port
	MAC  net.HardwareAddr
}

func (MasqueradeEntry) feature() Feature { return Masquerade }
func (PortEntry) feature() Feature       { return PortMap }
func (SourceNATEntry) feature() Feature  { return PortMap }
func (SpoofCheckEntry) feature() Feature { return SpoofCheck }

// Add adds all entries of an attachment, or none. A host port that another attachment holds is an error with code
// errcode.PortBusy that names the holder.
func (t *Tables) Add(o owner.Owner, entries []Entry) error { return nil }

// Verify compares the entries with the kernel: an error with code errcode.Differs names the first that is missing or wrong.
func (t *Tables) Verify(o owner.Owner, entries []Entry) error { return nil }

// Delete removes all that the attachment holds of a feature. It succeeds if there is nothing, no table, no nftables.
func (t *Tables) Delete(o owner.Owner, f Feature) error { return nil }

// GC removes what attachments of the network hold of a feature, but for those that are valid.
func (t *Tables) GC(network string, f Feature, valid func(linkName string) bool) error { return nil }

// Features are the features that the entries belong to, each once.
func Features(entries []Entry) []Feature {
	var out []Feature
next:
	for _, e := range entries {
		for _, f := range out {
			if f == e.feature() {
				continue next
			}
		}
		out = append(out, e.feature())
	}
	return out
}
