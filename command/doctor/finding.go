package doctor

import (
	"fmt"
	"io"
	"strings"

	"github.com/cnibox/cnibox/command/ui"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	Note    Severity = "note"    // good to know; nothing need be done
	Warning Severity = "warning" // it works, but not for all, or not for long
	Problem Severity = "problem" // pods do not work, or the next one will not
)

// Finding is something that is not as it should be.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Why      string   `json:"why"` // it matters
	Repair   string   `json:"repair"`
	Fixable  bool     `json:"fixable"`
	Fixed    bool     `json:"fixed"`
	Failed   string   `json:"failed,omitempty"` // why --fix did not help

	fix func() error // what --fix does; nil: nothing
}

// list collects the findings of a check.
type list []Finding

func (l *list) add(s Severity, what, why, repair string) *Finding {
	*l = append(*l, Finding{Severity: s, What: oneLine(what), Why: oneLine(why), Repair: oneLine(repair)})
	return &(*l)[len(*l)-1]
}

// cannot notes that something could not be looked at.
func (l *list) cannot(what string, err error) {
	if err != nil {
		l.add(Warning, fmt.Sprintf("cannot look at %s: %v", what, err), "what is wrong there stays unseen", "run it as root, on the node itself")
	}
}

// oneLine is a text that quotes others', fit for a terminal.
func oneLine(s string) string { return ui.Printable(strings.ReplaceAll(s, "\n", "; ")) }

// by is a finding that --fix repairs.
func (f *Finding) by(fix func() error) { f.fix, f.Fixable = fix, true }

func (s Severity) paint(c ui.Colours) string {
	word := fmt.Sprintf("%-7s", s)
	switch s {
	case Problem:
		return c.Bad(word)
	case Warning:
		return c.Doubtful(word)
	}
	return c.Faint(word)
}

// print prints findings below the title of their check.
func (r *result) print(out io.Writer, verbose bool) {
	c := ui.ColoursFor(out)
	if len(r.findings) == 0 {
		if verbose {
			_, _ = fmt.Fprintf(out, "%s\n  %s %s\n", c.Strong(r.title), c.Good("ok     "), r.about)
		}
		return
	}
	_, _ = fmt.Fprintln(out, c.Strong(r.title))
	for i := range r.findings {
		f := &r.findings[i]
		word := f.Severity.paint(c)
		if f.Fixed {
			word = c.Good("fixed  ")
		}
		_, _ = fmt.Fprintf(out, "  %s %s: %s\n", word, f.What, f.Why)
		switch {
		case f.Failed != "":
			_, _ = fmt.Fprintf(out, "          %s %s\n", c.Bad("--fix failed:"), f.Failed)
		case f.Fixable && !f.Fixed:
			_, _ = fmt.Fprintf(out, "          repair (or --fix): %s\n", f.Repair)
		case !f.Fixed && f.Repair != "":
			_, _ = fmt.Fprintf(out, "          repair: %s\n", f.Repair)
		}
	}
}
