package eval

import "golang.org/x/sys/unix"

// registers are what expressions of one rule hand on to one another (linux/netfilter/nf_tables.h): sixteen of 32 bits, which are also four of 128.
type registers struct {
	value
	loaded [registerCount]operand // what begins in each
}

// operand is what was loaded, for people.
type operand struct {
	words string
	kind  kind
	bits  int    // that the last mask has left, of a prefix; 0: no mask
	mask  []byte // the last, of what is told by its bits
	// chosen: it is a port that the kernel has chosen, and is not known.
	chosen bool
	// chance: it is drawn, and each value is as good as another.
	chance bool
}

const (
	registerCount = 16
	registerSize  = 4
	verdictReg    = unix.NFT_REG_VERDICT
)

func newRegisters() registers { return registers{value: value{}.unknown(registerCount * registerSize)} }

// offset is where a register is, in bytes; ok is false if there is none of that number.
func offset(number uint32) (at int, ok bool) {
	switch {
	case number >= unix.NFT_REG_1 && number <= unix.NFT_REG_4:
		return int(number-unix.NFT_REG_1) * 4 * registerSize, true
	case number >= unix.NFT_REG32_00 && number <= unix.NFT_REG32_15:
		return int(number-unix.NFT_REG32_00) * registerSize, true
	}
	return 0, false
}

// get is n bytes from a register on.
func (r *registers) get(number uint32, n int) (v value, ok bool) {
	at, ok := offset(number)
	if !ok || n < 0 || n > len(r.data)-at {
		return value{}.unknown(max(0, min(n, maxData))), false
	}
	return r.part(at, n), true
}

// maxData is the longest value that the kernel takes, in bytes (NFT_DATA_VALUE_MAXLEN).
const maxData = 64

// set stores a value; the rest of its last register becomes zero, as in the kernel.
func (r *registers) set(number uint32, v value, o operand) bool {
	at, ok := offset(number)
	if !ok || len(v.data) > len(r.data)-at {
		return false
	}
	for len(v.data)%registerSize != 0 {
		v = v.add(0)
	}
	copy(r.data[at:], v.data)
	copy(r.known[at:], v.known)
	r.loaded[at/registerSize] = o
	return true
}

// operand is what was loaded into a register.
func (r *registers) operand(number uint32) operand {
	at, ok := offset(number)
	if !ok {
		return operand{}
	}
	return r.loaded[at/registerSize]
}

// words are what was loaded into the registers that hold n bytes, as a concatenation, and the kinds of its parts.
func (r *registers) words(number uint32, n int) (words string, kinds []kind) {
	at, ok := offset(number)
	if !ok {
		return "", nil
	}
	for end := min(at+n, len(r.data)); at < end; {
		o := r.loaded[at/registerSize]
		if o.words == "" {
			break
		}
		if words != "" {
			words += " . "
		}
		words += o.words
		kinds = append(kinds, o.kind)
		at += max(registerSize, (o.kind.size()+3)&^3)
	}
	return words, kinds
}
