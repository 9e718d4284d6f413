package nft

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// This file makes rules from pieces. Registers are those of 32 bits (NFT_REG32_00 and on): a part of a concatenation takes as many as its
// size needs, one behind the other.

const firstReg = unix.NFT_REG32_00

// rule is the expressions of a rule.
type rule []expr.Any

func join(pieces ...rule) (out rule) {
	for _, p := range pieces {
		out = append(out, p...)
	}
	return out
}

// family is what rules need to know of IPv4 and IPv6. The offsets are within the IP header, in bytes.
type family struct {
	name                string // as in names of sets
	number              byte   // NFPROTO_
	addr                field
	source, dest        uint32
	loopback, multicast netip.Prefix // loopback addresses, multicast addresses
}

func families() [2]family {
	return [2]family{
		{"ipv4", unix.NFPROTO_IPV4, ipv4, 12, 16, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4")},
		{"ipv6", unix.NFPROTO_IPV6, ipv6, 8, 24, netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("ff00::/8")},
	}
}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return families()[0]
	}
	return families()[1]
}

// is matches packets of the family.
func (f family) is() rule {
	return rule{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: firstReg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: firstReg, Data: []byte{f.number}},
	}
}

// load puts a part of the packet into the register, and tells the next free one.
type load func(reg uint32) (expr.Any, uint32)

func (f family) address(offset uint32) load { return networkLoad(offset, f.addr) }

func meta(key expr.MetaKey, size uint32) load {
	return func(reg uint32) (expr.Any, uint32) { return &expr.Meta{Key: key, Register: reg}, reg + size/4 }
}

func l4proto() load { return meta(expr.MetaKeyL4PROTO, 4) }

// l4protoIs matches the protocol. Without it the kernel takes no port to translate to.
func l4protoIs(p uint8) rule {
	return rule{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: firstReg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: firstReg, Data: []byte{p}},
	}
}

// destPort is the destination port of TCP, UDP and SCTP, which have it at the same place.
func destPort() load { return transportLoad(2, 2) }

// originalPort is the destination port that the connection's first packet came with.
func originalPort() load {
	return func(reg uint32) (expr.Any, uint32) { return &expr.Ct{Key: expr.CtKeyPROTODST, Register: reg}, reg + 1 }
}

func etherSource() load { return payload(expr.PayloadBaseLLHeader, 6, 6) }

// inLink is the name of the link that a packet came in by.
func inLink() load { return meta(expr.MetaKeyIIFNAME, uint32(ifname.size())) }

func etherType(number uint16) rule {
	return rule{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: firstReg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: firstReg, Data: binary.BigEndian.AppendUint16(nil, number)},
	}
}

// equals matches if what is loaded is just that.
func equals(l load, data []byte) rule {
	return append(loadAll(l), &expr.Cmp{Op: expr.CmpOpEq, Register: firstReg, Data: data})
}

// networkLoad loads a field from behind the link's header, transportLoad so many bytes from behind IP's.
func networkLoad(offset uint32, f field) load {
	return payload(expr.PayloadBaseNetworkHeader, offset, uint32(f.bytes()))
}

func transportLoad(offset, size uint32) load {
	return payload(expr.PayloadBaseTransportHeader, offset, size)
}

func payload(base expr.PayloadBase, offset, size uint32) load {
	return func(reg uint32) (expr.Any, uint32) {
		return &expr.Payload{OperationType: expr.PayloadLoad, DestRegister: reg, Base: base, Offset: offset, Len: size}, reg + uint32(padded(int(size)))/4
	}
}

// loadAll loads the parts one behind the other.
func loadAll(parts ...load) (out rule) {
	reg := uint32(firstReg)
	for _, p := range parts {
		var e expr.Any
		e, reg = p(reg)
		out = append(out, e)
	}
	return out
}

// in matches if the parts are in the set; notIn, if they are not.
func in(set string, parts ...load) rule {
	return append(loadAll(parts...), &expr.Lookup{SourceRegister: firstReg, SetName: set})
}

func notIn(set string, parts ...load) rule {
	return append(loadAll(parts...), &expr.Lookup{SourceRegister: firstReg, SetName: set, Invert: true})
}

// vmap goes where the verdict map says.
func vmap(set string, parts ...load) rule {
	const verdict = unix.NFT_REG_VERDICT
	return append(loadAll(parts...), &expr.Lookup{SourceRegister: firstReg, SetName: set, DestRegister: verdict, IsDestRegSet: true})
}

// dnat leads the connection to the address and port in the registers from the first on.
func (f family) dnat() rule {
	return rule{&expr.NAT{
		Type: expr.NATTypeDestNAT, Family: uint32(f.number),
		RegAddrMin: firstReg, RegProtoMin: firstReg + uint32(f.addr.size())/4,
	}}
}

func (f family) dnatByMap(set string, parts ...load) rule {
	look := &expr.Lookup{SourceRegister: firstReg, SetName: set, DestRegister: firstReg, IsDestRegSet: true}
	return join(loadAll(parts...), rule{look}, f.dnat())
}

func (f family) dnatTo(addr netip.Addr, port uint16) rule {
	return join(rule{
		&expr.Immediate{Register: firstReg, Data: addr.AsSlice()},
		&expr.Immediate{Register: firstReg + uint32(f.addr.size())/4, Data: binary.BigEndian.AppendUint16(nil, port)},
	}, f.dnat())
}

// within matches an address of the prefix, or with the other operator one outside.
func (f family) within(op expr.CmpOp, offset uint32, prefix netip.Prefix) rule {
	prefix = prefix.Masked()
	load, _ := f.address(offset)(firstReg)
	cmp := &expr.Cmp{Op: op, Register: firstReg, Data: prefix.Addr().AsSlice()}
	if prefix.IsSingleIP() {
		return rule{load, cmp}
	}
	size := f.addr.size()
	return rule{load, &expr.Bitwise{
		SourceRegister: firstReg, DestRegister: firstReg, Len: uint32(size),
		Mask: net.CIDRMask(prefix.Bits(), size*8), Xor: make([]byte, size),
	}, cmp}
}

// fromLink compares the name of the link that the packet came in by; a name that ends in "*" is the beginning of one.
func fromLink(op expr.CmpOp, name string) rule {
	data := packName(name)
	if n := len(name); n > 0 && name[n-1] == '*' {
		data = []byte(name[:n-1])
	}
	return rule{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: firstReg}, &expr.Cmp{Op: op, Register: firstReg, Data: data}}
}

// toThisHost matches packets to an address of the host.
func toThisHost() rule {
	return rule{
		&expr.Fib{Register: firstReg, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: firstReg, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
	}
}

// redirected matches connections whose destination has been translated.
func redirected() rule {
	const dstNAT = 1 << 5 // IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h
	return connection(expr.CtKeySTATUS, dstNAT)
}

// connection matches connections of which the conntrack field has one of the bits.
func connection(key expr.CtKey, bits uint32) rule {
	mask := binary.NativeEndian.AppendUint32(nil, bits)
	return rule{
		&expr.Ct{Key: key, Register: firstReg},
		&expr.Bitwise{SourceRegister: firstReg, DestRegister: firstReg, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: firstReg, Data: make([]byte, 4)},
	}
}

// Bits of a connection's state (linux/netfilter/nf_tables.h and nf_conntrack_common.h: NF_CT_STATE_BIT).
const (
	stateEstablished = 1 << 1
	stateRelated     = 1 << 2
	stateUntracked   = 1 << 6
)

// known matches packets of connections that are not new.
func known() rule { return connection(expr.CtKeySTATE, stateEstablished|stateRelated) }

func verdict(kind expr.VerdictKind, chain string) rule {
	return rule{&expr.Verdict{Kind: kind, Chain: chain}}
}

func jump(chain string) rule { return verdict(expr.VerdictJump, chain) }
func leave() rule            { return verdict(expr.VerdictReturn, "") }
func accept() rule           { return verdict(expr.VerdictAccept, "") }
func drop() rule             { return verdict(expr.VerdictDrop, "") }
func masquerade() rule       { return rule{&expr.Masq{}} }
func counter() rule          { return rule{&expr.Counter{}} }
