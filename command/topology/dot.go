package topology

import (
	"fmt"
	"strings"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/command/ui"
)

// dot is the scene in the language of graphviz (graphviz.org/doc/info/lang.html).
func (s *scene) dot() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("graph %s {", quoted(s.name))
	line("  rankdir=LR;")
	line("  node [shape=box, style=rounded, fontname=\"sans-serif\", fontsize=10];")
	line("  host [shape=box, style=filled, fillcolor=\"#e8eef7\", label=%s];", label(s.name, "routing and packet filter"))
	for _, l := range s.uplinks {
		line("  %s [label=%s];", quoted("link "+l.Name), label(append([]string{l.Name, kindOf(l)}, addressesOf(l)...)...))
		line("  %s -- host;", quoted("link "+l.Name))
	}
	for _, t := range s.tunnels {
		at := quoted("link " + t.name)
		line("  %s [style=\"rounded,dashed\", label=%s];", at, label(append([]string{t.name}, strings.Split(t.title, " · ")...)...))
		switch {
		case t.port != "":
			line("  %s -- %s;", at, quoted("link "+t.port))
		default:
			line("  %s -- host;", at)
		}
		if t.underlay != nil {
			line("  %s -- %s [style=dashed];", quoted("link "+t.underlay.Name), at)
		}
		for _, p := range t.peers {
			line("  %s [shape=ellipse, label=%s];", quoted("peer "+t.name+" "+p.name), label(p.name, p.addrs, p.subnets))
			line("  %s -- %s [style=dashed];", quoted("peer "+t.name+" "+p.name), at)
		}
	}
	for i, g := range s.groups {
		s.dotGroup(line, i, g)
	}
	line("}")
	return b.String()
}

func (s *scene) dotGroup(line func(string, ...any), i int, g *group) {
	at := quoted(fmt.Sprintf("group %d", i))
	switch g.kind {
	case bridged:
		at = quoted("link " + g.name)
		line("  %s [style=filled, fillcolor=\"#e6f4ea\", label=%s];", at, label(append([]string{g.name}, strings.Split(g.detail(), " · ")...)...))
		if len(g.link.Addresses) > 0 {
			line("  host -- %s;", at)
		}
	case routed:
		at = "host"
	case child:
		at = quoted("link " + g.name)
	case alone:
		line("  %s [shape=plaintext, label=%s];", at, label(g.title(), g.detail()))
	}
	for _, other := range g.others {
		line("  %s [label=%s];", quoted("link "+other), label(other))
		line("  %s -- %s;", at, quoted("link "+other))
	}
	for _, a := range g.members {
		id := quoted(a.Owner().String())
		lines := append([]string{a.Name(), a.IfName + ", network " + a.Network}, addressesAt(a)...)
		lines = append(lines, a.PortWords()...)
		colour := ""
		if len(a.Findings) > 0 {
			colour = "color=red, fontcolor=red, "
			for _, f := range a.Findings {
				lines = append(lines, string(f.Kind)+": "+f.Text)
			}
		}
		line("  %s [%slabel=%s];", id, colour, label(lines...))
		line("  %s -- %s [fontsize=8, label=%s];", at, id, quoted(hostLink(a)))
	}
}

func hostLink(a *node.Attachment) string {
	if a.HostLink == nil {
		return ""
	}
	return a.HostLink.Name
}

// quoted is a string of the language: what is between quotes is taken as it is, but for quotes and backslashes.
func quoted(s string) string {
	return `"` + strings.ReplaceAll(strings.ReplaceAll(ui.Printable(s), `\`, `\\`), `"`, `\"`) + `"`
}

// label is lines of a label, without empty ones.
func label(lines ...string) string {
	var out []string
	for _, l := range lines {
		if l != "" {
			q := quoted(l)
			out = append(out, q[1:len(q)-1])
		}
	}
	return `"` + strings.Join(out, `\n`) + `"`
}
