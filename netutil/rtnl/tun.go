package rtnl

import (
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// Tun is what the kernel tells of a tun or tap device (since 4.18). Such a device is made by ioctl(2), not by netlink.
type Tun struct {
	Tap, Persistent, MultiQueue bool
	Owner, Group                *uint32 // who may open it; nil: who has CAP_NET_ADMIN
}

// linux/if_link.h, IFLA_TUN_, and linux/if_tun.h.
const (
	tunOwner      = 1
	tunGroup      = 2
	tunType       = 3
	tunPersist    = 6
	tunMultiQueue = 7
)

// ParseTun reads the answer to a request for a link; nil if that is of another kind.
func ParseTun(b []byte) *Tun {
	data := linkData(b, "tun")
	if data == nil {
		return nil
	}
	id := func(kind uint16) *uint32 {
		v := rawnl.Find(data, kind)
		if v == nil {
			return nil
		}
		n := number(v)
		return &n
	}
	flag := func(kind uint16) bool { return byteOf(rawnl.Find(data, kind)) != 0 }
	return &Tun{
		Tap: byteOf(rawnl.Find(data, tunType)) == unix.IFF_TAP, Persistent: flag(tunPersist), MultiQueue: flag(tunMultiQueue),
		Owner: id(tunOwner), Group: id(tunGroup),
	}
}

// linkData is what the kernel tells of a link beyond what all have (IFLA_INFO_DATA); nil if the link is not of the kind.
func linkData(b []byte, kind string) []byte {
	if len(b) < headerOfLink {
		return nil
	}
	info := rawnl.Find(b[headerOfLink:], unix.IFLA_LINKINFO)
	if rawnl.String(rawnl.Find(info, infoKind)) != kind {
		return nil
	}
	return rawnl.Find(info, infoData)
}
