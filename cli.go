package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/completion"
	"github.com/cnibox/cnibox/command/dhcp"
	"github.com/cnibox/cnibox/command/doctor"
	"github.com/cnibox/cnibox/command/explain"
	"github.com/cnibox/cnibox/command/fuse"
	"github.com/cnibox/cnibox/command/gc"
	"github.com/cnibox/cnibox/command/inspect"
	"github.com/cnibox/cnibox/command/install"
	"github.com/cnibox/cnibox/command/ipam"
	"github.com/cnibox/cnibox/command/manual"
	"github.com/cnibox/cnibox/command/overlay"
	"github.com/cnibox/cnibox/command/schema"
	"github.com/cnibox/cnibox/command/sync"
	"github.com/cnibox/cnibox/command/top"
	"github.com/cnibox/cnibox/command/topology"
	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/command/validate"
	"github.com/cnibox/cnibox/roles"
)

// version is set by the linker (Makefile).
var version = "devel"

// commandLine runs the command that args name, args[0] being the program, and returns what to exit with.
func commandLine(args []string) int {
	return runCommand(args, os.Stdout, os.Stderr)
}

func runCommand(args []string, stdout, stderr io.Writer) int {
	if len(args) == 3 && args[1] == "help" {
		args = []string{args[0], args[2], "--help"}
	}
	if len(args) == 3 && (args[2] == "--help" || args[2] == "-h") {
		for _, r := range roleInfos() {
			if r.Name == args[1] && r.Name != "dhcp" { // that is a command too
				_, _ = fmt.Fprintf(stdout, "%s - plugin (%s): %s\n\nA runtime calls it, with CNI_COMMAND and a configuration on standard input.\n"+
					"`cnibox schema %s` tells its keys.\n", r.Name, r.Kind, r.Summary, r.Name)
				return ui.ExitOK
			}
		}
	}
	return ui.Main(context.Background(), newApp(stdout, stderr), args[1:])
}

func newApp(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:  ui.Program,
		Usage: "every CNI plugin of a Linux node in one executable",
		Description: "Called by the name of a plugin (a symlink, or `cnibox bridge`), it is that plugin.\n" +
			"Called by any other name it is this command line.",
		Version:   version,
		Writer:    stdout,
		ErrWriter: stderr,
		Commands: []*cli.Command{
			install.Command(version, pluginNames),
			install.UninstallCommand(),
			validate.Command(roleTable, roleKinds),
			schema.Command(roleTable, roleKinds),
			doctor.Command(roleTable, roleKinds),
			inspect.Command(),
			top.Command(),
			topology.Command(),
			explain.Command(),
			ipam.Command(gc.Command(roleTable, "address")),
			gc.Command(roleTable, ""),
			sync.Command(),
			overlay.Command(),
			dhcp.Command(),
			fuse.Command(),
			rolesCommand(),
			versionCommand(),
			completion.Command(),
			manual.Command(),
		},
	}
}

func rolesCommand() *cli.Command {
	return &cli.Command{
		Name:        "roles",
		Usage:       "list the plugins that this program is",
		Description: ui.Describe("Each is called by its name: through a symlink, or as the only argument.", "cnibox roles", "cnibox roles --output json"),
		Flags:       []cli.Flag{ui.OutputFlag()},
		Action: func(c *cli.Context) error {
			infos := roleInfos()
			if c.String("output") == "json" {
				return ui.JSON(c.App.Writer, infos)
			}
			table := ui.NewTable("NAME", "KIND", "CNI VERSIONS", "SUMMARY")
			for _, r := range infos {
				first, last := r.CNIVersions[0], r.CNIVersions[len(r.CNIVersions)-1]
				table.Row(r.Name, r.Kind, first+" to "+last, r.Summary)
			}
			return table.Write(c.App.Writer)
		},
	}
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:        "version",
		Usage:       "print version, platform and the CNI versions spoken",
		Description: ui.Describe("The versions are those of the CNI specification.", "cnibox version --output json"),
		Flags:       []cli.Flag{ui.OutputFlag()},
		Action: func(c *cli.Context) error {
			v := versionInfo{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, roles.Versions()}
			if c.String("output") == "json" {
				return ui.JSON(c.App.Writer, v)
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
