package ui

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Colours writes words in colours, or plain: where the output is no terminal, is a dumb one, or the environment has NO_COLOR (no-color.org).
type Colours struct{ on bool }

// ColoursFor is what suits an output.
func ColoursFor(out io.Writer) Colours {
	return Colours{IsTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// IsTerminal tells whether somebody looks at the output while it is written.
func IsTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Good is green: as it should be.
func (c Colours) Good(s string) string { return c.paint("32", s) }

// Bad is red: it does not work.
func (c Colours) Bad(s string) string { return c.paint("31", s) }

// Doubtful is yellow: it works, but should be looked at.
func (c Colours) Doubtful(s string) string { return c.paint("33", s) }

// Strong is bold: headings, and names that the eye looks for.
func (c Colours) Strong(s string) string { return c.paint("1", s) }

// Faint is dim: what matters less.
func (c Colours) Faint(s string) string { return c.paint("2", s) }

func (c Colours) paint(code, s string) string {
	if !c.on || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
