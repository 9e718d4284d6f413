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

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// OnUsageError makes a UsageError of what the flags' parser has to say.
func OnUsageError(_ *cli.Context, err error, _ bool) error { return UsageError{err} }

// NoArguments is the Before of commands that take flags only.
func NoArguments(c *cli.Context) error {
	if c.Args().Present() {
		return Usagef("%s takes no arguments: %s", c.Command.Name, strings.Join(c.Args().Slice(), " "))
	}
	return nil
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
	return f
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
