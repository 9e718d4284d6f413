package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/roles"
)

// version is set by the linker (Makefile).
var version = "devel"

// What the command line exits with.
const (
	exitOK      = 0
	exitFailure = 1 // the command failed; the reason is on stderr
	exitUsage   = 2 // the command, a flag or an argument is not known; nothing was done
)

// usageError is a mistake of who typed the command.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// commandLine runs the command that args name, args[0] being the program, and returns what to exit with.
func commandLine(args []string) int {
	return runCommand(args, os.Stdout, os.Stderr)
}

func runCommand(args []string, stdout, stderr io.Writer) int {
	err := newApp(stdout, stderr).Run(args)
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintf(stderr, "cnibox: %v\n", err)
	var usage usageError
	if errors.As(err, &usage) {
		_, _ = fmt.Fprintln(stderr, "cnibox --help lists commands and flags.")
		return exitUsage
	}
	return exitFailure
}

func newApp(stdout, stderr io.Writer) *cli.App {
	onUsage := func(_ *cli.Context, err error, _ bool) error { return usageError{err} }
	app := &cli.App{
		Name:  "cnibox",
		Usage: "every CNI plugin of a Linux node in one executable",
		Description: "Called by the name of a plugin (a symlink, or `cnibox bridge`), it is that plugin.\n" +
			"Called by any other name it is this command line.",
		Version:         version,
		Writer:          stdout,
		ErrWriter:       stderr,
		HideHelpCommand: true,
		OnUsageError:    onUsage,
		ExitErrHandler:  func(*cli.Context, error) {}, // never exits by itself
		Commands:        []*cli.Command{installCommand(), uninstallCommand(), dhcpCommand(), fuseCommand(), syncCommand(), overlayCommand(), rolesCommand(), versionCommand()},
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return usagef("unknown command or plugin %q", name)
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, command := range app.Commands {
		command.OnUsageError = onUsage
		if command.ArgsUsage == "" && command.Subcommands == nil {
			command.Before = noArguments
		}
	}
	return app
}

func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("%s takes no arguments: %s", c.Command.Name, strings.Join(c.Args().Slice(), " "))
	}
	return nil
}

func dirFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "dir", Usage: "the `FOLDER` where the runtime looks for plugins (CNI_PATH)", Value: defaultFarm,
		Action: func(_ *cli.Context, dir string) error {
			if dir == "" {
				return usagef("--dir is empty")
			}
			return nil
		},
	}
}

func outputFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "output", Aliases: []string{"o"}, Usage: "`FORMAT`: text or json", Value: "text",
		Action: func(_ *cli.Context, format string) error {
			if format != "text" && format != "json" {
				return usagef("--output %s: want text or json", format)
			}
			return nil
		},
	}
}

func installCommand() *cli.Command {
	return &cli.Command{
		Name:  "install",
		Usage: "copy this program into a folder, with a symlink for each plugin",
		Description: "All or nothing, and atomic: a runtime finds either the old plugins or the new ones, and calls that run\n" +
			"meanwhile go on. A program that is not cnibox's is left alone, unless --force is given.",
		Flags: []cli.Flag{
			dirFlag(),
			&cli.StringSliceFlag{Name: "role", Usage: "install only this `PLUGIN`; may be repeated"},
			&cli.BoolFlag{Name: "force", Usage: "replace other programs too; each is kept as NAME" + backupSuffix},
		},
		Action: func(c *cli.Context) error {
			names, err := chosenRoles(c.StringSlice("role"))
			if err != nil {
				return err
			}
			self, err := openSelf(os.Args[0])
			if err != nil {
				return err
			}
			defer func() { _ = self.Close() }()
			return install(c.App.Writer, self, c.String("dir"), names, c.Bool("force"))
		},
	}
}

// install makes the farm and says what it did.
func install(out io.Writer, self *os.File, dir string, names []string, force bool) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := openFarm(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	backups, err := f.install(self, names, force)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "installed cnibox %s in %s as %s\n", version, dir, strings.Join(names, ", "))
	for _, name := range backups {
		_, _ = fmt.Fprintf(out, "kept the former %s as %s\n", name, name+backupSuffix)
	}
	return nil
}

// chosenRoles is what --role names, all roles if it is not given.
func chosenRoles(flags []string) ([]string, error) {
	table := roleTable()
	if len(flags) == 0 {
		return sortedNames(table), nil
	}
	for _, name := range flags {
		if _, ok := table[name]; !ok {
			return nil, usagef("--role %s: no such plugin; there are %s", name, strings.Join(sortedNames(table), ", "))
		}
	}
	slices.Sort(flags)
	return slices.Compact(flags), nil
}

func uninstallCommand() *cli.Command {
	return &cli.Command{
		Name:        "uninstall",
		Usage:       "remove what install made",
		Description: "Removes the symlinks and the program, and puts kept programs back. Nothing else is touched.",
		Flags:       []cli.Flag{dirFlag()},
		Action:      func(c *cli.Context) error { return uninstall(c.App.Writer, c.String("dir")) },
	}
}

// uninstall takes the farm away and says what it did.
func uninstall(out io.Writer, dir string) (err error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		_, _ = fmt.Fprintf(out, "nothing of cnibox in %s\n", dir)
		return nil
	}
	f, err := openFarm(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	removed, restored, err := f.uninstall()
	if len(removed)+len(restored) == 0 && err == nil {
		_, _ = fmt.Fprintf(out, "nothing of cnibox in %s\n", dir)
	}
	if len(removed) > 0 {
		_, _ = fmt.Fprintf(out, "removed from %s: %s\n", dir, strings.Join(removed, ", "))
	}
	if len(restored) > 0 {
		_, _ = fmt.Fprintf(out, "put back: %s\n", strings.Join(restored, ", "))
	}
	return err
}

func rolesCommand() *cli.Command {
	return &cli.Command{
		Name:  "roles",
		Usage: "list the plugins that this program is",
		Flags: []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			infos := roleInfos()
			if c.String("output") == "json" {
				return printJSON(c.App.Writer, infos)
			}
			w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "NAME\tKIND\tCNI VERSIONS\tSUMMARY")
			for _, r := range infos {
				first, last := r.CNIVersions[0], r.CNIVersions[len(r.CNIVersions)-1]
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s to %s\t%s\n", r.Name, r.Kind, first, last, r.Summary)
			}
			return w.Flush()
		},
	}
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print version, platform and the CNI versions spoken",
		Flags: []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			v := versionInfo{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, roles.Versions()}
			if c.String("output") == "json" {
				return printJSON(c.App.Writer, v)
			}
			_, err := fmt.Fprintf(c.App.Writer, "cnibox %s\n%s %s\nCNI %s\n",
				v.Version, v.Go, v.Platform, strings.Join(v.CNIVersions, ", "))
			return err
		},
	}
}

// versionInfo is what `cnibox version --output json` prints.
type versionInfo struct {
	Version     string   `json:"version"`
	Go          string   `json:"goVersion"`
	Platform    string   `json:"platform"`
	CNIVersions []string `json:"cniVersions"`
}

func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
