package rawnl

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// Attrs is a run of attributes (netlink(7), NLA) as it is encoded.
type Attrs []byte

const (
	attrHeader = unix.SizeofNlAttr
	kindMask   = 1<<14 - 1 // NLA_TYPE_MASK: above are the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER
)

// Bytes adds an attribute.
func (a *Attrs) Bytes(kind uint16, value []byte) {
	b := binary.NativeEndian.AppendUint16(*a, uint16(attrHeader+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	*a = pad(append(b, value...))
}

// Text adds a string with a final NUL.
func (a *Attrs) Text(kind uint16, value string) { a.Bytes(kind, append([]byte(value), 0)) }

// Uint8, Uint16 and Uint32 add a number in the machine's byte order, Uint32BE one in the network's.
func (a *Attrs) Uint8(kind uint16, value uint8) { a.Bytes(kind, []byte{value}) }

func (a *Attrs) Uint16(kind, value uint16) {
	a.Bytes(kind, binary.NativeEndian.AppendUint16(nil, value))
}

func (a *Attrs) Uint32(kind uint16, value uint32) {
	a.Bytes(kind, binary.NativeEndian.AppendUint32(nil, value))
}

func (a *Attrs) Uint32BE(kind uint16, value uint32) {
	a.Bytes(kind, binary.BigEndian.AppendUint32(nil, value))
}

// Nested adds an attribute that holds the attributes which fill adds.
func (a *Attrs) Nested(kind uint16, fill func(*Attrs)) {
	at := len(*a)
	*a = append(*a, 0, 0, 0, 0)
	inner := Attrs{}
	fill(&inner)
	*a = append(*a, inner...)
	binary.NativeEndian.PutUint16((*a)[at:], uint16(attrHeader+len(inner)))
	binary.NativeEndian.PutUint16((*a)[at+2:], kind|unix.NLA_F_NESTED)
}

// Each calls visit for each attribute of a run, without the flags in its kind. It ends at one that is cut short.
func Each(attrs []byte, visit func(kind uint16, value []byte)) {
	for len(attrs) >= attrHeader {
		size := int(binary.NativeEndian.Uint16(attrs))
		if size < attrHeader || size > len(attrs) {
			return
		}
		visit(binary.NativeEndian.Uint16(attrs[2:])&kindMask, attrs[attrHeader:size])
		attrs = attrs[min(padded(size), len(attrs)):]
	}
}

// Find is the value of the first attribute of the kind, nil if there is none.
func Find(attrs []byte, kind uint16) (found []byte) {
	Each(attrs, func(k uint16, value []byte) {
		if k == kind && found == nil {
			found = value
		}
	})
	return found
}

// String is a value that Text has added.
func String(value []byte) string { return strings.TrimRight(string(value), "\x00") }
