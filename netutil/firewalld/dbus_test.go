package firewalld

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// answer is a message as a bus sends it, of the signature and with the texts.
func answer(order binary.AppendByteOrder, kind byte, replyTo uint32, errorName, signature string, body []byte) []byte {
	var fields encoder
	fields = append(fields, fieldReplySerial, 1, 'u', 0)
	fields = order.AppendUint32(fields, replyTo)
	text := func(code, kind byte, value string) {
		fields.align(8)
		fields = append(fields, code, 1, kind, 0)
		if kind == 'g' {
			fields = append(fields, byte(len(value)))
		} else {
			fields = order.AppendUint32(fields, uint32(len(value)))
		}
		fields = append(append(fields, value...), 0)
	}
	if errorName != "" {
		text(fieldErrorName, 's', errorName)
	}
	text(fieldSignature, 'g', signature)
	m := []byte{map[string]byte{"BigEndian": 'B', "LittleEndian": 'l'}[order.String()], kind, 0, 1}
	m = order.AppendUint32(m, uint32(len(body)))
	m = order.AppendUint32(m, 7)
	m = order.AppendUint32(m, uint32(len(fields)))
	fields.align(8)
	return append(append(m, fields...), body...)
}

func TestMessages(t *testing.T) {
	t.Parallel()
	list := []byte("\x0c\x00\x00\x00\x01\x00\x00\x00a\x00\x00\x00\x00\x00\x00\x00")
	for name, c := range map[string]struct {
		message []byte
		want    []string
	}{
		"text":            {answer(binary.LittleEndian, methodReturn, 3, "", "s", []byte("\x02\x00\x00\x00hi\x00")), []string{"hi"}},
		"big-endian text": {answer(binary.BigEndian, methodReturn, 3, "", "s", []byte("\x00\x00\x00\x02hi\x00")), []string{"hi"}},
		"list":            {answer(binary.LittleEndian, methodReturn, 3, "", "as", list[:10]), nil},
		"empty list":      {answer(binary.LittleEndian, methodReturn, 3, "", "as", make([]byte, 4)), nil},
		"nothing":         {answer(binary.LittleEndian, methodReturn, 3, "", "", nil), nil},
		"another type":    {answer(binary.LittleEndian, methodReturn, 3, "", "u", make([]byte, 4)), nil},
	} {
		m, err := readMessage(bytes.NewReader(c.message))
		if err != nil || m.kind != methodReturn || m.replyTo != 3 {
			t.Errorf("%s: %+v, %v", name, m, err)
			continue
		}
		if got, err := m.texts(); name != "list" && (err != nil || !slices.Equal(got, c.want)) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		} else if name == "list" && !errors.Is(err, errMalformed) {
			t.Errorf("a list that is cut short reads as %q, %v", got, err)
		}
		for cut := range c.message {
			if _, err := readMessage(bytes.NewReader(c.message[:cut])); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, cut at %d: %v", name, cut, err)
			}
		}
	}
}

// FuzzMessage reads any message: it may be refused, but what is read is within it.
func FuzzMessage(f *testing.F) {
	f.Add(answer(binary.LittleEndian, methodReturn, 1, "", "s", []byte("\x02\x00\x00\x00hi\x00")))
	f.Add(answer(binary.BigEndian, errorReply, 1, exception, "s", []byte("\x00\x00\x00\x02hi\x00")))
	f.Add(answer(binary.LittleEndian, methodReturn, 1, "", "as", []byte("\x06\x00\x00\x00\x01\x00\x00\x00a\x00")))
	f.Add(encodeCall(1, "a.b", "/a/b", "a.b", "C", []string{"x", ""}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) >= 16 && (raw[6]|raw[7]|raw[14]|raw[15]) != 0 { // megabytes, which it would wait for
			return
		}
		m, err := readMessage(bytes.NewReader(raw))
		if err != nil {
			return
		}
		texts, _ := m.texts()
		for _, s := range texts {
			if !bytes.Contains(raw, []byte(s)) {
				t.Errorf("the text %q is not in the message", s)
			}
		}
	})
}

// A bus that says nothing, or nonsense, does not hold a call up for ever.
func TestBusThatFails(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]string{
		"nothing":              "",
		"a refusal":            "REJECTED EXTERNAL\r\n",
		"a line without end":   strings.Repeat("x", 2000),
		"no answer to Hello":   "OK 1234\r\n",
		"nonsense after Hello": "OK 1234\r\n" + strings.Repeat("\xff", 64),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := filepath.Join(t.TempDir(), "bus")
			l, err := net.Listen("unix", at)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, says)
				_, _ = io.Copy(io.Discard, c)
			}()
			if b, err := dialBus(context.Background(), at, 100*time.Millisecond); err == nil {
				t.Errorf("%+v", b)
			}
			ctx, stop := context.WithCancel(context.Background())
			stop()
			if _, err := dialBus(ctx, at, time.Minute); err == nil {
				t.Error("it goes on when it is to stop")
			}
		})
	}
}
