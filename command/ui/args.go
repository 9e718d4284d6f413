package ui

import (
	"flag"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// find is the command that the arguments name, as far down as they do, what it is called with the names of those above, and what is behind
// that. The command is nil if they name none.
func find(commands []*cli.Command, args []string) (command *cli.Command, name string, rest []string) {
	if len(args) == 0 {
		return nil, "", args
	}
	for _, c := range commands {
		if !c.HasName(args[0]) {
			continue
		}
		if below, name, rest := find(c.Subcommands, args[1:]); below != nil {
			return below, c.Name + " " + name, rest
		}
		return c, c.Name, args[1:]
	}
	return nil, "", args
}

// parse reads a command's flags, wherever they stand among the other arguments. Behind "--" there are none.
func parse(command *cli.Command, args []string) (*flag.FlagSet, error) {
	set := flag.NewFlagSet(command.Name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, f := range command.Flags {
		if err := f.Apply(set); err != nil {
			return nil, err
		}
	}
	var others []string
	for len(args) > 0 {
		if err := set.Parse(args); err != nil {
			return nil, UsageError{err}
		}
		rest := set.Args()
		if len(rest) < len(args) && args[len(args)-len(rest)-1] == "--" {
			others = append(others, rest...)
			break
		}
		if len(rest) == 0 {
			break
		}
		others, args = append(others, rest[0]), rest[1:]
	}
	if err := set.Parse(append([]string{"--"}, others...)); err != nil {
		return nil, UsageError{err}
	}
	return set, spread(command.Flags, set)
}

// spread gives each flag's value to all its names: the library keeps one for each.
func spread(flags []cli.Flag, set *flag.FlagSet) error {
	given := map[string]*flag.Flag{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = f })
	for _, f := range flags {
		names := f.Names()
		i := slices.IndexFunc(names, func(n string) bool { return given[n] != nil })
		if i < 0 {
			continue
		}
		value := given[names[i]].Value.String()
		if list, ok := given[names[i]].Value.(cli.Serializer); ok {
			value = list.Serialize()
		}
		for _, n := range names {
			if given[n] == nil {
				if err := set.Set(n, value); err != nil {
					return UsageError{err}
				}
			}
		}
	}
	return nil
}

// takesValue tells whether the argument behind a flag is its value.
func takesValue(command *cli.Command, arg string) bool {
	if strings.Contains(arg, "=") {
		return false
	}
	f := flagOf(command, arg)
	_, isSwitch := f.(*cli.BoolFlag)
	return f != nil && !isSwitch
}

// flagOf is the command's flag of that name, which is written with one or two dashes; nil if it has none.
func flagOf(command *cli.Command, arg string) cli.Flag {
	if !strings.HasPrefix(arg, "-") {
		return nil
	}
	name := strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
	for _, f := range command.Flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}
