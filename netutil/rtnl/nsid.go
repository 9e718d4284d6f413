package rtnl

import (
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// This file is the numbers by which a namespace knows others that its links lead to (ip-netns(8), list-id; linux/net_namespace.h).

// NoNamespace stands for no number: the kernel has given none (NETNSA_NSID_NOT_ASSIGNED).
const NoNamespace = -1

const (
	netnsNSID = 1 // NETNSA_NSID
	netnsFD   = 3 // NETNSA_FD
)

// GetNSID asks for the number of the namespace of a descriptor.
func GetNSID(fd int) rawnl.Message {
	var a rawnl.Attrs
	a.Uint32(netnsFD, uint32(fd))
	return rawnl.Message{Type: unix.RTM_GETNSID, Body: append(make([]byte, headerOfNamespace), a...)}
}

// headerOfNamespace is the size of struct rtgenmsg, padded.
const headerOfNamespace = 4

// ParseNSID reads the answer to GetNSID; NoNamespace if there is none.
func ParseNSID(b []byte) int {
	if len(b) < headerOfNamespace {
		return NoNamespace
	}
	v := rawnl.Find(b[headerOfNamespace:], netnsNSID)
	if len(v) != 4 {
		return NoNamespace
	}
	return int(int32(number(v)))
}
