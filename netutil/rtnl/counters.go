package rtnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// Counters are what a link has counted since it was made (struct rtnl_link_stats64): packets, bytes, and packets that it did not take or send.
type Counters struct {
	Index                int
	RxPackets, TxPackets uint64
	RxBytes, TxBytes     uint64
	RxDropped, TxDropped uint64
}

// GetCounters asks for all links with their counters.
func GetCounters() rawnl.Message {
	return rawnl.Message{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_DUMP, Body: body(0, 0, 0, nil)}
}

// ParseCounters reads an answer to GetCounters; ok is false if it is none.
func ParseCounters(b []byte) (c Counters, ok bool) {
	if len(b) < headerOfLink {
		return c, false
	}
	c.Index = int(binary.NativeEndian.Uint32(b[4:]))
	v := rawnl.Find(b[headerOfLink:], unix.IFLA_STATS64)
	const counted = 8 // the numbers that are read, of 8 bytes
	if len(v) < 8*counted {
		return c, false
	}
	var n [counted]uint64
	for i := range n {
		n[i] = binary.NativeEndian.Uint64(v[8*i:])
	}
	// Between bytes and drops stand errors: rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped.
	c.RxPackets, c.TxPackets, c.RxBytes, c.TxBytes, c.RxDropped, c.TxDropped = n[0], n[1], n[2], n[3], n[6], n[7]
	return c, true
}
