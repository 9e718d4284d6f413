// Package ui is what the commands share to talk with who typed them: mistakes in what was typed, tables, colours, progress, JSON.
package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// Program is what the executable is called.
const Program = "cnibox"

// What the command line exits with.
const (
	ExitOK      = 0
	ExitFailure = 1 // the command failed, or found something that is not right; what, is on stderr or in its output
	ExitUsage   = 2 // the command, a flag or an argument is not known; nothing was done
)

// ErrFindings is the error of a command that did its work and told of something that is not right: it exits with ExitFailure and says no more.
var ErrFindings = errors.New("not all is right")

// UsageError is a mistake of who typed the command.
type UsageError struct{ error }

// Unwrap is what the mistake was.
func (e UsageError) Unwrap() error { return e.error }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// noArguments is the error of a command that takes flags only.
func noArguments(c *cli.Context) error {
	return Usagef("%s takes no arguments: %s", c.Command.Name, strings.Join(c.Args().Slice(), " "))
}

// OutputFlag chooses between what people read and what programs read: text or json.
func OutputFlag() cli.Flag {
	return ChoiceFlag("output", "o", "text", "json")
}

// ChoiceFlag takes one of the formats, the first if it is not given.
func ChoiceFlag(name, alias string, choices ...string) cli.Flag {
	f := &cli.StringFlag{
		Name: name, Usage: "`FORMAT`: " + either(choices), Value: choices[0],
		Action: func(_ *cli.Context, format string) error {
			for _, c := range choices {
				if c == format {
					return nil
				}
			}
			return Usagef("--%s %s: want %s", name, format, either(choices))
		},
	}
	if alias != "" {
		f.Aliases = []string{alias}
	}
	return &choice{f, choices}
}

// either is "a, b or c".
func either(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// JSON prints a value, indented.
func JSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

const examplesHeading = "Examples:"

// Describe is a command's description: text, and calls as examples.
func Describe(text string, examples ...string) string {
	return text + "\n\n" + examplesHeading + "\n  " + strings.Join(examples, "\n  ")
}

// SplitDescription is what Describe was called with.
func SplitDescription(description string) (text string, examples []string) {
	text, list, found := strings.Cut(description, examplesHeading+"\n")
	if !found {
		return description, nil
	}
	for line := range strings.Lines(list) {
		examples = append(examples, strings.TrimSpace(line))
	}
	return strings.TrimSpace(text), examples
}
