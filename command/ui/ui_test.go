package ui

import (
	"bytes"
	"strings"
	"testing"
)

func TestTableWithColours(t *testing.T) {
	t.Parallel()
	c := Colours{on: true}
	table := NewTable("NAME", "STATE", "AGE")
	table.Row("böse", c.Bad("down"), "3 s")
	table.Row("a", c.Good("up"), "")
	var out bytes.Buffer
	if err := table.Write(&out); err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[0m", "").Replace(out.String())
	if want := "NAME  STATE  AGE\nböse  down   3 s\na     up\n"; plain != want {
		t.Errorf("got %q, want %q", plain, want)
	}
}

func TestNoColoursWithoutATerminal(t *testing.T) {
	t.Parallel()
	if got := ColoursFor(&bytes.Buffer{}).Bad("x"); got != "x" {
		t.Errorf("got %q", got)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	if got := Printable("a\x1b[31mb\n\u009b"); got != "a?[31mb??" {
		t.Errorf("%q", got)
	}
}
