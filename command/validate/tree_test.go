package validate

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzParse compares the reader with package json: it takes the same texts, but for those that are no UTF-8 or nest too deep, and what it encodes
// again means the same.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		`{"a": [1, -2.5e3, true, null, "\u00e9\n"], "b": {}}`, `{"a": 1,}`, `[`, `{"a" 1}`, `"\x"`, "\ufeff{}", `{"a": 01}`, `{} {}`, "\"\n\"", `nul`, `[1 2]`, `"\ud800"`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parse([]byte(text))
		if err != nil {
			var syntax *syntaxError
			if !errors.As(err, &syntax) || syntax.pos < 0 || syntax.pos > len(text) || syntax.msg == "" {
				t.Fatalf("%#v", err)
			}
			if json.Valid([]byte(text)) && utf8.ValidString(text) && !strings.Contains(syntax.msg, "in one another") {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		var want, got any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			if !strings.Contains(err.Error(), "cannot unmarshal number") { // no float64 holds it
				t.Fatalf("taken: %q: %v", text, err)
			}
			return
		}
		again := n.encode([]byte(text), nil)
		if err := json.Unmarshal(again, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q became %q: %v", text, again, err)
		}
	})
}

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"isGateway", "isDefaultGateway", "mtu", "vlan", "hairpinMode", "passthru"}
	for word, want := range map[string]string{
		"isGatway": "isGateway", "isgateway": "isGateway", "gateway": "isGateway", "mut": "mtu", "mt": "", "vlans": "vlan", "hairpin": "", "hairpinMdoe": "hairpinMode",
		"passthrough": "passthru", "colour": "", "": "", strings.Repeat("x", 1000): "",
	} {
		if got := nearest(word, words); got != want {
			t.Errorf("%.20q: %q, want %q", word, got, want)
		}
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	for key, want := range map[string][]string{
		"ipam.ranges[0][12].subnet": {"ipam", "ranges", "[0]", "[12]", "subnet"}, "mtu": {"mtu"}, "": nil, "a[]": {"a", "[]"},
	} {
		if got := steps(key); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}

// What a file has for keys does nothing to a screen.
func TestFindingIsPlain(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, f := range Text("a\x1b[2J.conf", []byte(`{"name": "n", "type": "x", "\u001b[31mname\n": 1, "\u001b[31mname\n": 2}`), Options{}) {
		if err := Write(&b, 1, []Finding{f}); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(b.String(), "\x1b") || !strings.Contains(b.String(), "a?[2J.conf:1:") || !strings.Contains(b.String(), "?[31mname?: the key is there already") {
		t.Errorf("%q", b.String())
	}
}

// Columns are counted in characters, in whatever order findings come, and quickly in a long line.
func TestColumns(t *testing.T) {
	t.Parallel()
	f := &file{text: []byte("é\n" + strings.Repeat("é", 1<<20) + "\nab")}
	end := len(f.text) - len("\nab")
	for _, tt := range []struct{ pos, line, column int }{{2, 1, 2}, {5, 2, 2}, {3, 2, 1}, {end, 2, 1<<20 + 1}, {end + 2, 3, 2}, {0, 1, 1}, {1 << 40, 3, 3}} {
		f.report(Error, tt.pos, "", "", "x")
		if g := f.findings[len(f.findings)-1]; g.Line != tt.line || g.Column != tt.column {
			t.Errorf("%d is %d:%d, want %d:%d", tt.pos, g.Line, g.Column, tt.line, tt.column)
		}
	}
	start := time.Now()
	for i := range 20_000 {
		f.report(Error, end-2*(i%9), "", "", "x")
	}
	if took := time.Since(start); took > 3*time.Second { // it took ten times as long when each was counted from the beginning
		t.Errorf("20000 findings took %v", took)
	}
}
