package rtnl

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// This file is what virtual routing and forwarding needs (linux/Documentation/networking/vrf.rst).

const (
	vrfTable     = 1  // IFLA_VRF_TABLE
	routeNexthop = 30 // RTA_NH_ID
)

// NewVRF makes a VRF device of a routing table, up. Without a table (0) the kernel refuses with unix.EINVAL, and with unix.EOPNOTSUPP where it
// knows no VRF.
func NewVRF(name string, table uint32) rawnl.Message {
	n := New{End: End{Name: name}, Kind: "vrf", Up: true}
	if table != 0 {
		n.Data = func(a *rawnl.Attrs) { a.Uint32(vrfTable, table) }
	}
	return NewLink(n)
}

// ParseVRF reads the table from the answer to a request for a link; 0 if that is no VRF.
func ParseVRF(b []byte) uint32 { return number(rawnl.Find(linkData(b, "vrf"), vrfTable)) }

// SetMaster has a link follow another, a VRF or a bridge, or none (0).
func SetMaster(index, master int) rawnl.Message {
	var a rawnl.Attrs
	a.Uint32(unix.IFLA_MASTER, uint32(master))
	return rawnl.Message{Type: unix.RTM_NEWLINK, Body: body(index, 0, 0, a)}
}

// IsKernelsRoute tells of an answer to GetRoutes that nobody but the kernel, or a router, has made the route: then it is made again when its
// cause comes back.
func IsKernelsRoute(b []byte) bool {
	if len(b) < headerOfRoute {
		return true
	}
	made, kind := b[5], b[7]
	return kind != unix.RTN_UNICAST || made == unix.RTPROT_KERNEL || made == unix.RTPROT_REDIRECT || made == unix.RTPROT_RA
}

// CopyRoute adds the route of an answer to GetRoutes to a table, with all its properties.
func CopyRoute(b []byte, table uint32) rawnl.Message { return copyRoute(b, table, netip.Addr{}) }

// CopyRouteFrom is CopyRoute with another preferred source.
func CopyRouteFrom(b []byte, table uint32, source netip.Addr) rawnl.Message {
	return copyRoute(b, table, source)
}

func copyRoute(b []byte, table uint32, source netip.Addr) rawnl.Message {
	out := slices.Clone(b[:headerOfRoute])
	out[4] = unix.RT_TABLE_UNSPEC
	// Of the flags all others tell the state of the route.
	binary.NativeEndian.PutUint32(out[8:], binary.NativeEndian.Uint32(out[8:])&unix.RTNH_F_ONLINK)
	without := []uint16{unix.RTA_TABLE, unix.RTA_CACHEINFO, routeNexthop}
	if source.IsValid() {
		without = append(without, unix.RTA_PREFSRC)
	}
	a := copyAttrs(b[headerOfRoute:], without...)
	a.Uint32(unix.RTA_TABLE, table)
	if source.IsValid() {
		a.Bytes(unix.RTA_PREFSRC, source.AsSlice())
	}
	return rawnl.Message{Type: unix.RTM_NEWROUTE, Flags: unix.NLM_F_CREATE, Body: append(out, a...)}
}

// OneWay is an answer to GetRoutes with one of the route's ways in place of all, as that is a route of IPv6 by itself. With a single way it is
// the answer.
func OneWay(b []byte, way Route) []byte {
	if rawnl.Find(b[headerOfRoute:], unix.RTA_MULTIPATH) == nil {
		return b
	}
	a := copyAttrs(b[headerOfRoute:], unix.RTA_MULTIPATH)
	a.Uint32(unix.RTA_OIF, uint32(way.Link))
	if way.Gateway.IsValid() {
		a.Bytes(unix.RTA_GATEWAY, way.Gateway.AsSlice())
	}
	return append(slices.Clone(b[:headerOfRoute]), a...)
}

// DropRoute removes the route of an answer to GetRoutes from its table. The kernel answers unix.ESRCH if it is gone.
func DropRoute(b []byte, table uint32) rawnl.Message {
	m := CopyRoute(b, table)
	m.Type, m.Flags = unix.RTM_DELROUTE, 0
	return m
}

// CopyAddr adds the address of an answer to GetAddrs again, with all its properties. It is usable at once.
func CopyAddr(b []byte) rawnl.Message {
	out := slices.Clone(b[:headerOfAddress])
	flags := uint32(b[2])
	if v := rawnl.Find(b[headerOfAddress:], unix.IFA_FLAGS); v != nil {
		flags = number(v)
	}
	a := copyAttrs(b[headerOfAddress:], unix.IFA_FLAGS)
	a.Uint32(unix.IFA_FLAGS, flags|unix.IFA_F_NODAD)
	return rawnl.Message{Type: unix.RTM_NEWADDR, Flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, Body: append(out, a...)}
}

func copyAttrs(attrs []byte, without ...uint16) (out rawnl.Attrs) {
	rawnl.Each(attrs, func(kind uint16, v []byte) {
		if !slices.Contains(without, kind) {
			out.Bytes(kind, v)
		}
	})
	return out
}
