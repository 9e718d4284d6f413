package netutil

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// flow is a UDP flow in the kernel's connection tracking.
type flow struct {
	from, to netip.AddrPort // as its first packet had them
	answer   netip.AddrPort // where answers come from: to, unless the flow was led elsewhere
	raw      []byte         // as the kernel told it, with the ID that makes sure that no later flow is meant
}

// What the library has no names for (linux/netfilter/nfnetlink_conntrack.h, and nf_internals.h for the bits).
const (
	ctFilter          = 25     // CTA_FILTER
	ctFilterOrigFlags = 1      // CTA_FILTER_ORIG_FLAGS
	ctFilterProtoNum  = 1 << 3 // compare CTA_PROTO_NUM
	ctFilterDstPort   = 1 << 5 // compare CTA_PROTO_DST_PORT
)

// deleteFlows deletes the UDP flows of a family that match. Only flows to the port are looked at, unless that is 0. The kernel filters,
// since a busy node has hundreds of thousands of flows; one that is too old to do so lists them all.
func deleteFlows(n *Namespace, family int, port uint16, match func(*flow) bool) error {
	sock, err := openSocket(n, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer sock.Close()
	c := &conntrack{family: family, socket: map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: sock}}}
	all, err := Dump("UDP flows", func() ([][]byte, error) { return c.list(port) })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // the kernel has no nf_conntrack_netlink, so nobody can delete flows
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, raw := range all {
		if f, ok := parseFlow(raw); ok && match(f) {
			if err := ignore(c.delete(f), unix.ENOENT); err != nil {
				errs = append(errs, errcode.Errorf(errcode.Kernel, "delete the UDP flow from %s to %s: %w", f.from, f.to, err))
			}
		}
	}
	return errors.Join(errs...)
}

// conntrack is a socket to the kernel's connection tracking.
type conntrack struct {
	family int
	socket map[int]*nl.SocketHandle
}

func (c *conntrack) request(operation, flags int) *nl.NetlinkRequest {
	const subsystem = 1 << 8 // NFNL_SUBSYS_CTNETLINK
	req := nl.NewNetlinkRequest(subsystem|operation, flags)
	req.Sockets = c.socket
	req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(c.family), Version: nl.NFNETLINK_V0})
	return req
}

func (c *conntrack) list(port uint16) ([][]byte, error) {
	proto := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
	proto.AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_UDP})
	flags := uint32(ctFilterProtoNum)
	if port != 0 {
		proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, nl.BEUint16Attr(port))
		flags |= ctFilterDstPort
	}
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, nil)
	tuple.AddChild(proto)
	filter := nl.NewRtAttr(unix.NLA_F_NESTED|ctFilter, nil)
	filter.AddRtAttr(ctFilterOrigFlags, nl.Uint32Attr(flags))
	req := c.request(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
	req.AddData(tuple)
	req.AddData(filter)
	return req.Execute(unix.NETLINK_NETFILTER, 0)
}

func (c *conntrack) delete(f *flow) error {
	req := c.request(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	req.AddRawData(f.raw[nl.SizeofNfgenmsg:])
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

// parseFlow reads a flow as the kernel tells it; ok is false if it is none of UDP.
func parseFlow(raw []byte) (f *flow, ok bool) {
	if len(raw) < nl.SizeofNfgenmsg {
		return nil, false
	}
	f = &flow{raw: raw}
	attrs := raw[nl.SizeofNfgenmsg:]
	sent, answered := nested(attrs, nl.CTA_TUPLE_ORIG), nested(attrs, nl.CTA_TUPLE_REPLY)
	if number := nested(nested(sent, nl.CTA_TUPLE_PROTO), nl.CTA_PROTO_NUM); len(number) != 1 || number[0] != unix.IPPROTO_UDP {
		return nil, false
	}
	f.from = endOf(sent, nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC, nl.CTA_PROTO_SRC_PORT)
	f.to = endOf(sent, nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST, nl.CTA_PROTO_DST_PORT)
	f.answer = endOf(answered, nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC, nl.CTA_PROTO_SRC_PORT)
	return f, true
}

// endOf is one end of a tuple.
func endOf(tuple []byte, v4, v6, port uint16) netip.AddrPort {
	ip := nested(tuple, nl.CTA_TUPLE_IP)
	value := nested(ip, v4)
	if value == nil {
		value = nested(ip, v6)
	}
	addr, _ := netip.AddrFromSlice(value)
	number := nested(nested(tuple, nl.CTA_TUPLE_PROTO), port)
	if len(number) != 2 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(number))
}
