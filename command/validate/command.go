// Package validate is the command that reads network configurations more strictly than a runtime does.
package validate

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/roles"
)

// farm is where runtimes look for plugins if nobody tells them otherwise.
const farm = "/opt/cni/bin"

// Command is the command. kinds tells which of the roles are main, meta and ipam plugins.
func Command(table func() roles.Table, kinds func() map[string]string) *cli.Command {
	return &cli.Command{
		Name:      "validate",
		Usage:     "find mistakes in network configurations",
		ArgsUsage: "FILE|DIR...",
		Description: ui.Describe("Reads .conf, .conflist and .json files, of a DIR all that a runtime would read, and tells what is wrong with each: what a runtime\n"+
			"or a plugin would refuse, keys that nobody reads, and networks that get in each other's way. Keys of plugins that are not cnibox's\n"+
			"are not judged. Nothing is changed. Plugins of others in the plugin folder are asked which CNI versions they speak.\n\n"+
			"It exits with 1 if there are errors.",
			"cnibox validate /etc/cni/net.d",
			"cnibox validate --plugin-dir build/bin --max-pods 250 --output json 10-net.conflist"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "plugin-dir", Usage: "the `FOLDER` that must hold the plugins; may be repeated", DefaultText: farm + ", if it is there"},
			&cli.Uint64Flag{Name: "max-pods", Usage: "the `NUMBER` of pods that the node may have, for which there must be addresses"},
			&cli.BoolFlag{Name: "strict", Usage: "exit with 1 if there are warnings, too"},
			ui.OutputFlag(),
		},
		Before: func(c *cli.Context) error {
			if !c.Args().Present() {
				return ui.Usagef("validate needs a file or a folder")
			}
			return nil
		},
		Action: func(c *cli.Context) error {
			dirs, err := pluginDirs(c.StringSlice("plugin-dir"))
			if err != nil {
				return err
			}
			paths, err := List(c.Args().Slice())
			if err != nil {
				return err
			}
			findings, err := Files(paths, Options{Table: table(), Kinds: kinds(), Dirs: dirs, MaxPods: c.Uint64("max-pods")})
			if err != nil {
				return err
			}
			if c.String("output") == "json" {
				err = ui.JSON(c.App.Writer, findings)
			} else {
				err = Write(c.App.Writer, len(paths), findings)
			}
			if err != nil {
				return err
			}
			for _, f := range findings {
				if f.Severity == Error || c.Bool("strict") {
					return ui.ErrFindings
				}
			}
			return nil
		},
	}
}

// pluginDirs are the folders that were named, or the usual one.
func pluginDirs(named []string) ([]string, error) {
	for _, dir := range named {
		if !isDir(dir) {
			return nil, ui.Usagef("--plugin-dir %s: there is no such folder", dir)
		}
	}
	if len(named) == 0 && isDir(farm) {
		if entries, err := os.ReadDir(farm); err == nil && len(entries) > 0 {
			named = []string{farm}
		}
	}
	return named, nil
}
