package ui

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Table is rows in columns. Unlike text/tabwriter it knows that a colour takes no room.
type Table struct{ rows [][]string }

// NewTable is a table with a heading.
func NewTable(heading ...string) *Table { return &Table{rows: [][]string{heading}} }

// Row adds a row.
func (t *Table) Row(cells ...string) { t.rows = append(t.rows, cells) }

// Write writes the table, two spaces between its columns, none at the end of a line.
func (t *Table) Write(out io.Writer) error {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], width(cell))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", widths[i]-width(cell)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// width is how many characters of a cell are seen: all but those of colours.
func width(cell string) int {
	n := utf8.RuneCountInString(cell)
	for {
		_, rest, found := strings.Cut(cell, "\x1b[")
		if !found {
			return n
		}
		code, after, _ := strings.Cut(rest, "m")
		n -= utf8.RuneCountInString(code) + len("\x1b[m")
		cell = after
	}
}
