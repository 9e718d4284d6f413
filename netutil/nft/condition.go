package nft

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// Condition narrows a port mapping (the keys conditionsV4 and conditionsV6 of portmap).
type Condition struct {
	Key    string // "saddr", "daddr": an address or a prefix; "iifname": a link's name, or the beginning of one and "*"; "mark": "0x1" or "0x1/0xff"
	Negate bool
	Value  string
}

func (c Condition) wrong() error {
	return errcode.Errorf(errcode.InvalidConfig, "conditions: %s %q makes no sense", c.Key, c.Value)
}

// unless matches where the condition does not hold.
func (c Condition) unless(f family) (rule, error) {
	op := expr.CmpOpNeq
	if c.Negate {
		op = expr.CmpOpEq
	}
	switch c.Key {
	case "saddr", "daddr":
		prefix, err := parsePrefix(c.Value)
		if err != nil || prefix.Addr().Is4() != (f.addr == ipv4) {
			return nil, c.wrong()
		}
		offset := f.source
		if c.Key == "daddr" {
			offset = f.dest
		}
		return f.within(op, offset, prefix), nil
	case "iifname":
		if name := strings.TrimSuffix(c.Value, "*"); name == "" || len(c.Value) >= ifname.size() {
			return nil, c.wrong()
		}
		return fromLink(op, c.Value), nil
	case "mark":
		value, mask, ok := parseMark(c.Value)
		if !ok {
			return nil, c.wrong()
		}
		return markIs(op, value, mask), nil
	}
	return nil, errcode.Errorf(errcode.UnsupportedField, "conditions: %s is not supported", c.Key)
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return netip.ParsePrefix(s)
	}
	addr, err := netip.ParseAddr(s)
	return netip.PrefixFrom(addr, addr.BitLen()), err
}

func parseMark(s string) (value, mask uint32, ok bool) {
	first, second, masked := strings.Cut(s, "/")
	v, err := strconv.ParseUint(first, 0, 32)
	if err != nil {
		return 0, 0, false
	}
	m := uint64(1<<32 - 1)
	if masked {
		if m, err = strconv.ParseUint(second, 0, 32); err != nil {
			return 0, 0, false
		}
	}
	return uint32(v), uint32(m), true
}

func markIs(op expr.CmpOp, value, mask uint32) rule {
	native := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	out := rule{&expr.Meta{Key: expr.MetaKeyMARK, Register: firstReg}}
	if mask != 1<<32-1 {
		out = append(out, &expr.Bitwise{SourceRegister: firstReg, DestRegister: firstReg, Len: 4, Mask: native(mask), Xor: make([]byte, 4)})
	}
	return append(out, &expr.Cmp{Op: op, Register: firstReg, Data: native(value & mask)})
}
