package manual

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
)

func testApp(out *bytes.Buffer) *cli.App {
	return &cli.App{
		Name: "cnibox", Usage: "all in one", Description: "It does.\n\nMuch.", Writer: out,
		Commands: []*cli.Command{
			Command(),
			{Name: "show", Usage: "show things", ArgsUsage: "THING", Description: ui.Describe("Shows\n.them \\ all.", "cnibox show a-b"), Flags: []cli.Flag{
				&cli.StringFlag{Name: "dir", Aliases: []string{"d"}, Usage: "the `FOLDER` of things", Value: "/x"},
				ui.OutputFlag(),
			}},
			{Name: "group", Usage: "two things", Subcommands: []*cli.Command{{Name: "one", Usage: "the one"}, {Name: "two", Usage: "the other", ArgsUsage: "[N]"}}},
		},
	}
}

func TestPageOfACommand(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := ui.Run(t.Context(), testApp(&out), []string{"man", "show"}); err != nil {
		t.Fatal(err)
	}
	want := `.TH "CNIBOX\-SHOW" 8 "" "cnibox" "System administration"
.SH "NAME"
cnibox\-show \- show things
.SH "SYNOPSIS"
cnibox show [OPTIONS] THING
.SH "DESCRIPTION"
Shows
\&.them \e all.
.SH "OPTIONS"
.TP
\fB\-\-dir, \-d FOLDER\fR
the FOLDER of things (default: /x)
.TP
\fB\-\-output, \-o FORMAT\fR
text or json (default: text)
.SH "EXAMPLES"
.RS 4
.nf
cnibox show a\-b
.fi
.RE
.SH "EXIT STATUS"
`
	if !strings.HasPrefix(out.String(), want) {
		t.Errorf("got:\n%s\nwant:\n%s", &out, want)
	}
}

func TestPageOfAGroup(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := ui.Run(t.Context(), testApp(&out), []string{"man", "group"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\ncnibox group one [OPTIONS]\n.PP\ncnibox group two [OPTIONS] [N]\n", "\n.SH \"CNIBOX GROUP TWO\"\nthe other\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got:\n%s\nwant in it:\n%s", &out, want)
		}
	}
}

func TestAllPages(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "man8")
	if err := ui.Run(t.Context(), testApp(&bytes.Buffer{}), []string{"man", "--dir", dir}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cnibox.8", "cnibox-man.8", "cnibox-show.8", "cnibox-group.8"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.HasPrefix(text, []byte(".TH ")) {
			t.Errorf("%s: %v, %.20q", name, err, text)
		}
	}
}
