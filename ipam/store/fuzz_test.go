package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzFiles puts a file of any name and text into a network's folder: nothing may fail or hang because of it, no reservation
// may be replaced, and what is not ours stays.
func FuzzFiles(f *testing.F) {
	for _, s := range [][2]string{
		{"10.0.0.1", "a\r\neth0"},
		{"10.0.0.1", "a"},
		{"10.0.0.1", ""},
		{"10.0.0.1", " \n"},
		{"10.0.0.2", "b\r\n\r\n"},
		{"::ffff:10.0.0.1", "a"},
		{"fe80::1%eth0", "a\r\neth0"},
		{"FD00::1", "x"},
		{"last_reserved_ip.0", "10.0.0.2"},
		{"last_reserved_ip.0", "10.0.0.300"},
		{"10.0.0.1 ", "a"},
		{"01.0.0.1", "\x00"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		if name == "" || name == "." || name == ".." || name == "lock" || len(name) > 200 || strings.ContainsAny(name, "/\x00") {
			return
		}
		s := newStore(t)
		if err := os.MkdirAll(s.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(s.dir, name), []byte(text))
		set := pool("10.0.0.1", "10.0.0.4")
		h := Holder{"0f", "fuzz0"}
		mine := strings.TrimSpace(text) == h.text() || strings.TrimSpace(text) == h.ContainerID
		got, err := s.Acquire(h, []Set{set})
		if err != nil && !mine {
			t.Fatal(err)
		}
		if err == nil && len(got) == 1 && got[0].String() == name && strings.TrimSpace(text) != "" {
			t.Fatalf("%s was given out twice", name)
		}
		if err == nil {
			if back := mustRelease(t, s, h); back != joined(got) {
				t.Fatalf("released %s, not %s", back, joined(got))
			}
		}
		if _, err := s.Usage([]Set{set}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Retain(nil); err != nil {
			t.Fatal(err)
		}
		_, isAddr := parseName(name)
		after, err := os.ReadFile(filepath.Join(s.dir, name))
		isLast := name == "last_reserved_ip.0" // which we write
		if !isAddr && !isLast && (err != nil || string(after) != text) {
			t.Fatalf("foreign file %q is gone or changed: %q, %v", name, after, err)
		}
		if isAddr && !os.IsNotExist(err) {
			t.Fatalf("%q is left: %v", name, err)
		}
	})
}

// FuzzIndex reads any bytes as an index: what is believed is in order and is written as it was read.
func FuzzIndex(f *testing.F) {
	var x index
	for _, a := range []string{"10.0.0.1", "10.0.0.2", "fd00::1"} {
		x.set(keyOf(addr(a)), ownerOf(a))
		f.Add(append(x.header(), x.recs...))
	}
	f.Add([]byte(indexMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		x := parseIndex(append([]byte(nil), data...))
		if x == nil {
			return
		}
		if again := append(x.header(), x.recs...); string(again) != string(data[:len(again)]) {
			t.Fatalf("read %x, would write %x", data, again)
		}
		_, _ = x.next(pool("10.0.0.1", "10.0.0.9"), addr("10.0.0.3"))
		x.set(keyOf(addr("10.0.0.4")), ownerOf("a"))
		if sum, ordered := x.check(); sum != x.sum || !ordered {
			t.Fatal("unsound after a change")
		}
	})
}
