package ui

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// appHelp prints what commands there are.
func appHelp(app *cli.App) error {
	h := newHelp(app)
	h.head(app.Name, app.Usage)
	h.section("Usage")
	h.lines(app.Name+" COMMAND [OPTIONS] [ARGUMENTS]", app.Name+" PLUGIN")
	h.paragraph(app.Description)
	h.commands(app.Commands)
	h.section("Options")
	h.table([][]string{{"--help, -h", "show help, of a command too"}, {"--version, -v", "print the version"}})
	return h.print()
}

// groupHelp prints what commands there are below one.
func groupHelp(app *cli.App, command *cli.Command, name string) error {
	h := newHelp(app)
	h.head(app.Name+" "+name, command.Usage)
	h.section("Usage")
	h.lines(app.Name + " " + name + " COMMAND [OPTIONS] [ARGUMENTS]")
	h.describe(command.Description, func() { h.commands(command.Subcommands) })
	return h.print()
}

// commandHelp prints what a command does and takes.
func commandHelp(app *cli.App, command *cli.Command, name string) error {
	h := newHelp(app)
	h.head(app.Name+" "+name, command.Usage)
	h.section("Usage")
	h.lines(strings.TrimRight(app.Name+" "+name+" [OPTIONS] "+command.ArgsUsage, " "))
	h.describe(command.Description, func() {
		h.section("Options")
		var rows [][]string
		for _, f := range command.Flags {
			word, meaning := FlagHelp(f)
			rows = append(rows, []string{word, meaning})
		}
		h.table(append(rows, []string{"--help, -h", "show help"}))
	})
	return h.print()
}

// FlagHelp is what a manual says of a flag: its names with what its value is called, and its meaning with what holds where it is not given.
// The value's name stands in back quotes in the flag's Usage.
func FlagHelp(f cli.Flag) (word, meaning string) {
	var names []string
	for _, n := range f.Names() {
		names = append(names, strings.Repeat("-", min(len(n), 2))+n)
	}
	word = strings.Join(names, ", ")
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return word, ""
	}
	meaning = d.GetUsage()
	if !d.TakesValue() {
		return word, meaning
	}
	before, rest, _ := strings.Cut(meaning, "`")
	value, after, found := strings.Cut(rest, "`")
	switch {
	case !found:
		value = "VALUE"
	case before == "" && strings.HasPrefix(after, ": "):
		meaning = strings.TrimPrefix(after, ": ")
	default:
		meaning = before + value + after
	}
	if text := strings.Trim(d.GetDefaultText(), `"`); text != "" {
		meaning += " (default: " + text + ")"
	}
	return word + " " + value, meaning
}

// help is a page that is being written.
type help struct {
	strings.Builder
	out     io.Writer
	colours Colours
}

func newHelp(app *cli.App) *help { return &help{out: app.Writer, colours: ColoursFor(app.Writer)} }

func (h *help) head(name, usage string) {
	_, _ = fmt.Fprintf(h, "%s - %s\n", h.colours.Strong(name), usage)
}

func (h *help) section(name string) { _, _ = fmt.Fprintf(h, "\n%s\n", h.colours.Strong(name+":")) }

func (h *help) lines(lines ...string) {
	for _, l := range lines {
		_, _ = fmt.Fprintf(h, "  %s\n", l)
	}
}

func (h *help) paragraph(text string) {
	if text = strings.TrimSpace(text); text != "" {
		_, _ = fmt.Fprintf(h, "\n%s\n", text)
	}
}

// describe writes a description, with what is to stand before its examples.
func (h *help) describe(description string, between func()) {
	text, examples := SplitDescription(description)
	h.paragraph(text)
	between()
	if len(examples) > 0 {
		h.section(strings.TrimSuffix(examplesHeading, ":"))
		h.lines(examples...)
	}
}

func (h *help) commands(commands []*cli.Command) {
	h.section("Commands")
	var rows [][]string
	for _, c := range commands {
		rows = append(rows, []string{c.Name, c.Usage})
	}
	h.table(rows)
}

func (h *help) table(rows [][]string) {
	t := Table{}
	for _, r := range rows {
		t.Row(append([]string{"  " + r[0]}, r[1:]...)...)
	}
	_ = t.Write(h) // to memory
}

func (h *help) print() error {
	_, err := io.WriteString(h.out, h.String())
	return err
}
