package netutil

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rawnl"
)

// flow is a UDP flow in the kernel's connection tracking.
type flow struct {
	from, to netip.AddrPort // as its first packet had them
	answer   netip.AddrPort // where answers come from: to, unless the flow was led elsewhere
	raw      []byte         // as the kernel told it, with the ID that makes sure that no later flow is meant
}

// Connection tracking's own numbers (linux/netfilter/nfnetlink_conntrack.h, and nf_internals.h for the bits).
const (
	headerOfFlow = 4 // struct nfgenmsg
	ctGet        = 1 // IPCTNL_MSG_CT_GET
	ctDelete     = 2 // IPCTNL_MSG_CT_DELETE

	ctTupleOrig       = 1      // CTA_TUPLE_ORIG
	ctTupleReply      = 2      // CTA_TUPLE_REPLY
	ctTupleIP         = 1      // CTA_TUPLE_IP
	ctTupleProto      = 2      // CTA_TUPLE_PROTO
	ctIPv4Src         = 1      // CTA_IP_V4_SRC
	ctIPv4Dst         = 2      // CTA_IP_V4_DST
	ctIPv6Src         = 3      // CTA_IP_V6_SRC
	ctIPv6Dst         = 4      // CTA_IP_V6_DST
	ctProtoNum        = 1      // CTA_PROTO_NUM
	ctProtoSrcPort    = 2      // CTA_PROTO_SRC_PORT
	ctProtoDstPort    = 3      // CTA_PROTO_DST_PORT
	ctFilter          = 25     // CTA_FILTER
	ctFilterOrigFlags = 1      // CTA_FILTER_ORIG_FLAGS
	ctFilterProtoNum  = 1 << 3 // compare CTA_PROTO_NUM
	ctFilterDstPort   = 1 << 5 // compare CTA_PROTO_DST_PORT
)

// deleteFlows deletes the UDP flows of a family that match. Only flows to the port are looked at, unless that is 0. The kernel filters,
// since a busy node has hundreds of thousands of flows; one that is too old to do so lists them all.
func deleteFlows(n *Namespace, family int, port uint16, match func(*flow) bool) error {
	sock, err := n.socket(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer sock.Close()
	all, err := listFlows(sock, family, port)
	if err != nil {
		return err
	}
	var flows []*flow
	var messages []rawnl.Message
	for _, raw := range all {
		if f, ok := parseFlow(raw); ok && match(f) {
			flows = append(flows, f)
			messages = append(messages, flowMessage(ctDelete, 0, family, f.raw[headerOfFlow:]))
		}
	}
	const atOnce = 200
	var errs []error
	for len(messages) > 0 {
		some := min(len(messages), atOnce)
		answers, err := sock.Exchange(messages[:some]...)
		if err != nil {
			return errcode.Errorf(errcode.Kernel, "delete UDP flows: %w", err)
		}
		for i, a := range answers {
			if ignore(a.Err, unix.ENOENT) != nil {
				errs = append(errs, errcode.Errorf(errcode.Kernel, "delete the UDP flow from %s to %s: %w", flows[i].from, flows[i].to, a.Err))
			}
		}
		messages, flows = messages[some:], flows[some:]
	}
	return errors.Join(errs...)
}

// flowMessage is a request to the kernel's connection tracking.
func flowMessage(operation, flags, family int, attrs []byte) rawnl.Message {
	const subsystem = 1 << 8 // NFNL_SUBSYS_CTNETLINK
	return rawnl.Message{
		Type: uint16(subsystem | operation), Flags: uint16(flags),
		Body: append([]byte{byte(family), unix.NFNETLINK_V0, 0, 0}, attrs...),
	}
}

// listFlows are the UDP flows of a family; none if the kernel has no nf_conntrack_netlink, so that nobody can delete them.
func listFlows(sock *rawnl.Socket, family int, port uint16) ([][]byte, error) {
	var a rawnl.Attrs
	flags := uint32(ctFilterProtoNum)
	a.Nested(ctTupleOrig, func(a *rawnl.Attrs) {
		a.Nested(ctTupleProto, func(a *rawnl.Attrs) {
			a.Uint8(ctProtoNum, unix.IPPROTO_UDP)
			if port != 0 {
				a.Bytes(ctProtoDstPort, binary.BigEndian.AppendUint16(nil, port))
				flags |= ctFilterDstPort
			}
		})
	})
	a.Nested(ctFilter, func(a *rawnl.Attrs) { a.Uint32(ctFilterOrigFlags, flags) })
	got, err := rawnl.Dump(sock.Exchange, flowMessage(ctGet, unix.NLM_F_DUMP, family, a))
	switch {
	case err != nil:
		return nil, errcode.Errorf(errcode.Kernel, "list UDP flows: %w", err)
	case got.Interrupted:
		return nil, errcode.Errorf(errcode.TryAgainLater, "list UDP flows: they change faster than they can be listed")
	case isOneOf(got.Err, unix.EINVAL, unix.EOPNOTSUPP):
		return nil, nil
	case got.Err != nil:
		return nil, errcode.Errorf(errcode.Kernel, "list UDP flows: %w", got.Err)
	}
	return got.Bodies, nil
}

// parseFlow reads a flow as the kernel tells it; ok is false if it is none of UDP.
func parseFlow(raw []byte) (f *flow, ok bool) {
	if len(raw) < headerOfFlow {
		return nil, false
	}
	f = &flow{raw: raw}
	attrs := raw[headerOfFlow:]
	sent, answered := rawnl.Find(attrs, ctTupleOrig), rawnl.Find(attrs, ctTupleReply)
	if number := rawnl.Find(rawnl.Find(sent, ctTupleProto), ctProtoNum); len(number) != 1 || number[0] != unix.IPPROTO_UDP {
		return nil, false
	}
	f.from = endOf(sent, ctIPv4Src, ctIPv6Src, ctProtoSrcPort)
	f.to = endOf(sent, ctIPv4Dst, ctIPv6Dst, ctProtoDstPort)
	f.answer = endOf(answered, ctIPv4Src, ctIPv6Src, ctProtoSrcPort)
	return f, true
}

// endOf is one end of a tuple.
func endOf(tuple []byte, v4, v6, port uint16) netip.AddrPort {
	ip := rawnl.Find(tuple, ctTupleIP)
	value := rawnl.Find(ip, v4)
	if value == nil {
		value = rawnl.Find(ip, v6)
	}
	addr, _ := netip.AddrFromSlice(value)
	number := rawnl.Find(rawnl.Find(tuple, ctTupleProto), port)
	if len(number) != 2 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(number))
}
