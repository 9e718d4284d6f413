package rtnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// This file is the VLANs of a bridge's ports (linux/if_bridge.h; bridge(8), vlan).

const (
	bridgeFlags    = 0 // IFLA_BRIDGE_FLAGS, in IFLA_AF_SPEC
	bridgeVLANInfo = 2 // IFLA_BRIDGE_VLAN_INFO
	flagsMaster    = 1 // BRIDGE_FLAGS_MASTER: it is the bridge that is asked, not its port's driver

	vlanPVID     = 1 << 1 // BRIDGE_VLAN_INFO_PVID: what comes without a tag belongs to it
	vlanUntagged = 1 << 2 // BRIDGE_VLAN_INFO_UNTAGGED: what goes bears no tag
	vlanBegin    = 1 << 3 // BRIDGE_VLAN_INFO_RANGE_BEGIN
	vlanEnd      = 1 << 4 // BRIDGE_VLAN_INFO_RANGE_END

	vlansInRanges = 1 << 2 // RTEXT_FILTER_BRVLAN_COMPRESSED: else a port of all VLANs would be more than the kernel can tell of at once
)

// AddVLANs has a port belong to the VLANs from first to last; access: without tags.
func AddVLANs(port int, first, last uint16, access bool) rawnl.Message {
	var flags uint16
	if access {
		flags = vlanPVID | vlanUntagged
	}
	return portVLANs(unix.RTM_SETLINK, port, func(a *rawnl.Attrs) {
		if first == last {
			vlanInfo(a, flags, first)
			return
		}
		vlanInfo(a, flags|vlanBegin, first)
		vlanInfo(a, flags|vlanEnd, last)
	})
}

// DelVLAN has a port leave a VLAN. If it is not in it, some kernels answer unix.ENOENT.
func DelVLAN(port int, id uint16) rawnl.Message {
	return portVLANs(unix.RTM_DELLINK, port, func(a *rawnl.Attrs) { vlanInfo(a, 0, id) })
}

func vlanInfo(a *rawnl.Attrs, flags, id uint16) {
	a.Bytes(bridgeVLANInfo, binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, flags), id))
}

func portVLANs(kind uint16, port int, fill func(*rawnl.Attrs)) rawnl.Message {
	var a rawnl.Attrs
	a.Nested(unix.IFLA_AF_SPEC, func(a *rawnl.Attrs) {
		a.Uint16(bridgeFlags, flagsMaster)
		fill(a)
	})
	return rawnl.Message{Type: kind, Body: ofBridge(body(port, 0, 0, a))}
}

// ofBridge makes a request about a link one about a bridge's port.
func ofBridge(b []byte) []byte {
	b[0] = unix.AF_BRIDGE
	return b
}

// GetVLANs asks for the VLANs of all ports.
func GetVLANs() rawnl.Message {
	var a rawnl.Attrs
	a.Uint32(unix.IFLA_EXT_MASK, vlansInRanges)
	return rawnl.Message{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_DUMP, Body: ofBridge(body(0, 0, 0, a))}
}

// ParseVLANs reads an answer to GetVLANs into visit: each VLAN of the port, and whether it is the one of what comes without a tag.
func ParseVLANs(b []byte, visit func(port int, id uint16, pvid bool)) {
	if len(b) < headerOfLink {
		return
	}
	port, first := int(binary.NativeEndian.Uint32(b[4:])), uint16(0)
	rawnl.Each(rawnl.Find(b[headerOfLink:], unix.IFLA_AF_SPEC), func(kind uint16, v []byte) {
		if kind != bridgeVLANInfo || len(v) < 4 {
			return
		}
		flags, id := binary.NativeEndian.Uint16(v), binary.NativeEndian.Uint16(v[2:])
		if flags&vlanBegin != 0 {
			first = id
			return
		}
		if flags&vlanEnd == 0 {
			first = id
		}
		const last = 4094 // IEEE 802.1Q
		for i := first; i <= min(id, last); i++ {
			visit(port, i, flags&vlanPVID != 0)
		}
	})
}
