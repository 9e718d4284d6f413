package ui

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/urfave/cli/v2"
)

// Main does what the arguments say (the program's name is not one of them), tells of what went wrong, and returns what to exit with.
func Main(ctx context.Context, app *cli.App, args []string) int {
	if last := len(args) - 1; last >= 0 && args[last] == CompleteArg {
		Complete(app, args[:last])
		return ExitOK
	}
	err := Run(ctx, app, args)
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, ErrFindings):
		return ExitFailure
	}
	_, _ = fmt.Fprintf(app.ErrWriter, "%s: %v\n", app.Name, err)
	if usage := (UsageError{}); errors.As(err, &usage) {
		_, _ = fmt.Fprintf(app.ErrWriter, "%s --help lists commands and flags.\n", app.Name)
		return ExitUsage
	}
	return ExitFailure
}

// Run runs the command that the arguments name; the program's name is not one of them.
//
// The library's own way to run one leads to its help, which text/template writes: that calls methods by their names, so that the linker would
// keep all methods of all types, a megabyte. Commands, flags and contexts are the library's.
func Run(ctx context.Context, app *cli.App, args []string) error {
	command, name, rest := find(app.Commands, args)
	if command == nil {
		return runNone(app, args)
	}
	if len(command.Subcommands) > 0 {
		if len(rest) == 0 || isHelp(rest[0]) {
			return groupHelp(app, command, name)
		}
		return Usagef("unknown command %s %s", name, rest[0])
	}
	set, err := parse(command, rest)
	if errors.Is(err, flag.ErrHelp) {
		return commandHelp(app, command, name)
	}
	if err != nil {
		return err
	}
	c := cli.NewContext(app, set, nil)
	c.Context, c.Command = ctx, command
	return call(c)
}

// runNone is what is done where no command is named.
func runNone(app *cli.App, args []string) error {
	switch {
	case len(args) == 0 || isHelp(args[0]) || len(args) == 1 && args[0] == "help":
		return appHelp(app)
	case args[0] == "help":
		return Run(context.Background(), app, append(args[1:len(args):len(args)], "--help"))
	case args[0] == "--version" || args[0] == "-v":
		_, err := fmt.Fprintf(app.Writer, "%s version %s\n", app.Name, app.Version)
		return err
	case args[0] != "" && args[0][0] == '-':
		return Usagef("unknown flag %s", args[0])
	}
	return Usagef("unknown command or plugin %q", args[0])
}

// isHelp tells whether an argument asks for help.
func isHelp(arg string) bool { return arg == "--help" || arg == "-h" || arg == "-help" }

// call runs a command with its flags read.
func call(c *cli.Context) error {
	if c.Command.ArgsUsage == "" && c.Args().Present() {
		return noArguments(c)
	}
	for _, f := range c.Command.Flags {
		if r, ok := f.(cli.RequiredFlag); ok && r.IsRequired() && !c.IsSet(f.Names()[0]) {
			return Usagef("%s needs --%s", c.Command.Name, f.Names()[0])
		}
		if a, ok := f.(cli.ActionableFlag); ok && c.IsSet(f.Names()[0]) {
			if err := a.RunAction(c); err != nil {
				return err
			}
		}
	}
	if c.Command.Before != nil {
		if err := c.Command.Before(c); err != nil {
			return err
		}
	}
	return c.Command.Action(c)
}
