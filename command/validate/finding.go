package validate

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cnibox/cnibox/command/ui"
)

// Severities of a finding.
const (
	Error   = "error"   // a runtime or a plugin refuses it, or does something else than was meant
	Warning = "warning" // it works, but probably not as it was meant
)

// Finding is what is not right with a configuration, as --output json has it. Programs rely on its keys.
type Finding struct {
	File       string `json:"file"`
	Line       int    `json:"line"`   // from 1
	Column     int    `json:"column"` // from 1, in characters
	Severity   string `json:"severity"`
	Key        string `json:"key"` // the way to it from the top; empty: the file itself
	Message    string `json:"message"`
	Suggestion string `json:"suggestion,omitempty"` // what may have been meant
}

// text is the finding on one line. Keys stand in it as the file has them, which may be a stranger's.
func (f *Finding) text(c ui.Colours) string {
	severity := c.Bad(f.Severity)
	if f.Severity == Warning {
		severity = c.Doubtful(f.Severity)
	}
	at := c.Strong(ui.Printable(fmt.Sprintf("%s:%d:%d:", f.File, f.Line, f.Column)))
	out := ""
	if f.Key != "" {
		out += f.Key + ": "
	}
	out += f.Message
	if f.Suggestion != "" {
		out += "; did you mean " + f.Suggestion + "?"
	}
	return at + " " + severity + ": " + ui.Printable(out)
}

// Write tells of the findings to people.
func Write(out io.Writer, files int, findings []Finding) error {
	c := ui.ColoursFor(out)
	var b strings.Builder
	errors := 0
	for i := range findings {
		b.WriteString(findings[i].text(c) + "\n")
		if findings[i].Severity == Error {
			errors++
		}
	}
	b.WriteString(count(files, "file") + ", " + count(errors, "error") + ", " + count(len(findings)-errors, "warning") + "\n")
	_, err := io.WriteString(out, b.String())
	return err
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// file is a configuration that is being read.
type file struct {
	path     string
	text     []byte
	lines    []int // where they begin
	counted  place // of the last finding
	findings []Finding
}

// place is a position in a file, in bytes, and its line and column.
type place struct{ line, pos, column int }

// report adds a finding about what stands at the position, in bytes.
func (f *file) report(severity string, pos int, key, suggestion, format string, args ...any) {
	line := f.line(pos)
	f.findings = append(f.findings, Finding{
		File: f.path, Line: line, Column: f.column(line, min(pos, len(f.text))),
		Severity: severity, Key: key, Message: fmt.Sprintf(format, args...), Suggestion: suggestion,
	})
}

// line is the number of the line, from 1, that the position is in.
func (f *file) line(pos int) int {
	if f.lines == nil {
		f.lines = []int{0}
		for i, c := range f.text {
			if c == '\n' {
				f.lines = append(f.lines, i+1)
			}
		}
	}
	i, found := slices.BinarySearch(f.lines, pos)
	if found {
		i++
	}
	return i
}

// column is where in its line the position is, from 1, in characters. It is counted from the one before: all may stand in one long line.
func (f *file) column(line, pos int) int {
	last := &f.counted
	switch {
	case last.line != line:
		*last = place{line, f.lines[line-1], 1}
		fallthrough
	case last.pos <= pos:
		last.column += utf8.RuneCount(f.text[last.pos:pos])
	default:
		last.column -= utf8.RuneCount(f.text[pos:last.pos])
	}
	last.pos = pos
	return last.column
}

// told tells whether there is an error about the key already, about what it is in, or about what is in it. Only findings behind the first ones are
// looked at.
func (f *file) told(first int, key string) bool {
	return slices.ContainsFunc(f.findings[first:], func(g Finding) bool {
		return g.Severity == Error && (within(key, g.Key) || within(g.Key, key))
	})
}

// within tells whether a key is another, or below it.
func within(key, other string) bool {
	rest, ok := strings.CutPrefix(key, other)
	return ok && other != "" && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// sorted are the findings in the order in which they stand in the file.
func (f *file) sorted() []Finding {
	slices.SortStableFunc(f.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return f.findings
}
