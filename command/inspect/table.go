package inspect

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/command/ui"
)

// table is a line for each attachment, and one for each finding.
func (v view) table(out io.Writer, n *node.Node) error {
	if len(n.Attachments) == 0 {
		if _, err := fmt.Fprintln(out, "there are no attachments"); err != nil {
			return err
		}
		return v.findings(out, n)
	}
	table := ui.NewTable("NETWORK", "CONTAINER/POD", "IF", "ADDRESSES", "HOST LINK", "MTU", "PORTS", "IN/OUT", "AGE", "STATE")
	for _, a := range n.Attachments {
		var mtu, host, age string
		if l := cmp.Or(a.Link, a.HostLink); l != nil {
			mtu = strconv.Itoa(l.MTU)
		}
		switch {
		case a.HostLink != nil:
			host = a.HostLink.Name
		case a.Parent != "":
			host = "on " + a.Parent
		}
		if !a.Since.IsZero() {
			age = node.Age(n.Time.Sub(a.Since))
		}
		table.Row(a.Network, a.Name(), a.IfName, addresses(a), host, mtu, ports(a), a.Limits.String(), age, v.state(a.State))
	}
	table.Without("PORTS", "IN/OUT", "HOST LINK")
	table.Fit(v.width, "NETWORK", "CONTAINER/POD", "ADDRESSES", "PORTS")
	if err := table.Write(out); err != nil {
		return err
	}
	return v.findings(out, n)
}

// addresses are the first of each family, and how many there are besides.
func addresses(a *node.Attachment) string {
	var shown []string
	var v4, v6 bool
	addrs := a.Addrs()
	for _, addr := range addrs {
		if addr.Is4() && !v4 || addr.Is6() && !v6 {
			shown = append(shown, addr.String())
			v4, v6 = v4 || addr.Is4(), v6 || addr.Is6()
		}
	}
	return more(shown, len(addrs)-len(shown))
}

// ports are the first two.
func ports(a *node.Attachment) string {
	const few = 2
	var shown []string
	all := a.PortWords()
	for _, p := range all[:min(few, len(all))] {
		shown = append(shown, strings.TrimSuffix(p, "/tcp"))
	}
	return more(shown, len(all)-len(shown))
}

func more(shown []string, left int) string {
	if left > 0 {
		shown = append(shown, "+"+strconv.Itoa(left))
	}
	return strings.Join(shown, " ")
}

func (v view) state(s node.State) string {
	switch s {
	case node.OK:
		return v.colours.Good(string(s))
	case node.Orphan:
		return v.colours.Bad(string(s))
	case node.Drift:
		return v.colours.Doubtful(string(s))
	default:
		return v.colours.Faint(string(s))
	}
}

// findings are a line each, with what to do about it.
func (v view) findings(out io.Writer, n *node.Node) error {
	var b strings.Builder
	line := func(of string, f node.Finding) {
		fmt.Fprintf(&b, "%s  %s%s\n        %s %s\n", v.state(f.Kind)+strings.Repeat(" ", len(node.Orphan)-len(f.Kind)), of, f.Text, v.colours.Faint("->"), f.Fix)
	}
	for _, f := range n.Findings {
		line("", f)
	}
	for _, a := range n.Attachments {
		for _, f := range a.Findings {
			line(v.colours.Strong(a.Title())+": ", f)
		}
	}
	text := b.String()
	if text != "" {
		text = "\n" + text
	}
	for _, p := range n.Problems {
		text += v.colours.Doubtful("not read:") + " " + p + "\n"
	}
	_, err := io.WriteString(out, text)
	return err
}
