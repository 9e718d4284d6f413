package eval

import (
	"math/bits"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// This file is what expressions do with what is loaded.

// dataAt is the value in a nested attribute.
func dataAt(attrs []byte, kind uint16) []byte {
	return rawnl.Find(rawnl.Find(attrs, kind), unix.NFTA_DATA_VALUE)
}

// cmp compares what is loaded with a constant.
func (m *machine) cmp(data []byte) answer {
	sreg, op, with := uint32At(data, unix.NFTA_CMP_SREG), uint32At(data, unix.NFTA_CMP_OP), dataAt(data, unix.NFTA_CMP_DATA)
	v, ok := m.regs.get(sreg, len(with))
	m.sayCompared(m.regs.operand(sreg), op, with)
	if !ok || len(with) == 0 {
		return maybe
	}
	switch op {
	case unix.NFT_CMP_EQ:
		return m.regs.operand(sreg).equals(v, with)
	case unix.NFT_CMP_NEQ:
		return m.regs.operand(sreg).equals(v, with).not()
	}
	order, ok := m.regs.operand(sreg).compare(v, with)
	if !ok {
		return maybe
	}
	switch op {
	case unix.NFT_CMP_LT:
		return is(order < 0)
	case unix.NFT_CMP_LTE:
		return is(order <= 0)
	case unix.NFT_CMP_GT:
		return is(order > 0)
	case unix.NFT_CMP_GTE:
		return is(order >= 0)
	}
	return maybe
}

func (m *machine) sayCompared(o operand, op uint32, with []byte) {
	if op == unix.NFT_CMP_EQ && (o.words == "meta nfproto" || o.words == "meta l4proto" || o.words == "meta protocol") {
		implied := map[string]string{"ipv4": "ip ", "ipv6": "ip6 "}[o.constant(with)]
		if implied == "" {
			implied = o.constant(with) + " "
		}
		m.pending = append(m.pending, saidLater{o.words + " " + o.constant(with), implied})
		return
	}
	if o.mask != nil && op == unix.NFT_CMP_NEQ && !slices.ContainsFunc(with, func(b byte) bool { return b != 0 }) {
		m.say(o.words, o.kind.format(o.mask))
		return
	}
	sign := ""
	if op < 6 {
		sign = [...]string{"", "!= ", "< ", "<= ", "> ", ">= "}[op]
	}
	if op == unix.NFT_CMP_EQ && strings.Contains(o.words, " & ") {
		sign = "== "
	}
	if at := len(m.words) - 1; op == unix.NFT_CMP_LTE && at > 0 && m.words[at-1] == o.words && strings.HasPrefix(m.words[at], ">= ") {
		m.words[at] = m.words[at][len(">= "):] + "-" + o.constant(with)
		return
	}
	m.say(o.words, sign+o.constant(with))
}

// Of a port that is not known, as the kernel chooses it, so much is known all the same (net.ipv4.ip_local_port_range, as it is by default).
const lowestChosen, highestChosen = 32768, 60999

// equals compares what was loaded.
func (o operand) equals(v value, with []byte) answer {
	if order, ok := o.compare(v, with); ok && order != 0 {
		return no
	}
	return v.equals(with)
}

// compare compares what was loaded; ok is false if the result is not known.
func (o operand) compare(v value, with []byte) (order int, ok bool) {
	if o.chosen && len(with) == 2 {
		switch n := bigNumber(with); {
		case n < lowestChosen:
			return 1, true
		case n > highestChosen:
			return -1, true
		}
	}
	return v.compare(with)
}

// constant writes what is compared with the operand: as a prefix, if there was a mask or if it is shorter than an address.
func (o operand) constant(with []byte) string {
	if o.kind == kindIPv4 || o.kind == kindIPv6 {
		length := o.bits
		if len(with) < o.kind.size() {
			length = len(with) * 8
			with = append(slices.Clone(with), make([]byte, o.kind.size()-len(with))...)
		}
		if length > 0 {
			return o.kind.format(with) + "/" + number(uint32(length))
		}
	}
	if o.words == "tcp flags" && len(with) == 1 {
		return "0x" + kindMark.format([]byte{with[0]})[2:]
	}
	return o.kind.format(with)
}

// inRange compares what is loaded with the ends of a range.
func (m *machine) inRange(data []byte) answer {
	sreg, op := uint32At(data, unix.NFTA_RANGE_SREG), uint32At(data, unix.NFTA_RANGE_OP)
	from, to := dataAt(data, unix.NFTA_RANGE_FROM_DATA), dataAt(data, unix.NFTA_RANGE_TO_DATA)
	o := m.regs.operand(sreg)
	sign := ""
	if op == unix.NFT_RANGE_NEQ {
		sign = "!= "
	}
	m.say(o.words, sign+o.kind.format(from)+"-"+o.kind.format(to))
	v, ok := m.regs.get(sreg, len(from))
	if !ok || len(from) == 0 || len(from) != len(to) {
		return maybe
	}
	low, known := o.compare(v, from)
	high, knownToo := o.compare(v, to)
	if !known || !knownToo {
		return maybe
	}
	return is((low >= 0 && high <= 0) == (op == unix.NFT_RANGE_EQ))
}

// Operations of bitwise (linux/netfilter/nf_tables.h): a mask and an exclusive or, and shifts.
const (
	bitwiseOp   = 6 // NFTA_BITWISE_OP
	bitwiseData = 7 // NFTA_BITWISE_DATA
	bitwiseBool = 0 // NFT_BITWISE_MASK_XOR
	bitwiseLeft = 1 // NFT_BITWISE_LSHIFT
	bitwiseRigh = 2 // NFT_BITWISE_RSHIFT
)

func (m *machine) bitwise(data []byte) answer {
	sreg, dreg, n := uint32At(data, unix.NFTA_BITWISE_SREG), uint32At(data, unix.NFTA_BITWISE_DREG), uint32At(data, unix.NFTA_BITWISE_LEN)
	if n > maxData {
		return maybe
	}
	v, ok := m.regs.get(sreg, int(n))
	o := m.regs.operand(sreg)
	switch op := uint32At(data, bitwiseOp); {
	case !ok:
		v = value{}.unknown(int(n))
	case op == bitwiseBool:
		mask, xor := dataAt(data, unix.NFTA_BITWISE_MASK), dataAt(data, unix.NFTA_BITWISE_XOR)
		v = v.masked(mask, xor)
		o = o.masked(mask, xor)
	case (op == bitwiseLeft || op == bitwiseRigh) && n == 4 && v.certain():
		by := uint32At(rawnl.Find(data, bitwiseData), unix.NFTA_DATA_VALUE)
		if b := dataAt(data, bitwiseData); len(b) == 4 {
			shift, _ := nativeNumber(b)
			by = uint32(shift)
		}
		was, _ := nativeNumber(v.data)
		if op == bitwiseLeft {
			v = certain(native32(uint32(was) << min(by, 32)))
		} else {
			v = certain(native32(uint32(was) >> min(by, 32)))
		}
	default:
		v = value{}.unknown(int(n))
	}
	return is(m.regs.set(dreg, v, o))
}

// masked is what is left of an operand.
func (o operand) masked(mask, xor []byte) operand {
	if o.kind == kindIPv4 || o.kind == kindIPv6 {
		o.bits = 0
		for _, b := range mask {
			o.bits += bits.OnesCount8(b)
		}
		return o
	}
	if o.kind == kindState || o.kind == kindStatus {
		o.mask = mask
	} else {
		o.words += " & " + o.kind.format(mask)
	}
	if slices.ContainsFunc(xor, func(b byte) bool { return b != 0 }) {
		o.words += " ^ " + o.kind.format(xor)
	}
	return o
}

// byteorder turns numbers round.
func (m *machine) byteorder(data []byte) answer {
	sreg, dreg := uint32At(data, unix.NFTA_BYTEORDER_SREG), uint32At(data, unix.NFTA_BYTEORDER_DREG)
	n, size := int(uint32At(data, unix.NFTA_BYTEORDER_LEN)), int(uint32At(data, unix.NFTA_BYTEORDER_SIZE))
	if n > maxData || n < 0 || size != 2 && size != 4 && size != 8 {
		return maybe
	}
	v, ok := m.regs.get(sreg, n)
	if !ok {
		return maybe
	}
	if native32(1)[0] == 1 {
		for at := 0; at+size <= n; at += size {
			slices.Reverse(v.data[at : at+size])
			slices.Reverse(v.known[at : at+size])
		}
	}
	return is(m.regs.set(dreg, v, m.regs.operand(sreg)))
}
