package ui

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// called is what a command was called with.
type called struct {
	words []string
	loud  bool
	to    string
	many  []string
}

func testApp(got *called) (*cli.App, *bytes.Buffer) {
	var out bytes.Buffer
	say := &cli.Command{
		Name: "say", Usage: "say words", ArgsUsage: "WORD...",
		Description:  Describe("Says them.", "prog say hello"),
		BashComplete: func(c *cli.Context) { _, _ = c.App.Writer.Write([]byte("hello\nhowdy\n")) },
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "loud", Aliases: []string{"l"}},
			&cli.StringSliceFlag{Name: "many", Aliases: []string{"m"}, Usage: "more `WORDS`"},
			ChoiceFlag("to", "t", "all", "one"),
		},
		Action: func(c *cli.Context) error {
			*got = called{c.Args().Slice(), c.Bool("loud"), c.String("to"), c.StringSlice("many")}
			return nil
		},
	}
	quiet := &cli.Command{Name: "quiet", Action: func(*cli.Context) error { return nil }}
	return &cli.App{Name: "prog", Version: "7", Writer: &out, Commands: []*cli.Command{{Name: "group", Subcommands: []*cli.Command{say}}, say, quiet}}, &out
}

func TestRun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args    string
		want    called
		mistake string
	}{
		{args: "say a b", want: called{words: []string{"a", "b"}, to: "all"}},
		{args: "group say a --loud b", want: called{words: []string{"a", "b"}, loud: true, to: "all"}},
		{args: "say a -t one b -l", want: called{words: []string{"a", "b"}, loud: true, to: "one"}},
		{args: "say -m x,y --many=z a", want: called{words: []string{"a"}, to: "all", many: []string{"x", "y", "z"}}},
		{args: "say -m x -m y a", want: called{words: []string{"a"}, to: "all", many: []string{"x", "y"}}},
		{args: "say a -- --loud", want: called{words: []string{"a", "--loud"}, to: "all"}},
		{args: "say - a", want: called{words: []string{"-", "a"}, to: "all"}},
		{args: "say --to none", mistake: "--to none: want all or one"},
		{args: "say --to", mistake: "needs an argument"},
		{args: "say --lout", mistake: "not defined: -lout"},
		{args: "group", want: called{}},
		{args: "group nonsense", mistake: "unknown command group nonsense"},
		{args: "group say say", want: called{words: []string{"say"}, to: "all"}},
		{args: "quiet a", mistake: "quiet takes no arguments: a"},
		{args: "--nonsense", mistake: "unknown flag --nonsense"},
		{args: "nonsense", mistake: `unknown command or plugin "nonsense"`},
		{args: "say --help a", want: called{}},
		{args: "help", want: called{}},
		{args: "help group say", want: called{}},
		{args: "help nonsense", mistake: `unknown command or plugin "nonsense"`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			var got called
			app, _ := testApp(&got)
			err := Run(t.Context(), app, strings.Fields(tt.args))
			if tt.mistake != "" {
				if usage := (UsageError{}); !errors.As(err, &usage) || !strings.Contains(err.Error(), tt.mistake) {
					t.Errorf("got %v, want %s", err, tt.mistake)
				}
				return
			}
			if err != nil || !slices.Equal(got.words, tt.want.words) || got.loud != tt.want.loud || got.to != tt.want.to || !slices.Equal(got.many, tt.want.many) {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	app, out := testApp(&called{})
	if err := Run(t.Context(), app, []string{"group", "say", "-h"}); err != nil {
		t.Fatal(err)
	}
	want := `prog group say - say words

Usage:
  prog group say [OPTIONS] WORD...

Says them.

Options:
  --loud, -l
  --many, -m WORDS  more WORDS
  --to, -t FORMAT   all or one (default: all)
  --help, -h        show help

Examples:
  prog say hello
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out, want)
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                  "group say quiet",
		"s":                 "say",
		"group ":            "say",
		"say h":             "hello howdy",
		"say --":            "--loud --many --to --help",
		"say --to ":         "all one",
		"group say -t o":    "one",
		"say --loud ho":     "howdy",
		"nonsense ":         "",
		"quiet ":            "",
		"say --many ":       "",
		"say hello --many ": "",
	} {
		app, out := testApp(&called{})
		Complete(app, strings.Split(args, " "))
		var words []string
		for line := range strings.Lines(out.String()) {
			word, _, _ := strings.Cut(line, "\t")
			words = append(words, word)
		}
		if got := strings.Join(words, " "); got != want {
			t.Errorf("%q: got %q, want %q", args, got, want)
		}
	}
}

func FuzzRun(f *testing.F) {
	f.Add("group say -t one -- b")
	f.Add("say --many=a,b -m c --to all")
	f.Fuzz(func(t *testing.T, line string) {
		app, _ := testApp(&called{})
		args := strings.Split(line, " ")
		Complete(app, args)
		_ = Run(t.Context(), app, args)
	})
}
