package eval

import "bytes"

// answer is what there is to say about whether something is so.
type answer int8

const (
	no answer = iota
	maybe
	yes
)

func is(b bool) answer {
	if b {
		return yes
	}
	return no
}

// not leaves what is not known as it is.
func (a answer) not() answer { return yes - a }

// value is bytes of which some bits may not be known: those have a zero in known, and in data.
type value struct{ data, known []byte }

func certain(data []byte) value { return value{}.add(data...) }

func (v value) add(b ...byte) value {
	v.data = append(v.data, b...)
	for range b {
		v.known = append(v.known, 0xff)
	}
	return v
}

// unknown adds so many bytes of which nothing is known.
func (v value) unknown(n int) value {
	return value{append(v.data, make([]byte, n)...), append(v.known, make([]byte, n)...)}
}

func (v value) and(other value) value {
	return value{append(v.data, other.data...), append(v.known, other.known...)}
}

// certain tells whether all is known.
func (v value) certain() bool {
	for _, k := range v.known {
		if k != 0xff {
			return false
		}
	}
	return true
}

// part is the bytes from one to before another; what lies behind the end is not known.
func (v value) part(from, n int) value {
	if from >= len(v.data) {
		return value{}.unknown(n)
	}
	to := min(from+n, len(v.data))
	out := value{}.and(value{v.data[from:to], v.known[from:to]})
	return out.unknown(n - (to - from))
}

// equals compares with bytes of the same number.
func (v value) equals(with []byte) answer {
	out := yes
	for i, k := range v.known {
		switch {
		case (v.data[i]^with[i])&k != 0:
			return no
		case k != 0xff:
			out = maybe
		}
	}
	return out
}

// compare is bytes.Compare; ok is false if it is not known.
func (v value) compare(with []byte) (order int, ok bool) {
	for i, k := range v.known {
		if k != 0xff {
			return 0, false
		}
		if v.data[i] != with[i] {
			return bytes.Compare(v.data[i:], with[i:]), true
		}
	}
	return 0, true
}

// masked is the value and the mask, and then the exclusive or of it.
func (v value) masked(mask, xor []byte) value {
	out := value{}.and(v)
	for i := range out.data {
		m, x := byteAt(mask, i), byteAt(xor, i)
		out.known[i] |= ^m
		out.data[i] = (out.data[i]&m ^ x) & out.known[i]
	}
	return out
}

func byteAt(b []byte, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return 0
}
