package trace

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// While it is off, a span costs nothing but the look at whether it is.
func TestOff(t *testing.T) {
	object := "object"
	allocs := testing.AllocsPerRun(1000, func() {
		Start("name", "ADD", object).Counted(len(object)).End()
		_ = Parent()
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// enable has spans written to a file for the time of the test, and returns what reads them.
func enable(t *testing.T, parent string) (spans func() []Span) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trace")
	if err := os.WriteFile(path, []byte("{\"name\":\"before\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Enable(path, parent); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = current.file.Close()
		current = nil
	})
	return func() (out []Span) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var s Span
			if err := json.Unmarshal([]byte(line), &s); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			out = append(out, s)
		}
		return out
	}
}

const (
	remoteTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	remoteSpan  = "00f067aa0ba902b7"
)

func TestSpans(t *testing.T) {
	spans := enable(t, "00-"+remoteTrace+"-"+remoteSpan+"-00")
	began := time.Now().Add(-time.Microsecond)
	outer := Start("outer", "ADD", `a "name"`)
	inner := Start("inner", "", "").Counted(3)
	if want := "00-" + remoteTrace + "-" + inner.ID + "-01"; Parent() != want {
		t.Errorf("a program started within has the parent %s, want %s", Parent(), want)
	}
	time.Sleep(2 * time.Millisecond)
	inner.End()
	Start("next", "", "").End()
	outer.End()

	got := spans()
	if len(got) != 4 || got[0].Name != "before" {
		t.Fatalf("the file has %+v", got)
	}
	in, next, out := got[1], got[2], got[3]
	if out.Parent != remoteSpan || in.Parent != out.ID || next.Parent != out.ID || in.ID == next.ID || in.ID == out.ID {
		t.Errorf("the spans hang together as %+v", got)
	}
	if in.Name != "inner" || in.Count != 3 || out.Name != "outer" || out.Verb != "ADD" || out.Object != `a "name"` {
		t.Errorf("got %+v and %+v", in, out)
	}
	if in.Duration < 2000 || out.Duration < in.Duration || next.Duration > out.Duration-in.Duration {
		t.Errorf("they took %d, %d and %d", in.Duration, next.Duration, out.Duration)
	}
	for _, s := range got[1:] {
		start, err := time.Parse(time.RFC3339Nano, s.Start)
		if err != nil || start.Before(began.Truncate(time.Microsecond)) || start.After(time.Now()) {
			t.Errorf("start %s (%v), after %s", s.Start, err, began)
		}
		if s.Trace != remoteTrace || s.Process != os.Getpid() || !isID(s.ID, 16) {
			t.Errorf("got %+v", s)
		}
	}
}

// Without a parent, a trace begins.
func TestNewTrace(t *testing.T) {
	spans := enable(t, "nonsense")
	if Parent() != "" {
		t.Errorf("parent %s outside of all spans", Parent())
	}
	Start("one", "", "").End()
	got := spans()[1]
	if !isID(got.Trace, 32) || strings.Trim(got.Trace, "0") == "" || got.Parent != "" {
		t.Errorf("got %+v", got)
	}
}

func TestParent(t *testing.T) {
	t.Parallel()
	const good = "00-" + remoteTrace + "-" + remoteSpan + "-01"
	for parent, want := range map[string]bool{
		good: true, "01" + good[2:] + "-more": true, "cc" + good[2:]: true,
		"": false, "00": false, good + "-more": false, "ff" + good[2:]: false, good[:len(good)-1]: false, strings.ToUpper(good): false,
		"00-00000000000000000000000000000000-" + remoteSpan + "-01": false,
		"00-" + remoteTrace + "-0000000000000000-01":                false,
		"00-" + remoteTrace + "-" + remoteSpan + "-x1":              false,
		"00-" + remoteTrace + "-" + remoteSpan[1:] + "-01":          false,
	} {
		trace, span, ok := parseParent(parent)
		if ok != want || ok && (trace != remoteTrace || span != remoteSpan) {
			t.Errorf("%q: %s, %s, %t", parent, trace, span, ok)
		}
	}
}

// Only a regular file will do: the call must not wait for the reader of a pipe.
func TestBadFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe, "/dev/null", filepath.Join(dir, "none", "file")} {
		if err := Enable(path, ""); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
		if current != nil {
			t.Errorf("%s: it is on", path)
		}
	}
}
