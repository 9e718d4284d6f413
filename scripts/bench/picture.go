package main

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

const (
	pictureWidth = 760
	labelWidth   = 170
	barHeight    = 16
)

// pictureStyle makes the picture readable on light and on dark pages.
const pictureStyle = `<style>
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; }
.cnibox { fill: #1a7f37; } .reference { fill: #8c959f; } .floor, .nothing { fill: #54aeff; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.cnibox { fill: #3fb950; } .reference { fill: #6e7681; } .floor, .nothing { fill: #1f6feb; }
}
</style>
`

// picture draws the medians of what a pod waits for as bars, each group on a scale of its own.
func picture(rows []row) string {
	var body strings.Builder
	y := 0
	for group := range groups(rows) {
		if !slices.Contains([]string{"ADD", "VERSION", "connect", "GC", "DEL of all"}, group[0].Operation) {
			continue
		}
		y += 24
		_, _ = fmt.Fprintf(&body, "<text class=\"title\" x=\"8\" y=\"%d\">%s</text>\n", y, escaped(group[0].title()))
		y += 8
		longest := slices.MaxFunc(group, func(a, b row) int { return pick(a.Median < b.Median, -1, 1) }).Median
		for _, r := range group {
			body.WriteString(r.bar(y, longest))
			y += barHeight + 3
		}
	}
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %[1]d %[2]d\">\n%s%s</svg>\n",
		pictureWidth, y+12, pictureStyle, body.String())
}

// groups yields the rows of one case, number and operation after the other.
func groups(rows []row) func(yield func([]row) bool) {
	return func(yield func([]row) bool) {
		for len(rows) > 0 {
			end := slices.IndexFunc(rows, func(r row) bool { return r.ours() != rows[0].ours() })
			if end < 0 {
				end = len(rows)
			}
			if !yield(rows[:end]) {
				return
			}
			rows = rows[end:]
		}
	}
}

func (k key) title() string {
	title := k.Case + ": " + k.Operation
	if k.AtOnce > 1 {
		title += fmt.Sprintf(", %d at once", k.AtOnce)
	}
	if k.Existing > 0 {
		title += fmt.Sprintf(", at %d", k.Existing)
	}
	return title
}

func (r row) bar(y int, longest float64) string {
	const room = pictureWidth - labelWidth - 150
	class, _, _ := strings.Cut(r.Contender, " ")
	length := max(1, ratio(r.Median, longest)*room)
	value := digits(r.Median) + " ms"
	if r.Contender != cnibox && r.ToCnibox != 0 {
		value += fmt.Sprintf(" (%s×)", digits(r.ToCnibox))
	}
	return fmt.Sprintf("<text x=\"8\" y=\"%d\">%s</text><rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>"+
		"<text x=\"%.1f\" y=\"%d\">%s</text>\n",
		y+barHeight-4, escaped(r.Contender), class, labelWidth, y, length, barHeight, labelWidth+length+6, y+barHeight-4, value)
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder takes all
	return b.String()
}
