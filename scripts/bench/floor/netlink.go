package main

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// message is a netlink message under construction.
type message []byte

func newMessage(kind, flags int, header ...byte) message {
	m := make(message, unix.NLMSG_HDRLEN, 256)
	binary.NativeEndian.PutUint16(m[4:], uint16(kind))
	binary.NativeEndian.PutUint16(m[6:], uint16(unix.NLM_F_REQUEST|flags))
	return append(m, header...)
}

func (m *message) attr(kind int, value ...byte) {
	at := m.begin(kind)
	*m = append(*m, value...)
	m.end(at)
}

func (m *message) begin(kind int) (at int) {
	at = len(*m)
	*m = append(*m, 0, 0, byte(kind), byte(kind>>8))
	return at
}

func (m *message) end(at int) {
	binary.NativeEndian.PutUint16((*m)[at:], uint16(len(*m)-at))
	*m = append(*m, make([]byte, -len(*m)&3)...)
}

func u32(n int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }

func cString(text string) []byte { return append([]byte(text), 0) }

// ifInfo is the header of a link's message.
func ifInfo(index, flags int) []byte {
	h := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(h[4:], uint32(index))
	binary.NativeEndian.PutUint32(h[8:], uint32(flags))
	binary.NativeEndian.PutUint32(h[12:], uint32(flags))
	return h
}

// socket is a netlink socket. It stays in the network namespace in which it was opened.
type socket int

func open(protocol int) (socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return 0, errors.New("socket: " + err.Error())
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		return 0, errors.New("setsockopt: " + err.Error())
	}
	return socket(fd), nil
}

// do sends all messages at once and awaits the answers of those that ask for one.
func (s socket) do(messages ...message) error {
	var all []byte
	waiting := 0
	for _, m := range messages {
		binary.NativeEndian.PutUint32(m, uint32(len(m)))
		if binary.NativeEndian.Uint16(m[6:])&unix.NLM_F_ACK != 0 {
			waiting++
		}
		all = append(all, m...)
	}
	if err := unix.Sendto(int(s), all, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return errors.New("send: " + err.Error())
	}
	return s.await(waiting)
}

func (s socket) await(answers int) error {
	buf := make([]byte, 8192)
	for answers > 0 {
		n, _, err := unix.Recvfrom(int(s), buf, 0)
		if err != nil {
			return errors.New("receive: " + err.Error())
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN+4; b = b[(binary.NativeEndian.Uint32(b)+3)&^3:] {
			if binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR {
				continue
			}
			answers--
			if code := int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])); code != 0 {
				return unix.Errno(-code)
			}
		}
	}
	return nil
}

// index asks the socket's namespace for a link, which is cheaper than a netlink request.
func (s socket) index(name string) (int, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(int(s), unix.SIOCGIFINDEX, req); err != nil {
		return 0, err
	}
	return int(req.Uint32()), nil
}
