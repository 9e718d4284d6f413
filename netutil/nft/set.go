package nft

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// set is a set or a map of one of our tables.
type set struct {
	table *table
	name  string
	key   []field
	value []field // of a map; nil: a set, or a verdict map
	// verdicts makes it a map whose values are chains to go on in.
	verdicts bool
	// intervals makes it a set of intervals: an element is where one begins, or ends.
	intervals bool
}

// ofOverlays tells whether the set's elements are overlays'.
func (s *set) ofOverlays() bool {
	return s.name == setTunnels || s.name == setTunnelDevices || s.intervals || strings.HasPrefix(s.name, setTunnelPeers)
}

// size is that of a key or a value of those fields in bytes. One field alone is not padded.
func size(fields []field) (n int) {
	if len(fields) == 1 {
		return fields[0].bytes()
	}
	for _, f := range fields {
		n += f.size()
	}
	return n
}

// datatype is the number by which nft(8) knows how to print those fields: for a concatenation, six bits for each.
func datatype(fields []field) (number uint32) {
	const bits = 6
	for _, f := range fields {
		number = number<<bits | f.datatype()
	}
	return number
}

// add makes the set unless it is there. The number tells it from others of the batch.
func (s *set) add(b *batch, number uint32) {
	var a rawnl.Attrs
	a.Text(unix.NFTA_SET_TABLE, tableName)
	a.Text(unix.NFTA_SET_NAME, s.name)
	a.Uint32BE(unix.NFTA_SET_ID, number)
	a.Uint32BE(unix.NFTA_SET_KEY_TYPE, datatype(s.key))
	a.Uint32BE(unix.NFTA_SET_KEY_LEN, uint32(size(s.key)))
	switch {
	case s.verdicts:
		a.Uint32BE(unix.NFTA_SET_FLAGS, unix.NFT_SET_MAP)
		a.Uint32BE(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
	case s.value != nil:
		a.Uint32BE(unix.NFTA_SET_FLAGS, unix.NFT_SET_MAP)
		a.Uint32BE(unix.NFTA_SET_DATA_TYPE, datatype(s.value))
		a.Uint32BE(unix.NFTA_SET_DATA_LEN, uint32(size(s.value)))
	case s.intervals:
		a.Uint32BE(unix.NFTA_SET_FLAGS, unix.NFT_SET_INTERVAL)
	default:
		a.Uint32BE(unix.NFTA_SET_FLAGS, 0)
	}
	a.Bytes(unix.NFTA_SET_USERDATA, append(s.byteOrder(), s.typeOf()...))
	b.put(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, s.table, a)
}

// byteOrder tells nft(8) in which order the key's bytes are; without, it prints names of links and marks as nonsense.
func (s *set) byteOrder() []byte {
	const native, big = 1, 2 // enum byteorder, nftables/datatype.h
	order := uint32(big)
	if s.key[0] == ifname {
		order = native
	}
	return tlv(setByteOrder, binary.NativeEndian.AppendUint32(nil, order))
}

// remove takes the set away. No rule must look into it.
func (s *set) remove(b *batch) {
	var a rawnl.Attrs
	a.Text(unix.NFTA_SET_TABLE, tableName)
	a.Text(unix.NFTA_SET_NAME, s.name)
	b.put(unix.NFT_MSG_DELSET, 0, s.table, a)
}
