package rtnl

import (
	"encoding/binary"
	"net/netip"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// VXLAN is what a VXLAN device has of its own (linux/if_link.h, RFC 7348). It learns nothing from what it receives.
type VXLAN struct {
	VNI   uint32     // of 24 bits
	Port  uint16     // UDP, of all that it sends to and receives on
	Local netip.Addr // that it sends from
}

// What linux/if_link.h has beyond package unix.
const (
	vxlanID       = 1  // IFLA_VXLAN_ID
	vxlanLocal    = 4  // IFLA_VXLAN_LOCAL
	vxlanLearning = 7  // IFLA_VXLAN_LEARNING
	vxlanPort     = 15 // IFLA_VXLAN_PORT
	vxlanLocal6   = 17 // IFLA_VXLAN_LOCAL6
)

// NewVXLAN makes a VXLAN device, down. The kernel answers unix.EEXIST if there is one of this name, or of this VNI and port.
func NewVXLAN(end End, v VXLAN) rawnl.Message {
	return NewLink(New{End: end, Kind: "vxlan", Data: v.data})
}

func (v VXLAN) data(a *rawnl.Attrs) {
	local := uint16(vxlanLocal)
	if v.Local.Is6() {
		local = vxlanLocal6
	}
	a.Uint32(vxlanID, v.VNI)
	a.Bytes(local, v.Local.AsSlice())
	a.Uint8(vxlanLearning, 0)
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
		case vxlanPort:
			if len(value) == 2 {
				v.Port = binary.BigEndian.Uint16(value)
			}
		}
	})
	return v, true
}
