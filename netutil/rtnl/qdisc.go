package rtnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// This file holds queueing disciplines and their classes (linux/pkt_sched.h). A handle is two numbers of 16 bits, as tc(8) writes them with a
// colon between.

// RootQdisc is the handle of the discipline that this package puts at a link's root. It is unlike what people choose, so that DEL knows it
// again. IngressQdisc is that of a link's ingress.
const (
	RootQdisc    = 0xcb00 << 16
	ShapedClass  = RootQdisc | 1
	IngressQdisc = 0xffff << 16
)

// What linux/pkt_sched.h and linux/rtnetlink.h have beyond package unix.
const (
	headerOfTraffic = 20         // struct tcmsg
	atRoot          = 0xffffffff // TC_H_ROOT
	atIngress       = 0xfffffff1 // TC_H_INGRESS
	traKind         = 1          // TCA_KIND
	traOptions      = 2          // TCA_OPTIONS
	tbfParms        = 1          // TCA_TBF_PARMS
	tbfRate64       = 4          // TCA_TBF_RATE64
	tbfBurst        = 6          // TCA_TBF_BURST
	htbParms        = 1          // TCA_HTB_PARMS
	htbInit         = 2          // TCA_HTB_INIT
	htbRate64       = 6          // TCA_HTB_RATE64
	htbCeil64       = 7          // TCA_HTB_CEIL64
	ethernet        = 1          // TC_LINKLAYER_ETHERNET
	sizeOfRate      = 12         // struct tc_ratespec
	// Tick is the unit of struct tc_tbf_qopt's times in nanoseconds (PSCHED_SHIFT).
	Tick = 64
)

// Qdisc is a queueing discipline, or a class of one, as the kernel tells of it.
type Qdisc struct {
	Link           int
	Handle, Parent uint32
	Kind           string // "tbf"
	Rate           uint64 // of tbf and of a class of htb; bytes per second
	Buffer         uint32 // of the same, in ticks
}

// Shape is how fast a link may send.
type Shape struct {
	Rate, Burst uint64 // bytes per second, bytes
	Limit       uint32 // bytes that may wait
}

// traffic is a request about a link's discipline, class or filter.
func traffic(kind, flags uint16, link int, handle, parent, info uint32, name string, options func(*rawnl.Attrs)) rawnl.Message {
	b := make([]byte, headerOfTraffic)
	binary.NativeEndian.PutUint32(b[4:], uint32(link))
	binary.NativeEndian.PutUint32(b[8:], handle)
	binary.NativeEndian.PutUint32(b[12:], parent)
	binary.NativeEndian.PutUint32(b[16:], info)
	var a rawnl.Attrs
	if name != "" {
		a.Text(traKind, name)
	}
	if options != nil {
		a.Nested(traOptions, options)
	}
	return rawnl.Message{Type: kind, Flags: flags, Body: append(b, a...)}
}

const createNew = unix.NLM_F_CREATE | unix.NLM_F_EXCL

// NewTBF puts a token bucket filter at a link's root (tc-tbf(8)). The kernel answers unix.EEXIST if somebody has put a discipline there.
func NewTBF(link int, s Shape) rawnl.Message {
	return traffic(unix.RTM_NEWQDISC, createNew, link, RootQdisc, atRoot, 0, "tbf", func(a *rawnl.Attrs) {
		parms := append(rateSpec(s.Rate), make([]byte, sizeOfRate)...)
		for _, n := range []uint32{s.Limit, 0, 0} { // the buffer follows from the burst
			parms = binary.NativeEndian.AppendUint32(parms, n)
		}
		a.Bytes(tbfParms, parms)
		a.Uint32(tbfBurst, uint32(s.Burst))
		if s.Rate > 1<<32-1 {
			a.Bytes(tbfRate64, binary.NativeEndian.AppendUint64(nil, s.Rate))
		}
	})
}

// NewHTB puts a hierarchical token bucket (tc-htb(8)) at a link's root. What no filter sends elsewhere goes to the class ShapedClass, or past
// all classes.
func NewHTB(link int, shapeAll bool) rawnl.Message {
	return traffic(unix.RTM_NEWQDISC, createNew, link, RootQdisc, atRoot, 0, "htb", func(a *rawnl.Attrs) {
		const version, rate2quantum = 3, 10
		var class uint32
		if shapeAll {
			class = ShapedClass &^ RootQdisc
		}
		var glob []byte
		for _, n := range []uint32{version, rate2quantum, class, 0, 0} {
			glob = binary.NativeEndian.AppendUint32(glob, n)
		}
		a.Bytes(htbInit, glob)
	})
}

// NewHTBClass makes the class ShapedClass. The kernel counts its burst in time, of which it has up to 274 s.
func NewHTBClass(link int, s Shape) rawnl.Message {
	return traffic(unix.RTM_NEWTCLASS, createNew, link, ShapedClass, RootQdisc, 0, "htb", func(a *rawnl.Attrs) {
		const quantum = 60000 // bytes; of no meaning for a single class, but the kernel warns of what it derives itself
		buffer := uint32(min(Ticks(s), 1<<32-1))
		parms := append(rateSpec(s.Rate), rateSpec(s.Rate)...)
		for _, n := range []uint32{buffer, buffer, quantum, 0, 0} {
			parms = binary.NativeEndian.AppendUint32(parms, n)
		}
		a.Bytes(htbParms, parms)
		if s.Rate > 1<<32-1 {
			rate := binary.NativeEndian.AppendUint64(nil, s.Rate)
			a.Bytes(htbRate64, rate)
			a.Bytes(htbCeil64, rate)
		}
	})
}

// Ticks is how long the burst takes at the rate, in ticks.
func Ticks(s Shape) uint64 {
	return uint64(float64(s.Burst) / float64(s.Rate) * 1e9 / Tick)
}

// NewFIFO has packets wait in a plain queue below the class.
func NewFIFO(link int, s Shape) rawnl.Message {
	m := traffic(unix.RTM_NEWQDISC, createNew, link, 0, ShapedClass, 0, "bfifo", nil)
	a := rawnl.Attrs{}
	a.Bytes(traOptions, binary.NativeEndian.AppendUint32(nil, s.Limit))
	m.Body = append(m.Body, a...)
	return m
}

// NewFairQueue has packets wait in a queue for each flow, which drops early (tc-fq_codel(8)), below the class. The one class of tbf has the
// number of ShapedClass as well.
func NewFairQueue(link int) rawnl.Message {
	return traffic(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, link, 0, ShapedClass, 0, "fq_codel", nil)
}

// NewIngress lets filters see what a link receives.
func NewIngress(link int) rawnl.Message {
	return traffic(unix.RTM_NEWQDISC, createNew, link, IngressQdisc, atIngress, 0, "ingress", nil)
}

// DelQdisc removes the discipline at a link's root, with all below it, if it has the handle.
func DelQdisc(link int, handle uint32) rawnl.Message {
	return traffic(unix.RTM_DELQDISC, 0, link, handle, atRoot, 0, "", nil)
}

// DelIngress removes the ingress discipline.
func DelIngress(link int) rawnl.Message {
	return traffic(unix.RTM_DELQDISC, 0, link, IngressQdisc, atIngress, 0, "ingress", nil)
}

// GetRoot asks for the discipline at a link's root. The kernel tells all who listen, and who has asked only with NLM_F_ECHO.
func GetRoot(link int) rawnl.Message {
	return traffic(unix.RTM_GETQDISC, unix.NLM_F_ECHO, link, 0, atRoot, 0, "", nil)
}

// GetQdiscs asks for the disciplines of all links.
func GetQdiscs() rawnl.Message {
	return rawnl.Message{Type: unix.RTM_GETQDISC, Flags: unix.NLM_F_DUMP, Body: make([]byte, headerOfTraffic)}
}

// GetChild asks for the discipline below ShapedClass.
func GetChild(link int) rawnl.Message {
	return traffic(unix.RTM_GETQDISC, unix.NLM_F_ECHO, link, 0, ShapedClass, 0, "", nil)
}

// GetClass asks for ShapedClass.
func GetClass(link int) rawnl.Message {
	return traffic(unix.RTM_GETTCLASS, unix.NLM_F_ECHO, link, ShapedClass, RootQdisc, 0, "", nil)
}

// rateSpec is a struct tc_ratespec.
func rateSpec(rate uint64) []byte {
	b := make([]byte, sizeOfRate)
	b[1] = ethernet
	binary.NativeEndian.PutUint32(b[8:], uint32(min(rate, 1<<32-1)))
	return b
}

// ParseQdisc reads an answer to GetRoot, GetQdiscs, GetChild or GetClass; nil if it is none.
func ParseQdisc(b []byte) *Qdisc {
	if len(b) < headerOfTraffic {
		return nil
	}
	q := &Qdisc{
		Link: int(binary.NativeEndian.Uint32(b[4:])), Handle: binary.NativeEndian.Uint32(b[8:]), Parent: binary.NativeEndian.Uint32(b[12:]),
		Kind: rawnl.String(rawnl.Find(b[headerOfTraffic:], traKind)),
	}
	options := rawnl.Find(b[headerOfTraffic:], traOptions)
	var parms, rate64 []byte
	buffer := 0
	switch q.Kind {
	case "tbf":
		parms, rate64, buffer = rawnl.Find(options, tbfParms), rawnl.Find(options, tbfRate64), 2*sizeOfRate+4
	case "htb":
		parms, rate64, buffer = rawnl.Find(options, htbParms), rawnl.Find(options, htbRate64), 2*sizeOfRate
	}
	if len(parms) >= buffer+4 && buffer > 0 {
		q.Rate = uint64(binary.NativeEndian.Uint32(parms[8:]))
		q.Buffer = binary.NativeEndian.Uint32(parms[buffer:])
	}
	if len(rate64) == 8 {
		q.Rate = binary.NativeEndian.Uint64(rate64)
	}
	return q
}
