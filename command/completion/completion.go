// Package completion is the command that prints what a shell needs to complete the command line.
package completion

import (
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
)

// Command is `cnibox completion`.
func Command() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script by which a shell completes commands, flags and their values",
		ArgsUsage: "bash|zsh|fish",
		Description: ui.Describe("The packages install these scripts.",
			"source <(cnibox completion bash)",
			"cnibox completion zsh > /usr/share/zsh/vendor-completions/_cnibox",
			"cnibox completion fish > ~/.config/fish/completions/cnibox.fish"),
		Before: func(c *cli.Context) error {
			if c.Args().Len() != 1 || !slices.Contains(ui.CompletionShells(), c.Args().First()) {
				return ui.Usagef("completion %s: want one of %s", strings.Join(c.Args().Slice(), " "), strings.Join(ui.CompletionShells(), ", "))
			}
			return nil
		},
		BashComplete: func(c *cli.Context) { _, _ = io.WriteString(c.App.Writer, strings.Join(ui.CompletionShells(), "\n")) },
		Action: func(c *cli.Context) error {
			_, err := io.WriteString(c.App.Writer, ui.CompletionScript(c.Args().First()))
			return err
		},
	}
}
