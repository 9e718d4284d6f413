// Package rawnl exchanges netlink messages with the kernel: several at once, over a plain socket.
//
// The netlink libraries wait for each answer before they send the next request, and their sockets go by way of the Go runtime's
// poller. In a process that lives for a few milliseconds that is what an attachment spends its time on, so what every ADD and DEL does
// goes through here: encoded by hand, sent together, answered together (netlink(7), linux/netlink.h).
package rawnl

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/trace"
)

// Socket is a netlink socket in one network namespace. Not safe for concurrent use.
type Socket struct {
	fd   int
	name string // of the protocol, for traces
	seq  uint32
	buf  []byte
}

const netfilter = "netfilter"

// protocolName is what a protocol is called in a trace.
func protocolName(protocol int) string {
	switch protocol {
	case unix.NETLINK_ROUTE:
		return "route"
	case unix.NETLINK_NETFILTER:
		return netfilter
	}
	return ""
}

const (
	// receiveBuffer holds what the kernel puts into one datagram of a dump (NLMSG_GOODSIZE times what it finds a reader able to take: 32 KiB).
	receiveBuffer = 64 << 10
	// socketBuffer is the size of the socket's own buffers in bytes. What is sent together must fit, and so must all its answers.
	socketBuffer = 8 << 20
	// patience bounds the wait for an answer that never comes, in seconds.
	patience = 30
)

// Open opens a socket of the netlink protocol in the network namespace of the calling thread.
func Open(protocol int) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &Socket{fd: fd, name: protocolName(protocol)}
	limit := unix.Timeval{Sec: patience}
	err = errors.Join(
		os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})),
		os.NewSyscallError("setsockopt", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)),
		s.growBuffer(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF), s.growBuffer(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF),
	)
	if err != nil {
		s.Close()
		return nil, err
	}
	// With strict checks the kernel filters dumps as they ask; without, it gives all. Kernels before 4.20 do not know them.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	// An error need not bring the request back.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return s, nil
}

// growBuffer goes beyond the system's limit where it may.
func (s *Socket) growBuffer(force, polite int) error {
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, force, socketBuffer) == nil {
		return nil
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, polite, socketBuffer))
}

// Namespace is a number that tells the socket's network namespace from all others until the machine is started anew; 0 on kernels before
// 5.14, which have none.
func (s *Socket) Namespace() uint64 {
	number, err := unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return number
}

// Close gives the socket back. It may be called on nil.
func (s *Socket) Close() {
	if s != nil && s.fd >= 0 {
		_ = unix.Close(s.fd)
		s.fd = -1
	}
}

// Message is a request.
type Message struct {
	Type  uint16
	Flags uint16 // besides NLM_F_REQUEST; NLM_F_DUMP asks for a list
	Body  []byte // what comes behind the netlink header
	// Silent asks for no acknowledgement, as the frame of a batch has none. Only an error is answered.
	Silent bool
}

// Answer is what the kernel says to a message.
type Answer struct {
	Bodies [][]byte // each without its netlink header
	Err    error    // a unix.Errno
	// Interrupted marks a dump during which its table was changed (NLM_F_DUMP_INTR): it must be repeated.
	Interrupted bool
	done        bool
}

// Exchange sends the messages together and returns the answer to each. The error is the socket's: then what the kernel has done is not
// known, and the socket is of no more use. unix.ENOBUFS says that it has done all, but that answers were lost.
func (s *Socket) Exchange(messages ...Message) ([]Answer, error) {
	defer trace.Start("netlink", "", s.name).Counted(len(messages)).End()
	first := s.seq + 1
	var out []byte
	for _, m := range messages {
		s.seq++
		out = m.encode(out, s.seq)
	}
	if err := s.send(out); err != nil {
		return nil, err
	}
	answers := make([]Answer, len(messages))
	open := 0
	for i, m := range messages {
		answers[i].done = m.Silent
		if !m.Silent {
			open++
		}
	}
	for open > 0 {
		closed, err := s.receive(answers, first)
		if err != nil {
			return nil, err
		}
		open -= closed
		if s.name == netfilter && errors.Is(answers[0].Err, unix.EPERM) {
			refuse(answers)
			break
		}
	}
	return answers, nil
}

// refuse gives all the answer that the first has got: who may not change the packet filter is told once, whatever he has sent with it.
func refuse(answers []Answer) {
	for i := range answers {
		answers[i] = Answer{Err: answers[0].Err, done: true}
	}
}

// dumpTries bounds the repeats of a dump.
const dumpTries = 64

// Dump asks for a list, by a Socket's Exchange or what stands for it, as often as it takes to get one that nobody changed meanwhile. An
// answer that is Interrupted all the same says that the table changes faster than it can be listed.
func Dump(exchange func(...Message) ([]Answer, error), m Message) (a Answer, err error) {
	for range dumpTries {
		answers, err := exchange(m)
		if err != nil {
			return Answer{}, err
		}
		a = answers[0]
		a.Interrupted = a.Interrupted || errors.Is(a.Err, unix.EINTR)
		if !a.Interrupted {
			break
		}
	}
	return a, nil
}

// Browse sends one message and shows the answer's bodies to look, until that has seen enough. The socket is of no more use unless the
// answer is complete: the rest of it, however long, has not been read.
func (s *Socket) Browse(m Message, look func(body []byte) (more bool)) (answer Answer, complete bool, err error) {
	s.seq++
	if err := s.send(m.encode(nil, s.seq)); err != nil {
		return answer, false, err
	}
	for {
		answers := make([]Answer, 1)
		closed, err := s.receive(answers, s.seq)
		if err != nil {
			return answers[0], false, err
		}
		for _, body := range answers[0].Bodies {
			if !look(body) {
				return answers[0], false, nil
			}
		}
		if closed > 0 {
			return answers[0], true, nil
		}
	}
}

func (m *Message) encode(out []byte, seq uint32) []byte {
	flags := m.Flags | unix.NLM_F_REQUEST
	if !m.Silent && m.Flags&unix.NLM_F_DUMP != unix.NLM_F_DUMP { // a dump says itself that it is done
		flags |= unix.NLM_F_ACK
	}
	out = binary.NativeEndian.AppendUint32(out, uint32(unix.SizeofNlMsghdr+len(m.Body)))
	out = binary.NativeEndian.AppendUint16(out, m.Type)
	out = binary.NativeEndian.AppendUint16(out, flags)
	out = binary.NativeEndian.AppendUint32(out, seq)
	out = binary.NativeEndian.AppendUint32(out, 0)
	return pad(append(out, m.Body...))
}

func (s *Socket) send(b []byte) error {
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err != unix.EINTR {
			return os.NewSyscallError("sendto", err)
		}
	}
}

// receive reads one datagram into the answers to messages from the number first on, and counts those that are complete with it.
func (s *Socket) receive(answers []Answer, first uint32) (closed int, err error) {
	if s.buf == nil {
		s.buf = make([]byte, receiveBuffer)
	}
	n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
	if err == unix.EINTR {
		return 0, nil
	}
	if err != nil {
		return 0, os.NewSyscallError("recvfrom", err)
	}
	for b := s.buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return closed, os.NewSyscallError("recvfrom", unix.EBADMSG)
		}
		kind, flags := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
		if i := binary.NativeEndian.Uint32(b[8:]) - first; i < uint32(len(answers)) {
			a := &answers[i]
			if a.take(kind, flags, b[unix.SizeofNlMsghdr:size]) && !a.done {
				a.done = true
				closed++
			}
		}
		b = b[min(padded(size), len(b)):]
	}
	return closed, nil
}

// take adds one message to the answer, and tells whether it is the last.
func (a *Answer) take(kind, flags uint16, body []byte) (last bool) {
	a.Interrupted = a.Interrupted || flags&unix.NLM_F_DUMP_INTR != 0
	switch kind {
	case unix.NLMSG_ERROR, unix.NLMSG_DONE:
		if len(body) >= 4 {
			if errno := -int32(binary.NativeEndian.Uint32(body)); errno > 0 && a.Err == nil {
				a.Err = unix.Errno(errno)
			}
		}
		return true
	case unix.NLMSG_NOOP, unix.NLMSG_OVERRUN:
		return false
	}
	a.Bodies = append(a.Bodies, append([]byte(nil), body...))
	return false
}

func padded(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

func pad(b []byte) []byte {
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}
