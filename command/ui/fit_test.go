package ui

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTableFits(t *testing.T) {
	t.Parallel()
	table := NewTable("NAME", "ADDRESS", "PORTS", "STATE")
	table.Row(strings.Repeat("n", 30), strings.Repeat("ä", 20), "", "ok")
	table.Row("short", "10.1.0.2", "", "ok")
	table.Without("PORTS", "STATE")
	table.Fit(40, "NAME", "ADDRESS")
	var out bytes.Buffer
	if err := table.Write(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "PORTS") || !strings.Contains(out.String(), "STATE") || strings.Count(out.String(), "…") != 2 {
		t.Errorf("got\n%s", &out)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 40 {
			t.Errorf("%d characters: %s", n, line)
		}
	}
	table.Fit(3, "NAME", "ADDRESS") // less than there can be
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, tt := range [][3]string{{"abc", "abc"}, {"abcdef", "ab…"}, {"abcd…", "ab…"}, {"", ""}} {
		if got := Cut(tt[0], 3); got != tt[1] {
			t.Errorf("%q: %q, want %q", tt[0], got, tt[1])
		}
	}
}
