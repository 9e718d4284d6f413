// Package wire speaks the protocol of the reference's dhcp daemon: Go's net/rpc over HTTP CONNECT, in the encoding of encoding/gob. Both packages
// would do it in ten lines, but what they import and set up at start, every plugin call would pay: 800 allocations.
package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
)

// A value of gob (documented in package encoding/gob) is one of these: string, []byte, int64, uint64, bool, []any, or a record. What has the
// zero value of its type is not sent, and not in the record.
type record map[string]any

// Numbers of gob's own types.
const (
	tBool   = 1
	tInt    = 2
	tUint   = 3
	tBytes  = 5
	tString = 6
	tWire   = 16 // a definition of a type
)

// shape is a type: a basic one, a list of elem, or a struct of fields.
type shape struct {
	name   string
	id     int
	elem   *shape
	fields []field
}

type field struct {
	name string
	*shape
}

func basic(id int) *shape { return &shape{id: id} }

// maxMessage bounds what is read of the other side, in bytes.
const maxMessage = 1 << 20

var errBad = errors.New("not what encoding/gob writes")

// writer encodes values, each behind the definitions of the types that it has not defined before.
type writer struct {
	w       io.Writer
	defined map[int]bool
}

// write sends one value of the shape.
func (w *writer) write(s *shape, v any) error {
	out := w.define(nil, s)
	body := appendInt(nil, s.id)
	body = appendValue(body, s, v)
	_, err := w.w.Write(appendMessage(out, body))
	return err
}

func appendMessage(out, body []byte) []byte {
	return append(appendUint(out, uint64(len(body))), body...)
}

// define adds the messages that define a type and those that it is made of.
func (w *writer) define(out []byte, s *shape) []byte {
	if s.elem == nil && s.fields == nil && s.name == "" || w.defined[s.id] {
		return out
	}
	if w.defined == nil {
		w.defined = map[int]bool{}
	}
	w.defined[s.id] = true
	common := func(b []byte) []byte { // CommonType{Name, Id}
		b = appendString(append(b, 1), s.name)
		return append(appendInt(append(b, 1), s.id), 0)
	}
	body := appendInt(nil, -s.id)
	if s.elem != nil {
		body = common(append(body, 2, 1)) // wireType.SliceT = {CommonType, Elem}
		body = append(appendInt(append(body, 1), s.elem.id), 0, 0)
		return w.define(appendMessage(out, body), s.elem)
	}
	body = common(append(body, 3, 1)) // wireType.StructT = {CommonType, Field}
	if len(s.fields) > 0 {
		body = appendUint(append(body, 1), uint64(len(s.fields)))
		for _, f := range s.fields {
			body = appendString(append(body, 1), f.name)
			body = append(appendInt(append(body, 1), f.id), 0)
		}
	}
	out = appendMessage(out, append(body, 0, 0))
	for _, f := range s.fields {
		out = w.define(out, f.shape)
	}
	return out
}

func appendValue(b []byte, s *shape, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendString(b, v)
	case []byte:
		return append(appendUint(b, uint64(len(v))), v...)
	case int64:
		return appendInt(b, int(v))
	case uint64:
		return appendUint(b, v)
	case []any:
		b = appendUint(b, uint64(len(v)))
		for _, e := range v {
			b = appendValue(b, s.elem, e)
		}
	case record:
		last := -1
		for i, f := range s.fields {
			if value, ok := v[f.name]; ok && !zero(value) {
				b = appendValue(appendUint(b, uint64(i-last)), f.shape, value)
				last = i
			}
		}
		b = append(b, 0)
	}
	return b
}

// zero tells whether gob leaves a field with the value out.
func zero(v any) bool {
	switch v := v.(type) {
	case string:
		return v == ""
	case []byte:
		return len(v) == 0
	case int64:
		return v == 0
	case uint64:
		return v == 0
	case []any:
		return len(v) == 0
	}
	return v == nil
}

func appendUint(b []byte, n uint64) []byte {
	if n < 128 {
		return append(b, byte(n))
	}
	size := (bits.Len64(n) + 7) / 8
	b = append(b, byte(-size))
	full := binary.BigEndian.AppendUint64(nil, n)
	return append(b, full[8-size:]...)
}

func appendInt(b []byte, n int) []byte {
	if n < 0 {
		return appendUint(b, uint64(^n)<<1|1)
	}
	return appendUint(b, uint64(n)<<1)
}

func appendString(b []byte, s string) []byte { return append(appendUint(b, uint64(len(s))), s...) }
