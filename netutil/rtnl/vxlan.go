package rtnl

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// VXLAN is what a VXLAN device has of its own (linux/if_link.h, RFC 7348).
type VXLAN struct {
	VNI    uint32     // of 24 bits
	Port   uint16     // UDP, of all that it sends to and receives on
	Local  netip.Addr // that it sends from
	Group  netip.Addr // multicast, where frames for all go; the zero Addr: none
	Link   int        // index of the link on which the group is joined; 0 without a group
	Learns bool       // from what it receives, behind which host a MAC address is
	Limit  uint32     // of entries that it learns; 0: none
}

// String is what tells the devices of one VNI apart.
func (v VXLAN) String() string {
	text := "from " + v.Local.String() + " to port " + strconv.Itoa(int(v.Port))
	if v.Group.IsValid() {
		text += " and group " + v.Group.String()
	}
	if v.Learns {
		text += ", learning at most " + strconv.FormatUint(uint64(v.Limit), 10)
	}
	return text
}

// What linux/if_link.h has beyond package unix.
const (
	vxlanID       = 1  // IFLA_VXLAN_ID
	vxlanGroup    = 2  // IFLA_VXLAN_GROUP
	vxlanLink     = 3  // IFLA_VXLAN_LINK
	vxlanLocal    = 4  // IFLA_VXLAN_LOCAL
	vxlanLearning = 7  // IFLA_VXLAN_LEARNING
	vxlanLimit    = 9  // IFLA_VXLAN_LIMIT
	vxlanPort     = 15 // IFLA_VXLAN_PORT
	vxlanGroup6   = 16 // IFLA_VXLAN_GROUP6
	vxlanLocal6   = 17 // IFLA_VXLAN_LOCAL6
)

// NewVXLAN makes a VXLAN device, down. The kernel answers unix.EEXIST if there is one of this name, or of this VNI and port.
func NewVXLAN(end End, v VXLAN) rawnl.Message {
	return NewLink(New{End: end, Kind: "vxlan", Data: v.data})
}

func (v VXLAN) data(a *rawnl.Attrs) {
	local, group := uint16(vxlanLocal), uint16(vxlanGroup)
	if v.Local.Is6() {
		local, group = vxlanLocal6, vxlanGroup6
	}
	a.Uint32(vxlanID, v.VNI)
	a.Bytes(local, v.Local.AsSlice())
	if v.Group.IsValid() {
		a.Bytes(group, v.Group.AsSlice())
		a.Uint32(vxlanLink, uint32(v.Link))
	}
	learns := uint8(0)
	if v.Learns {
		learns = 1
	}
	a.Uint8(vxlanLearning, learns)
	a.Uint32(vxlanLimit, v.Limit)
	a.Bytes(vxlanPort, binary.BigEndian.AppendUint16(nil, v.Port))
}

// ParseVXLAN reads the answer to a request for a link; ok is false if that is no VXLAN device.
func ParseVXLAN(b []byte) (v VXLAN, ok bool) {
	data := linkData(b, "vxlan")
	if data == nil {
		return v, false
	}
	rawnl.Each(data, func(kind uint16, value []byte) {
		switch kind {
		case vxlanID:
			v.VNI = number(value)
		case vxlanLocal, vxlanLocal6:
			v.Local = addr(value, v.Local)
		case vxlanGroup, vxlanGroup6:
			v.Group = addr(value, v.Group)
		case vxlanLink:
			v.Link = int(number(value))
		case vxlanLearning:
			v.Learns = byteOf(value) != 0
		case vxlanLimit:
			v.Limit = number(value)
		case vxlanPort:
			if len(value) == 2 {
				v.Port = binary.BigEndian.Uint16(value)
			}
		}
	})
	return v, true
}
