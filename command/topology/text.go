package topology

import (
	"strings"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/command/ui"
)

// branch is a line of a tree, with those below it.
type branch struct {
	text  string
	below []branch
}

// text is the scene as a tree, in box drawing characters or in ASCII.
func (s *scene) text(unicode bool, c ui.Colours) string {
	root := branch{text: c.Strong(s.name)}
	for _, l := range s.uplinks {
		root.below = append(root.below, branch{text: line(c.Strong(l.Name), kindOf(l), strings.Join(addressesOf(l), " "), down(l, c))})
	}
	for _, t := range s.tunnels {
		root.below = append(root.below, t.branch(c))
	}
	for _, g := range s.groups {
		b := branch{text: line(c.Strong(g.title()), c.Faint(strings.ReplaceAll(g.detail(), " · ", ", ")))}
		for _, other := range g.others {
			b.below = append(b.below, branch{text: line(other, c.Faint("no attachment's"))})
		}
		for _, a := range g.members {
			b.below = append(b.below, member(a, c))
		}
		root.below = append(root.below, b)
	}
	for _, f := range s.notes {
		root.below = append(root.below, branch{text: mark(f, c)})
	}
	marks := [4]string{"├─ ", "└─ ", "│  ", "   "}
	if !unicode {
		marks = [4]string{"|- ", "`- ", "|  ", "   "}
	}
	var b strings.Builder
	b.WriteString(root.text + "\n")
	root.write(&b, "", marks)
	return b.String()
}

func (t *tunnel) branch(c ui.Colours) branch {
	from, port, missing := "", "", ""
	if t.underlay != nil {
		from = "over " + t.underlay.Name
	}
	if t.port != "" {
		port = "port of " + t.port
	}
	if t.device == nil {
		missing = c.Bad("missing")
	} else {
		missing = down(t.device, c)
	}
	b := branch{text: line(c.Strong(t.name), strings.ReplaceAll(t.title, " · ", ", "), from, port, missing)}
	for _, p := range t.peers {
		b.below = append(b.below, branch{text: line(p.name, p.addrs, p.subnets)})
	}
	return b
}

// member is an attachment, with its findings below it.
func member(a *node.Attachment, c ui.Colours) branch {
	link := a.IfName
	if a.HostLink != nil {
		link = a.HostLink.Name + "--" + link
	}
	b := branch{text: line(c.Strong(a.Name()), link, strings.Join(addressesAt(a), " "), strings.Join(a.PortWords(), " "))}
	for _, f := range a.Findings {
		b.below = append(b.below, branch{text: mark(f, c)})
	}
	return b
}

func mark(f node.Finding, c ui.Colours) string {
	kind := c.Doubtful(string(f.Kind))
	if f.Kind == node.Orphan {
		kind = c.Bad(string(f.Kind))
	}
	return kind + ": " + f.Text
}

func down(l *node.Link, c ui.Colours) string {
	if l.Up {
		return ""
	}
	return c.Bad("down")
}

// line is the words that are not empty.
func line(words ...string) string {
	var out []string
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return strings.Join(out, "  ")
}

func (b *branch) write(out *strings.Builder, indent string, marks [4]string) {
	for i := range b.below {
		at, under := marks[0], marks[2]
		if i == len(b.below)-1 {
			at, under = marks[1], marks[3]
		}
		out.WriteString(indent + at + b.below[i].text + "\n")
		b.below[i].write(out, indent+under, marks)
	}
}
