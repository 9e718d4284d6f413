package wire

import (
	"bufio"
	"encoding/binary"
	"io"
)

// reader decodes values. The other side defines its types, by numbers of its own choice.
type reader struct {
	r     *bufio.Reader
	types map[int]*shape
}

// Bounds of what is read: lists and records within one another, and parts of a value altogether.
const (
	maxDepth = 16
	maxParts = 1 << 16
)

// read is the next value, which is a record in this protocol.
func (r *reader) read() (record, error) {
	for {
		size, err := readUint(r.r)
		if err != nil {
			return nil, err
		}
		if size > maxMessage {
			return nil, errBad
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(r.r, body); err != nil {
			return nil, err
		}
		p := &parser{rest: body, types: r.types, parts: maxParts}
		id := p.int()
		if id >= 0 {
			v, ok := p.value(int(id), 0).(record)
			if !ok || p.bad {
				return nil, errBad
			}
			return v, nil
		}
		def, ok := p.structOf(wireShape(), 0).(record)
		if !ok || p.bad || -id > 1<<20 {
			return nil, errBad
		}
		if r.types == nil {
			r.types = map[int]*shape{}
		}
		r.types[int(-id)] = shapeOf(def)
	}
}

// readUint reads a number from a stream.
func readUint(r *bufio.Reader) (uint64, error) {
	first, err := r.ReadByte()
	if err != nil || first < 128 {
		return uint64(first), err
	}
	size := -int(int8(first))
	if size > 8 {
		return 0, errBad
	}
	var full [8]byte
	if _, err := io.ReadFull(r, full[8-size:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(full[:]), nil
}

// wireShape is that of a type's definition (encoding/gob, wireType), as far as this protocol needs it.
func wireShape() *shape {
	text, number := basic(tString), basic(tInt)
	common := &shape{fields: []field{{"Name", text}, {"Id", number}}}
	part := &shape{fields: []field{{"Name", text}, {"Id", number}}}
	array := &shape{fields: []field{{"CommonType", common}, {"Elem", number}, {"Len", number}}}
	slice := &shape{fields: []field{{"CommonType", common}, {"Elem", number}}}
	structure := &shape{fields: []field{{"CommonType", common}, {"Field", &shape{elem: part}}}}
	mapping := &shape{fields: []field{{"CommonType", common}, {"Key", number}, {"Elem", number}}}
	return &shape{fields: []field{{"ArrayT", array}, {"SliceT", slice}, {"StructT", structure}, {"MapT", mapping}}}
}

// shapeOf is the type that a definition tells of; nil if it is one that this protocol does not have.
func shapeOf(def record) *shape {
	if s, ok := def["SliceT"].(record); ok {
		elem, _ := s["Elem"].(int64)
		return &shape{elem: &shape{id: int(elem)}}
	}
	s, ok := def["StructT"].(record)
	if !ok {
		return nil
	}
	out := &shape{name: "struct"}
	parts, _ := s["Field"].([]any)
	for _, p := range parts {
		part, _ := p.(record)
		name, _ := part["Name"].(string)
		id, _ := part["Id"].(int64)
		out.fields = append(out.fields, field{name, &shape{id: int(id)}})
	}
	return out
}

// parser reads one message. After the first thing that cannot be, it is bad, and reads zeros.
type parser struct {
	rest  []byte
	types map[int]*shape
	parts int
	bad   bool
}

func (p *parser) fail() {
	p.bad, p.rest = true, nil
}

func (p *parser) uint() uint64 {
	if len(p.rest) == 0 {
		p.fail()
		return 0
	}
	first := p.rest[0]
	p.rest = p.rest[1:]
	if first < 128 {
		return uint64(first)
	}
	size := -int(int8(first))
	if size > 8 || size > len(p.rest) {
		p.fail()
		return 0
	}
	var full [8]byte
	copy(full[8-size:], p.rest)
	p.rest = p.rest[size:]
	return binary.BigEndian.Uint64(full[:])
}

func (p *parser) int() int64 {
	n := p.uint()
	if n&1 != 0 {
		return ^int64(n >> 1)
	}
	return int64(n >> 1)
}

func (p *parser) bytes() []byte {
	size := p.uint()
	if size > uint64(len(p.rest)) {
		p.fail()
		return nil
	}
	b := p.rest[:size]
	p.rest = p.rest[size:]
	return b
}

// value reads a value of the type of that number.
func (p *parser) value(id, depth int) any {
	p.parts--
	if p.bad || p.parts < 0 || depth > maxDepth {
		p.fail()
		return nil
	}
	switch id {
	case tBool:
		return p.uint() != 0
	case tInt:
		return p.int()
	case tUint:
		return p.uint()
	case tBytes:
		return append([]byte{}, p.bytes()...)
	case tString:
		return string(p.bytes())
	}
	s := p.types[id]
	if s == nil {
		p.fail()
		return nil
	}
	return p.structOf(s, depth)
}

// structOf reads a list or a record of the shape.
func (p *parser) structOf(s *shape, depth int) any {
	if s.elem != nil {
		out := []any{}
		for n := p.uint(); n > 0 && !p.bad; n-- {
			out = append(out, p.element(s.elem, depth+1))
		}
		return out
	}
	out := record{}
	for at := -1; ; {
		delta := p.uint()
		if delta == 0 || p.bad {
			return out
		}
		if delta > uint64(len(s.fields)-1-at) {
			p.fail()
			return out
		}
		at += int(delta)
		out[s.fields[at].name] = p.element(s.fields[at].shape, depth+1)
	}
}

// element reads a value of a shape that is either known here or named by its number.
func (p *parser) element(s *shape, depth int) any {
	if s.elem == nil && s.fields == nil {
		return p.value(s.id, depth)
	}
	if p.parts--; p.parts < 0 || depth > maxDepth {
		p.fail()
		return nil
	}
	return p.structOf(s, depth)
}
