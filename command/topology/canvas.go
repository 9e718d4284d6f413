package topology

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/command/ui"
)

// canvas collects the shapes of a picture in SVG (w3.org/TR/SVG11). Measures are pixels.
type canvas struct{ shapes strings.Builder }

// style is how classes look: light, and to be read in print as well.
const style = `
text { font-family: Helvetica, Arial, "DejaVu Sans", sans-serif; fill: #1f2933 }
.title { font-size: 18px; font-weight: bold }
.name { font-size: 13px; font-weight: bold }
.small { font-size: 11px }
.faint { font-size: 11px; fill: #66737f }
.port { font-size: 11px; fill: #1a5fb4 }
.wrong { font-size: 11px; fill: #c01c28; font-weight: bold }
.paper { fill: #ffffff }
.panel { fill: #fafbfc; stroke: #d5dce3 }
.host { fill: #e4e9f0; stroke: #9aa8b7 }
.link { fill: #ffffff; stroke: #7b8794 }
.tunnel { fill: #f4effa; stroke: #8250b4; stroke-dasharray: 5 3 }
.bridge { fill: #e3f3e6; stroke: #3f8f50 }
.routed { fill: #e1eefb; stroke: #3b78b5 }
.child { fill: #fcf3d9; stroke: #b58a1b }
.alone { fill: #eceff2; stroke: #8a96a3 }
.pod { fill: #ffffff; stroke: #aab4bf }
.bad { fill: #fff1f1; stroke: #c01c28; stroke-width: 2 }
.wire { fill: none; stroke: #7b8794; stroke-width: 1.2 }
.badwire { fill: none; stroke: #c01c28; stroke-width: 1.2; stroke-dasharray: 4 3 }
.over { fill: none; stroke: #8250b4; stroke-width: 1.2; stroke-dasharray: 5 3 }
`

func (c *canvas) rect(class string, x, y, w, h int) {
	fmt.Fprintf(&c.shapes, `<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="5"/>`+"\n", class, x, y, w, h)
}

// text puts a line of text so that its letters stand on y.
func (c *canvas) text(class string, x, y int, s string) {
	if s != "" {
		fmt.Fprintf(&c.shapes, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class, x, y, escape(s))
	}
}

// wire goes through points, each straight above, below or beside the one before it.
func (c *canvas) wire(class string, points ...int) {
	var words []string
	for _, p := range points {
		words = append(words, strconv.Itoa(p))
	}
	fmt.Fprintf(&c.shapes, `<polyline class="%s" points="%s"/>`+"\n", class, strings.Join(words, " "))
}

// picture is all of it, of that size.
func (c *canvas) picture(w, h int, title string) string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">
<title>%s</title>
<style>%s</style>
<rect class="paper" x="0" y="0" width="%d" height="%d"/>
%s</svg>
`, w, h, w, h, escape(title), style, w, h, c.shapes.String())
}

// escape makes any text, of whoever's choice, one that XML takes (w3.org/TR/xml, 2.2 and 2.4).
func escape(s string) string {
	// In this order; package strings' Replacer would be 15 kB more of an executable that nothing else needs it for.
	s = strings.ReplaceAll(ui.Printable(s), "&", "&amp;")
	s = strings.ReplaceAll(strings.ReplaceAll(s, "<", "&lt;"), ">", "&gt;")
	return strings.ReplaceAll(s, `"`, "&quot;")
}

// sizeOf is the height of a class's letters.
func sizeOf(class string) (size int, bold bool) {
	switch class {
	case "title":
		return 18, true
	case "name":
		return 13, true
	case "wrong":
		return 11, true
	default:
		return 11, false
	}
}

// width is how much room a text takes at most, in any usual sans-serif: who looks at it may have another than we.
func width(class, s string) int {
	size, bold := sizeOf(class)
	sum := 0.0
	for _, r := range s {
		switch {
		case strings.ContainsRune("ijl.,:;'|! ", r):
			sum += 0.37
		case strings.ContainsRune("ftr()[]/-", r):
			sum += 0.45
		case strings.ContainsRune("mwMW@%", r), r > 0x2000: // arrows, and scripts of which we know nothing
			sum += 1.0
		case r >= 'A' && r <= 'Z':
			sum += 0.76
		default:
			sum += 0.645
		}
	}
	if bold {
		sum *= 1.1
	}
	return int(sum*float64(size)) + 1
}

// cut is as much of a text as fits, with "…" for what does not.
func cut(class, s string, room int) string {
	if width(class, s) <= room {
		return s
	}
	runes := []rune(s)
	for n := len(runes) - 1; n > 0; n-- {
		if t := string(runes[:n]) + "…"; width(class, t) <= room {
			return t
		}
	}
	return ""
}

// wrap breaks a text at blanks into lines that fit, at most so many; the last is cut where more would be needed.
func wrap(class, s string, room, most int) (lines []string) {
	line := ""
	words := strings.Fields(s)
	for i, w := range words {
		next := strings.TrimSpace(line + " " + w)
		if line == "" || width(class, next) <= room {
			line = next
			continue
		}
		if len(lines) == most-1 {
			line = strings.Join(append([]string{line}, words[i:]...), " ")
			break
		}
		lines, line = append(lines, cut(class, strings.TrimSuffix(line, " ·"), room)), w
	}
	if line != "" {
		lines = append(lines, cut(class, line, room))
	}
	return lines
}
