package topology

import (
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/command/node"
)

// Measures, in pixels.
const (
	margin   = 24
	gap      = 14 // between pods
	padding  = 9  // between a box and its text
	leading  = 15 // between two lines
	lane     = 18 // left of pods, for the wire to them
	between  = 30 // of panels
	drop     = 26 // of wires between the host and a panel
	broadest = 340
	leastPod = 130
	widest   = 1500 // of what is drawn, unless something does not fit
)

// styled is a line of text.
type styled struct{ class, text string }

// box is text in a rectangle.
type box struct {
	class string
	lines []styled
	w, h  int
}

func newBox(class string, lines ...styled) *box {
	b := &box{class: class}
	for _, l := range lines {
		if l.text != "" {
			b.lines = append(b.lines, l)
		}
	}
	return b
}

// natural is the room that the text needs.
func (b *box) natural() (w int) {
	for _, l := range b.lines {
		w = max(w, width(l.class, l.text))
	}
	return w + 2*padding
}

// fit gives the box a width, and the height that follows.
func (b *box) fit(w int) {
	b.w, b.h = w, len(b.lines)*leading+2*padding-3
	for i, l := range b.lines {
		b.lines[i].text = cut(l.class, l.text, w-2*padding)
	}
}

func (b *box) draw(c *canvas, x, y int) {
	c.rect(b.class, x, y, b.w, b.h)
	for i, l := range b.lines {
		c.text(l.class, x+padding, y+padding+11+i*leading, l.text)
	}
}

// podBox is an attachment's.
func podBox(a *node.Attachment) *box {
	link := a.IfName
	if a.HostLink != nil {
		link += " · " + a.HostLink.Name
	}
	class, state := "pod", ""
	if len(a.Findings) > 0 {
		class, state = "bad", string(a.State)
	}
	lines := []styled{{"name", a.Name()}, {"faint", link}}
	for _, addr := range addressesAt(a) {
		lines = append(lines, styled{"small", addr})
	}
	const most = 4 // ports
	ports := a.PortWords()
	for i, p := range ports {
		if i == most-1 && len(ports) > most {
			p = "and " + strconv.Itoa(len(ports)-i) + " more ports"
		}
		if i < most {
			lines = append(lines, styled{"port", strings.Replace(p, "->", " → ", 1)})
		}
	}
	return newBox(class, append(lines, styled{"wrong", state})...)
}

// explain adds what is not right to a pod's box, once its width is known.
func explain(b *box, a *node.Attachment, w int) {
	for _, f := range a.Findings {
		for _, l := range wrap("small", f.Text, w-2*padding, 7) {
			b.lines = append(b.lines, styled{"small", l})
		}
	}
}

// linkBox is that of a link of the host.
func linkBox(l *node.Link) *box {
	lines := []styled{{"name", l.Name}, {"faint", kindOf(l) + " · MTU " + strconv.Itoa(l.MTU)}}
	for _, addr := range addressesOf(l) {
		lines = append(lines, styled{"small", addr})
	}
	class := "link"
	if !l.Up {
		class, lines = "bad", append(lines, styled{"wrong", "down"})
	}
	return newBox(class, lines...)
}

// tunnelBox is that of a tunnel, with its peers in it.
func tunnelBox(t *tunnel) *box {
	lines := []styled{{"name", t.name}, {"faint", t.title}}
	if t.port != "" {
		lines = append(lines, styled{"faint", "port of " + t.port})
	}
	const most = 8
	for i, p := range t.peers {
		if i == most-1 && len(t.peers) > most {
			lines = append(lines, styled{"faint", "and " + strconv.Itoa(len(t.peers)-i) + " more nodes"})
			break
		}
		lines = append(lines, styled{"small", line(p.name, p.addrs, p.subnets)})
	}
	class := "tunnel"
	if t.device == nil || !t.device.Up {
		class, lines = "bad", append(lines, styled{"wrong", "missing or down"})
	}
	return newBox(class, lines...)
}
