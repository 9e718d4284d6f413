package explain

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/nft/eval"
)

func TestSplitPort(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		name string
		port uint16
	}{
		"10.0.0.1": {"10.0.0.1", 0}, "10.0.0.1:80": {"10.0.0.1", 80}, "fd00::1": {"fd00::1", 0}, "[fd00::1]:80": {"fd00::1", 80}, "[fd00::1]": {"fd00::1", 0},
		"host": {"host", 0}, "host:22": {"host", 22}, "shop/web:8080": {"shop/web", 8080}, "4f1c": {"4f1c", 0},
	} {
		if name, port, err := splitPort(text); err != nil || name != want.name || port != want.port {
			t.Errorf("%s is %q, %d (%v), want %+v", text, name, port, err, want)
		}
	}
	for _, text := range []string{"host:", "host:0", "host:65536", "host:web", "10.0.0.1:-1", "[fd00::1:80"} {
		if name, port, err := splitPort(text); err == nil {
			t.Errorf("%s is %q, %d", text, name, port)
		}
	}
}

// Comments of rules and names of links are those of containers too: on a screen they do nothing.
func TestPrintIsPlain(t *testing.T) {
	t.Parallel()
	const evil = "x\x1b]0;y\a\r\n"
	r := &Report{Verdict: Dropped, Text: evil, Doubt: evil, Steps: []Step{{
		Where: evil, Text: evil, Drop: true, Notes: []string{evil}, Rules: []Rule{{Hit: eval.Hit{Chain: evil, Rule: evil, Comment: evil, Noted: evil}}},
	}}}
	var b strings.Builder
	if err := r.print(&b, false); err != nil || strings.ContainsAny(b.String(), "\x1b\a\r") || strings.Count(b.String(), "\n") != 6 {
		t.Errorf("%v, %q", err, b.String())
	}
}

// Whatever somebody types, and whatever the kernel answers, reading it ends, and never fails.
func FuzzRead(f *testing.F) {
	f.Add("host:80", []byte(strings.Repeat("\x02\x0a", 40)))
	f.Add("[fd00::1]:80", []byte(strings.Repeat("\x20\x00\x01\x00", 60)))
	f.Fuzz(func(t *testing.T, text string, b []byte) {
		if name, _, err := splitPort(text); err == nil && !strings.Contains(text, name) {
			t.Errorf("%q is %q", text, name)
		}
		s := &space{}
		if l := parseLink(s, b); l != nil {
			_ = l.broken()
			_ = l.device()
		}
		takes(b, &eval.Packet{Dst: netip.MustParseAddr("10.0.0.1"), DstPort: 80})
	})
}
