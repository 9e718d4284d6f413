package nft

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// This file tells nft(8) what expressions a set's key is made of, where the number of a type does not say how many bytes there are: it prints and reads
// such a set with "typeof". The kernel keeps it for nft(8) and does not look at it (nftables: the udata of sets and expressions).

// Numbers of nftables: enum expr_types, enum proto_desc_id, and those of the fields of the protocols' headers.
const (
	exprConcat, exprMeta, exprPayload = 13, 9, 7

	descIP, fieldIPSource   = 12, 11
	descIP6, fieldIP6Source = 13, 8
	descUDP, fieldUDPDest   = 6, 2
)

// typeOf is that description, for sets with a field that is an integer to nft(8); nil for others.
func (s *set) typeOf() []byte {
	if !slices.ContainsFunc(s.key, func(f field) bool { number, _ := f.kind(); return number == integer }) {
		return nil
	}
	var parts []byte
	for i, f := range s.key {
		parts = append(parts, tlv(byte(i), f.expression())...)
	}
	return tlv(setKeyTypeOf, expression(exprConcat, parts))
}

// expression is what the field stands for in those sets.
func (f field) expression() []byte {
	switch f {
	case ifname:
		return expression(exprMeta, numbers(unix.NFT_META_IIFNAME))
	case ipv4:
		return expression(exprPayload, numbers(descIP, fieldIPSource))
	case ipv6:
		return expression(exprPayload, numbers(descIP6, fieldIP6Source))
	case target:
		return raw(targetOffset, f)
	case vni:
		return raw(vniOffset, f)
	default:
		return expression(exprPayload, numbers(descUDP, fieldUDPDest))
	}
}

// raw is a field of no protocol that nft(8) knows, so many bytes behind IP's header.
func raw(offset uint32, f field) []byte {
	return expression(exprPayload, numbers(0, 0, unix.NFT_PAYLOAD_TRANSPORT_HEADER, offset*8, uint32(f.bytes())*8))
}

func expression(kind uint32, data []byte) []byte { return append(numbers(kind), tlv(1, data)...) }

// numbers are pieces of the kinds 0, 1, 2 and so on, with a number each.
func numbers(list ...uint32) (out []byte) {
	for i, n := range list {
		out = append(out, tlv(byte(i), binary.NativeEndian.AppendUint32(nil, n))...)
	}
	return out
}

// tlv is data behind its kind and its length.
func tlv(kind byte, data []byte) []byte { return append([]byte{kind, byte(len(data))}, data...) }
