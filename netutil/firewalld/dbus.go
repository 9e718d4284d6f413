package firewalld

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// This file is as much of D-Bus (dbus.freedesktop.org/doc/dbus-specification.html) as calls with texts need that answer a text or a list of
// texts. The library for it, godbus, would add 740 kB to the executable, and to each start 22 allocations.

// bus is a connection to a message bus. Not safe for concurrent use.
type bus struct {
	*os.File
	serial uint32
}

// dialBus connects to the bus at a Unix socket. All that is done there must be done in time, and before ctx ends.
func dialBus(ctx context.Context, socket string, patience time.Duration) (b *bus, err error) {
	// A dialer of package net would bring with it all that looks up names.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	conn := os.NewFile(uintptr(fd), socket)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		return nil, errors.Join(&os.PathError{Op: "connect", Path: socket, Err: err}, conn.Close())
	}
	b = &bus{File: conn}
	context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if err = conn.SetDeadline(time.Now().Add(patience)); err == nil {
		err = b.authenticate()
	}
	if err == nil {
		_, err = b.call(busName, "/org/freedesktop/DBus", busName, "Hello")
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return b, nil
}

const busName = "org.freedesktop.DBus"

// authenticate says who the process is, which the bus compares with what the kernel says.
func (b *bus) authenticate() error {
	uid := hex.EncodeToString([]byte(strconv.Itoa(os.Getuid())))
	if _, err := io.WriteString(b, "\x00AUTH EXTERNAL "+uid+"\r\n"); err != nil {
		return err
	}
	const longest = 1000 // bytes
	var line []byte
	for !strings.HasSuffix(string(line), "\r\n") {
		var c [1]byte
		if _, err := io.ReadFull(b, c[:]); err != nil {
			return err
		}
		if line = append(line, c[0]); len(line) > longest {
			break
		}
	}
	if !strings.HasPrefix(string(line), "OK ") {
		return fmt.Errorf("the bus refuses the user: %q", line)
	}
	_, err := io.WriteString(b, "BEGIN\r\n")
	return err
}

// busError is an error that the other side has answered.
type busError struct{ name, text string }

func (e *busError) Error() string { return e.name + ": " + e.text }

// Types of messages, and of the fields of their headers.
const (
	methodCall, methodReturn, errorReply = 1, 2, 3

	fieldPath, fieldInterface, fieldMember, fieldErrorName, fieldReplySerial, fieldDestination, fieldSignature = 1, 2, 3, 4, 5, 6, 8
)

// call calls a method with texts and returns the texts that it answers. An error that the other side answers is a *busError.
func (b *bus) call(destination, path, iface, member string, args ...string) ([]string, error) {
	b.serial++
	if _, err := b.Write(encodeCall(b.serial, destination, path, iface, member, args)); err != nil {
		return nil, err
	}
	for {
		m, err := readMessage(b)
		if err != nil {
			return nil, err
		}
		switch {
		case m.replyTo != b.serial: // a signal
		case m.kind == methodReturn:
			return m.texts()
		case m.kind == errorReply:
			texts, _ := m.texts()
			return nil, &busError{m.errorName, strings.Join(texts, " ")}
		}
	}
}

// encoder writes values in the order of bytes of little-endian machines, each aligned from the beginning of the message.
type encoder []byte

func (e *encoder) align(n int) {
	for len(*e)%n != 0 {
		*e = append(*e, 0)
	}
}

func (e *encoder) number(n uint32) {
	e.align(4)
	*e = binary.LittleEndian.AppendUint32(*e, n)
}

func (e *encoder) text(s string) {
	e.number(uint32(len(s)))
	*e = append(append(*e, s...), 0)
}

func (e *encoder) signature(s string) { *e = append(append(append(*e, byte(len(s))), s...), 0) }

// field writes a field of the header, whose value is a text of the type.
func (e *encoder) field(code byte, kind, value string) {
	e.align(8)
	*e = append(*e, code)
	e.signature(kind)
	if kind == "g" {
		e.signature(value)
	} else {
		e.text(value)
	}
}

func encodeCall(serial uint32, destination, path, iface, member string, args []string) []byte {
	const noAutoStart, version = 2, 1
	var body encoder
	for _, a := range args {
		body.text(a)
	}
	e := encoder{'l', methodCall, noAutoStart, version}
	e.number(uint32(len(body)))
	e.number(serial)
	e.number(0) // the size of the fields, which begin at a multiple of 8
	begin := len(e)
	e.field(fieldPath, "o", path)
	e.field(fieldInterface, "s", iface)
	e.field(fieldMember, "s", member)
	e.field(fieldDestination, "s", destination)
	if len(args) > 0 {
		e.field(fieldSignature, "g", strings.Repeat("s", len(args)))
	}
	binary.LittleEndian.PutUint32(e[begin-4:], uint32(len(e)-begin))
	e.align(8)
	return append(e, body...)
}

// received is a message from the bus.
type received struct {
	kind                 byte
	replyTo              uint32
	errorName, signature string
	body                 decoder
}

var errMalformed = errors.New("a malformed message came from the bus")

// readMessage reads one message.
func readMessage(r io.Reader) (m received, err error) {
	const fixed, most = 16, 16 << 20 // bytes
	head := make([]byte, fixed)
	if _, err := io.ReadFull(r, head); err != nil {
		return m, err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[0] == 'B' {
		order = binary.BigEndian
	}
	bodySize, fieldsSize := order.Uint32(head[4:]), order.Uint32(head[12:])
	if bodySize > most || fieldsSize > most {
		return m, errMalformed
	}
	padded := (fieldsSize + 7) &^ 7
	rest := make([]byte, padded+bodySize)
	if _, err := io.ReadFull(r, rest); err != nil {
		return m, err
	}
	m.kind = head[1]
	m.body = decoder{order: order, data: rest[padded:]}
	fields := decoder{order: order, data: rest[:fieldsSize]}
	for len(fields.data) > fields.at && !fields.bad {
		fields.align(8)
		code := fields.byte()
		switch kind := fields.signature(); kind {
		case "u":
			if n := fields.number(); code == fieldReplySerial {
				m.replyTo = n
			}
		case "s", "o":
			if s := fields.text(); code == fieldErrorName {
				m.errorName = s
			}
		case "g":
			if s := fields.signature(); code == fieldSignature {
				m.signature = s
			}
		default:
			return m, errMalformed
		}
	}
	if fields.bad {
		return m, errMalformed
	}
	return m, nil
}

// texts are those of the body; values of other types end them.
func (m *received) texts() (out []string, err error) {
	d, rest := m.body, m.signature
	for rest != "" && !d.bad {
		switch {
		case rest[0] == 's':
			out, rest = append(out, d.text()), rest[1:]
		case strings.HasPrefix(rest, "as"):
			end := int(d.number()) + d.at
			for d.at < end && !d.bad {
				out = append(out, d.text())
			}
			rest = rest[2:]
		default:
			return out, nil
		}
	}
	if d.bad {
		return nil, errMalformed
	}
	return out, nil
}

// decoder reads values.
type decoder struct {
	order binary.ByteOrder
	data  []byte
	at    int
	bad   bool // it would have had to read beyond the end
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.data)-d.at {
		d.bad = true
		return make([]byte, min(max(n, 0), 8))
	}
	d.at += n
	return d.data[d.at-n : d.at]
}

func (d *decoder) align(n int) {
	if over := d.at % n; over != 0 {
		d.take(n - over)
	}
}

func (d *decoder) byte() byte { return d.take(1)[0] }

func (d *decoder) number() uint32 {
	d.align(4)
	return d.order.Uint32(d.take(4))
}

func (d *decoder) text() string {
	s := string(d.take(int(d.number())))
	d.take(1) // NUL
	return s
}

func (d *decoder) signature() string {
	s := string(d.take(int(d.byte())))
	d.take(1)
	return s
}
