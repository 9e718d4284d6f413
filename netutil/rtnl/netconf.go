package rtnl

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// linux/netconf.h.
const (
	headerOfNetconf = 4 // struct netconfmsg, padded
	confIndex       = 1 // NETCONFA_IFINDEX
	confForwarding  = 2 // NETCONFA_FORWARDING
)

// GetForwarding asks whether a namespace routes packets of the family of like between its links. The same stands in /proc/sys, where each of
// the thousand namespaces of a node has files of the same names, and to find one's own takes the longer the more there are.
func GetForwarding(like netip.Addr) rawnl.Message {
	all := int32(-1) // NETCONFA_IFINDEX_ALL
	var a rawnl.Attrs
	a.Bytes(confIndex, binary.NativeEndian.AppendUint32(nil, uint32(all)))
	b := make([]byte, headerOfNetconf, headerOfNetconf+len(a))
	b[0] = family(like)
	return rawnl.Message{Type: unix.RTM_GETNETCONF, Body: append(b, a...)}
}

// ParseForwarding reads the answer to GetForwarding.
func ParseForwarding(b []byte) bool {
	return len(b) > headerOfNetconf && number(rawnl.Find(b[headerOfNetconf:], confForwarding)) == 1
}
