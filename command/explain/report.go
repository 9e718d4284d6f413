package explain

import (
	"fmt"
	"io"
	"strings"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/netutil/nft/eval"
	"github.com/cnibox/cnibox/netutil/owner"
)

// Verdicts of a report.
const (
	Arrives = "arrives"
	Leaves  = "leaves"  // the node, to where nothing more is known
	Dropped = "dropped" // at the last step
	Unknown = "unknown" // what comes next cannot be seen
)

// Report is the way of a packet.
type Report struct {
	Src      string  `json:"src"`
	Dst      string  `json:"dst"`
	Protocol string  `json:"protocol"`
	MTU      int     `json:"mtu,omitempty"` // the longest packet that all links on the way take, in bytes
	Steps    []Step  `json:"steps"`
	Verdict  string  `json:"verdict"`
	At       string  `json:"at,omitempty"`     // where it ends
	Text     string  `json:"text"`             // the verdict in words
	Doubt    string  `json:"doubt,omitempty"`  // what could make it otherwise
	Answer   *Report `json:"answer,omitempty"` // the way of the answer
	Then     *Report `json:"then,omitempty"`   // of TCP: that of what follows, if it does not arrive although both others do
}

// Step is one thing that happens to the packet.
type Step struct {
	Number int      `json:"step"`
	Kind   string   `json:"kind"`  // "route", "link", "filter", "bridge", "tunnel", "local"
	Where  string   `json:"where"` // the namespace
	Text   string   `json:"text"`
	Drop   bool     `json:"drop,omitempty"`
	Notes  []string `json:"notes,omitempty"`
	Rules  []Rule   `json:"rules,omitempty"`
}

// Rule is a rule that applies, or may.
type Rule struct {
	eval.Hit
	Owner string `json:"owner,omitempty"` // whose the element is, of those that cnibox has made: network/containerID/interface
}

// rulesOf tells of hits whose the elements are.
func rulesOf(hits []eval.Hit) (out []Rule) {
	for _, h := range hits {
		r := Rule{Hit: h}
		if text, link, _ := strings.Cut(h.Noted, " "); strings.HasPrefix(link, owner.LinkPrefix) && strings.HasSuffix(h.Table, " "+ownTable) {
			r.Owner = text
		}
		out = append(out, r)
	}
	return out
}

// ownTable is the name of cnibox's tables.
const ownTable = "cnibox"

// print writes the report for people, with all of the answer or only with what is of concern.
func (r *Report) print(out io.Writer, answer bool) error {
	c := ui.ColoursFor(out)
	var b strings.Builder
	r.write(&b, c)
	switch {
	case r.Answer == nil:
	case !answer && r.Answer.works() && r.Answer.Doubt == "":
		b.WriteString("the answer comes back\n")
	default:
		b.WriteString("\nThe answer:\n")
		r.Answer.write(&b, c)
	}
	if r.Then != nil {
		b.WriteString("\nWhat follows in the connection:\n")
		r.Then.write(&b, c)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// write writes the way of one packet. Containers choose what their links and rules are called.
func (r *Report) write(b *strings.Builder, c ui.Colours) {
	for i := range r.Steps {
		s := &r.Steps[i]
		text := ui.Printable(s.Text)
		if s.Drop {
			text = c.Bad(text)
		}
		fmt.Fprintf(b, "%2d %s: %s\n", s.Number, c.Strong(ui.Printable(s.Where)), text)
		for _, h := range s.Rules {
			if h.Leads() && !s.Drop {
				continue // what follows says enough
			}
			b.WriteString("     " + colourOf(c, &h)(ui.Printable(hitText(&h))) + "\n")
		}
		for _, n := range s.Notes {
			b.WriteString("     " + c.Faint(ui.Printable(n)) + "\n")
		}
	}
	paint := c.Good
	switch r.Verdict {
	case Dropped:
		paint = c.Bad
	case Unknown:
		paint = c.Doubtful
	}
	b.WriteString("\n" + paint(ui.Printable(r.Text)) + "\n")
	if r.MTU != 0 && r.Verdict != Dropped {
		b.WriteString(c.Faint(fmt.Sprintf("packets of up to %d bytes take this way", r.MTU)) + "\n")
	}
	if r.Doubt != "" {
		b.WriteString(c.Doubtful(ui.Printable(r.Doubt)) + "\n")
	}
}

// works tells whether nothing is known that would stop the packet, or its answer.
func (r *Report) works() bool {
	return r.Verdict != Dropped && (r.Answer == nil || r.Answer.works()) && (r.Then == nil || r.Then.works())
}

func colourOf(c ui.Colours, h *Rule) func(string) string {
	switch {
	case h.Maybe:
		return c.Doubtful
	case h.Does == "drop" || h.Does == "reject":
		return c.Bad
	}
	return c.Faint
}

// hitText is a rule on one line: where it is, what it says, and the element that it found.
func hitText(h *Rule) string {
	var b strings.Builder
	if h.Maybe {
		b.WriteString("may apply: ")
	}
	b.WriteString(h.Table)
	if h.Chain != "" {
		b.WriteString(", chain " + h.Chain)
	}
	if h.Handle != 0 {
		fmt.Fprintf(&b, ", rule handle %d", h.Handle)
	}
	b.WriteString(": " + h.Rule)
	if h.Comment != "" {
		fmt.Fprintf(&b, " (%s)", h.Comment)
	}
	if h.Element != "" {
		fmt.Fprintf(&b, "; in %s: %s", h.Set, h.Element)
	}
	b.WriteString(h.whose())
	if !strings.HasSuffix(h.Rule, h.Does) && (h.Element == "" || !strings.HasSuffix(h.Element, h.Does)) && h.Table != "connection tracking" {
		b.WriteString(" -> " + h.Does)
	}
	return b.String()
}

// whose is the owner of the element that was found, or its comment.
func (h *Rule) whose() string {
	switch {
	case h.Owner != "":
		return " (owner " + h.Owner + ")"
	case h.Noted != "":
		return " (" + h.Noted + ")"
	}
	return ""
}
