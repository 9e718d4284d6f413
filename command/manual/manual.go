// Package manual is the command that prints the manual pages, which are made of what the commands themselves say.
package manual

import (
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
)

// Command is `cnibox man`.
func Command() *cli.Command {
	return &cli.Command{
		Name:      "man",
		Usage:     "print the manual page of the program or of a command",
		ArgsUsage: "[COMMAND]",
		Description: ui.Describe("The pages are in the language of man(7).",
			"cnibox man | man -l -",
			"cnibox man inspect | man -l -",
			"cnibox man --dir /usr/local/share/man/man8"),
		Flags: []cli.Flag{&cli.StringFlag{Name: "dir", Usage: "write all pages into this `FOLDER`"}},
		BashComplete: func(c *cli.Context) {
			for _, command := range c.App.Commands {
				_, _ = io.WriteString(c.App.Writer, command.Name+"\n")
			}
		},
		Action: func(c *cli.Context) error {
			if dir := c.String("dir"); dir != "" {
				return writeAll(c.App, dir)
			}
			text := programPage(c.App)
			if name := c.Args().First(); name != "" {
				command := c.App.Command(name)
				if command == nil || c.Args().Len() > 1 {
					return ui.Usagef("man %s: there is no such command", name)
				}
				text = commandPage(command)
			}
			_, err := io.WriteString(c.App.Writer, text)
			return err
		},
	}
}

// writeAll writes the program's page and one for each command.
func writeAll(app *cli.App, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	pages := map[string]string{app.Name: programPage(app)}
	for _, c := range app.Commands {
		pages[app.Name+"-"+c.Name] = commandPage(c)
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(dir, name+".8"), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
