package ui

import (
	"io"
	"slices"
	"strings"
	"unicode"
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

// Fit cuts cells of the named columns so that the table is at most so many characters wide, the widest column first, but none to less than 8 of
// them. What was cut ends in "…". It must be called before colours are put on those columns.
func (t *Table) Fit(limit int, columns ...string) {
	const least = 8
	widths := make([]int, len(t.rows[0]))
	total := 2 * (len(widths) - 1)
	for i := range widths {
		for _, row := range t.rows {
			widths[i] = max(widths[i], width(row[i]))
		}
		total += widths[i]
	}
	for ; total > limit; total-- {
		widest := -1
		for i, name := range t.rows[0] {
			if slices.Contains(columns, name) && widths[i] > least && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
		for _, row := range t.rows[1:] {
			row[widest] = Cut(row[widest], widths[widest])
		}
	}
}

// Cut is a text in at most so many characters, the last of which is "…" if some are left out.
func Cut(s string, limit int) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(strings.TrimSuffix(s, "…"))[:max(limit-1, 0)]) + "…"
}

// Without leaves columns out in which no row has anything.
func (t *Table) Without(columns ...string) {
	for i := len(t.rows[0]) - 1; i >= 0; i-- {
		if !slices.Contains(columns, t.rows[0][i]) || slices.ContainsFunc(t.rows[1:], func(row []string) bool { return row[i] != "" }) {
			continue
		}
		for r, row := range t.rows {
			t.rows[r] = slices.Delete(row, i, i+1)
		}
	}
}

// Printable is a text without what would do something to who prints it: containers choose the names of their interfaces, and strangers what stands in files.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || r >= 0xfffe && r <= 0xffff { // the last two no XML may have
			return '?'
		}
		return r
	}, s)
}
