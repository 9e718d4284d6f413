// Package trace writes down where a call spends its time: one line of JSON for each span, into a file that the operator names.
// docs/tracing.md tells how to read it.
package trace

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/plainfile"
)

// current is nil unless tracing is on. It is a variable of the package because spans begin where the work is done, in sockets and locks far
// below the call that wants it: handing a tracer down to them would put a parameter into every signature on the way, for what is nearly
// always off. A process serves one call, and only Enable sets it, before anything else runs.
var current *tracer

// tracer is where the spans of a process go. Not safe for concurrent use: each step of a call waits for the one before.
type tracer struct {
	file   *os.File
	id     string // of the trace, in hexadecimal digits as all IDs
	remote string // the span that the process was started in; empty if it is not known
	next   uint64 // ID of the next span
	inner  *Span  // the latest that has not ended
}

// Span is a step that takes time. The methods may be called on nil, which is what Start returns while tracing is off.
type Span struct {
	tracer *tracer
	outer  *Span
	start  time.Time

	Name     string `json:"name"`
	Verb     string `json:"verb,omitempty"`
	Object   string `json:"object,omitempty"`
	Count    int    `json:"count,omitempty"`
	Start    string `json:"start"`
	Duration int64  `json:"durationMicroseconds"`
	Process  int    `json:"pid"`
	Trace    string `json:"traceId"`
	ID       string `json:"spanId"`
	Parent   string `json:"parentId,omitempty"`
}

// Enable has the spans from now on appended to the file. parent is what the environment says in TRACEPARENT (W3C Trace Context); without
// it, or if it cannot be read, a trace of its own begins.
func Enable(path, parent string) error {
	// A pipe without a reader must not hold up the call, and a link in a folder that is everybody's could lead anywhere.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|plainfile.NoLink, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &os.PathError{Op: "open", Path: path, Err: errors.New("it is no regular file")}
	}
	var random [24]byte
	if err == nil {
		_, err = unix.Getrandom(random[:], 0)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	t := &tracer{file: file, next: binary.NativeEndian.Uint64(random[16:])}
	var ok bool
	if t.id, t.remote, ok = parseParent(parent); !ok {
		t.id = hex.EncodeToString(random[:16])
	}
	current = t
	return nil
}

// parseParent reads a traceparent: version, trace, span and flags. Later versions may have more behind it.
func parseParent(s string) (trace, span string, ok bool) {
	version, rest, _ := strings.Cut(s, "-")
	trace, rest, _ = strings.Cut(rest, "-")
	span, rest, _ = strings.Cut(rest, "-")
	flags, more, _ := strings.Cut(rest, "-")
	if !isID(version, 2) || version == "ff" || !isID(flags, 2) || version == "00" && more != "" {
		return "", "", false
	}
	if !isID(trace, 32) || !isID(span, 16) || strings.Trim(trace, "0") == "" || strings.Trim(span, "0") == "" {
		return "", "", false
	}
	return trace, span, true
}

func isID(s string, digits int) bool {
	return len(s) == digits && strings.Trim(s, "0123456789abcdef") == ""
}

// Start begins a span within the one that has begun last. verb and object, what it is done to, may be empty.
func Start(name, verb, object string) *Span {
	if current == nil {
		return nil
	}
	return current.begin(name, verb, object)
}

func (t *tracer) begin(name, verb, object string) *Span {
	s := &Span{tracer: t, outer: t.inner, Name: name, Verb: verb, Object: object, Process: os.Getpid(), Trace: t.id, Parent: t.remote}
	if s.outer != nil {
		s.Parent = s.outer.ID
	}
	if t.next == 0 { // no ID
		t.next++
	}
	s.ID = hex.EncodeToString(binary.BigEndian.AppendUint64(nil, t.next))
	t.next++
	t.inner = s
	s.start = time.Now()
	return s
}

// Counted adds how many things the step is about.
func (s *Span) Counted(n int) *Span {
	if s != nil {
		s.Count = n
	}
	return s
}

// End ends the span and writes it down. A line that cannot be written is lost: the call matters more.
func (s *Span) End() {
	if s == nil {
		return
	}
	s.Duration = time.Since(s.start).Microseconds()
	s.Start = s.start.UTC().Format("2006-01-02T15:04:05.000000Z")
	s.tracer.inner = s.outer
	if line, err := json.Marshal(s); err == nil {
		_, _ = s.tracer.file.Write(append(line, '\n')) // in one piece, whoever else appends
	}
}

// Parent is the TRACEPARENT for a program that is started in the span that has begun last; empty while tracing is off.
func Parent() string {
	if current == nil || current.inner == nil {
		return ""
	}
	const recorded = "01"
	return "00-" + current.id + "-" + current.inner.ID + "-" + recorded
}
