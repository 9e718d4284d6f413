package rawnl

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// ifInfo is the header of a message about a link (rtnetlink(7), struct ifinfomsg).
func ifInfo(index int32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	return b
}

func get(index int32) Message { return Message{Type: unix.RTM_GETLINK, Body: ifInfo(index)} }

func name(t *testing.T, body []byte) string {
	t.Helper()
	if len(body) < unix.SizeofIfInfomsg {
		t.Fatalf("an answer of %d bytes", len(body))
	}
	return String(Find(body[unix.SizeofIfInfomsg:], unix.IFLA_IFNAME))
}

// Each message has its own answer: those that succeed, those that fail, and a list.
func TestExchange(t *testing.T) {
	ns := nstest.New(t, "ns")
	ns.Run("ip", "link", "add", "one", "type", "veth", "peer", "name", "two")
	var s *Socket
	err := ns.Do(func() (err error) {
		s, err = Open(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 2 { // the numbers go on from call to call
		answers, err := s.Exchange(get(1), get(12345), Message{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_DUMP, Body: ifInfo(0)}, get(1))
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []int{0, 3} {
			if a := answers[i]; a.Err != nil || len(a.Bodies) != 1 || name(t, a.Bodies[0]) != "lo" {
				t.Errorf("answer %d: %+v", i, a)
			}
		}
		if !errors.Is(answers[1].Err, unix.ENODEV) {
			t.Errorf("a link that is not there: %v", answers[1].Err)
		}
		var names []string
		for _, b := range answers[2].Bodies {
			names = append(names, name(t, b))
		}
		if len(names) != 3 || names[0] != "lo" {
			t.Errorf("links %v", names)
		}
	}
}

func TestAttrs(t *testing.T) {
	t.Parallel()
	var a Attrs
	a.Text(1, "abc")
	a.Nested(2, func(a *Attrs) {
		a.Uint8(3, 7)
		a.Uint32BE(4, 0x01020304)
	})
	a.Uint32(5, 9)
	if got := String(Find(a, 1)); got != "abc" {
		t.Errorf("text %q", got)
	}
	if got := Find(Find(a, 2), 4); string(got) != "\x01\x02\x03\x04" {
		t.Errorf("number %x", got)
	}
	if got := Find(a, 5); len(got) != 4 || binary.NativeEndian.Uint32(got) != 9 {
		t.Errorf("number %x", got)
	}
	if Find(a, 6) != nil || len(a)%4 != 0 {
		t.Errorf("%x", a)
	}
}

// Attributes that are cut short or lie about their size end the run.
func FuzzEach(f *testing.F) {
	f.Add([]byte{8, 0, 1, 0, 1, 2, 3, 4, 5, 0, 2, 0, 9})
	f.Add([]byte{3, 0, 1, 0})
	f.Add([]byte{255, 255, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		Each(b, func(_ uint16, value []byte) { n += len(value) + attrHeader })
		if n > len(b) {
			t.Fatalf("%d bytes in a run of %d", n, len(b))
		}
	})
}
