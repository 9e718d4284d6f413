package rtnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// Child is what a link has of its own that is made on another (linux/if_link.h): of a macvlan Mode and BCQueueLen, of an ipvlan Mode and
// Flags, of a VLAN ID and Protocol.
type Child struct {
	Mode       uint32 // MACVLAN_MODE_ or IPVLAN_MODE_
	Flags      uint16 // IPVLAN_F_
	BCQueueLen uint32 // broadcasts that wait to be handed on to the other links; 0: the kernel's default
	ID         uint16 // VLAN ID
	Protocol   uint16 // EtherType of the tag: unix.ETH_P_8021Q or unix.ETH_P_8021AD
}

// What linux/if_link.h has beyond package unix.
const (
	macvlanMode       = 1 // IFLA_MACVLAN_MODE
	macvlanBCQueueLen = 7 // IFLA_MACVLAN_BC_QUEUE_LEN
	ipvlanMode        = 1 // IFLA_IPVLAN_MODE
	ipvlanFlags       = 2 // IFLA_IPVLAN_FLAGS
	vlanID            = 1 // IFLA_VLAN_ID
	vlanProtocol      = 5 // IFLA_VLAN_PROTOCOL
)

// Modes of macvlan.
const (
	MacvlanPrivate  = 1 // MACVLAN_MODE_PRIVATE
	MacvlanVEPA     = 2 // MACVLAN_MODE_VEPA
	MacvlanBridge   = 4 // MACVLAN_MODE_BRIDGE
	MacvlanPassthru = 8 // MACVLAN_MODE_PASSTHRU
)

// Modes and flags of ipvlan.
const (
	IPvlanL2      = 0 // IPVLAN_MODE_L2
	IPvlanL3      = 1 // IPVLAN_MODE_L3
	IPvlanL3S     = 2 // IPVLAN_MODE_L3S
	IPvlanPrivate = 1 // IPVLAN_F_PRIVATE
	IPvlanVEPA    = 2 // IPVLAN_F_VEPA
)

// Data is what New.Data takes for a link of the kind.
func (c Child) Data(kind string) func(*rawnl.Attrs) {
	switch kind {
	case "macvlan":
		return func(a *rawnl.Attrs) {
			a.Uint32(macvlanMode, c.Mode)
			if c.BCQueueLen != 0 {
				a.Uint32(macvlanBCQueueLen, c.BCQueueLen)
			}
		}
	case "ipvlan":
		return func(a *rawnl.Attrs) {
			a.Uint16(ipvlanMode, uint16(c.Mode))
			if c.Flags != 0 { // kernels before 4.15 do not know them
				a.Uint16(ipvlanFlags, c.Flags)
			}
		}
	case "vlan":
		return func(a *rawnl.Attrs) {
			a.Uint16(vlanID, c.ID)
			a.Bytes(vlanProtocol, binary.BigEndian.AppendUint16(nil, c.Protocol))
		}
	}
	return nil
}

// parseChild reads what the kernel tells of a link of the kind.
func parseChild(kind string, data []byte) (c Child) {
	switch kind {
	case "macvlan":
		c.Mode = number(rawnl.Find(data, macvlanMode))
		c.BCQueueLen = number(rawnl.Find(data, macvlanBCQueueLen))
	case "ipvlan":
		c.Mode = uint32(half(rawnl.Find(data, ipvlanMode)))
		c.Flags = half(rawnl.Find(data, ipvlanFlags))
	case "vlan":
		c.ID = half(rawnl.Find(data, vlanID))
		c.Protocol = unix.ETH_P_8021Q
		if v := rawnl.Find(data, vlanProtocol); len(v) == 2 {
			c.Protocol = binary.BigEndian.Uint16(v)
		}
	}
	return c
}

func half(v []byte) uint16 {
	if len(v) != 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(v)
}
