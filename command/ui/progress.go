package ui

import (
	"fmt"
	"io"
	"time"
)

// Progress tells how far a command is that takes longer than a second, on a line that is written over and taken away at the end. It tells
// nothing where nobody looks.
type Progress struct {
	out   io.Writer // nil: nobody looks
	what  string
	start time.Time
	last  time.Time
	shown bool
}

// NewProgress begins; what is said in front of the numbers.
func NewProgress(out io.Writer, what string) *Progress {
	p := &Progress{what: what, start: time.Now()}
	if IsTerminal(out) {
		p.out = out
	}
	return p
}

// At tells that so many of all are done, at most ten times a second.
func (p *Progress) At(done, all int) {
	now := time.Now()
	if p.out == nil || now.Sub(p.start) < time.Second || now.Sub(p.last) < 100*time.Millisecond {
		return
	}
	p.last, p.shown = now, true
	_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s: %d of %d", p.what, done, all)
}

// Done takes the line away.
func (p *Progress) Done() {
	if p.shown {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
	}
}
