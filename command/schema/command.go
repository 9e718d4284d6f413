// Package schema is the command that prints JSON Schemas of network configurations, for editors.
package schema

import (
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/roles"
)

// Command is the command. kinds tells which of the roles are main, meta and ipam plugins.
func Command(table func() roles.Table, kinds func() map[string]string) *cli.Command {
	return &cli.Command{
		Name:      "schema",
		Usage:     "print a JSON Schema of network configurations, for editors",
		ArgsUsage: "[PLUGIN]",
		Description: ui.Describe("Without PLUGIN it is that of a list (.conflist), with all plugins; with PLUGIN that of the plugin's own configuration, for an ipam\n"+
			"plugin that of the key ipam. It is made of what the plugins themselves read. Plugins that are not cnibox's may have any keys.",
			"cnibox schema > conflist.schema.json",
			"cnibox schema bridge"),
		BashComplete: func(c *cli.Context) {
			_, _ = io.WriteString(c.App.Writer, strings.Join(slices.Sorted(maps.Keys(table())), "\n"))
		},
		Before: func(c *cli.Context) error {
			if c.Args().Len() > 1 {
				return ui.Usagef("schema takes one plugin: %s", strings.Join(c.Args().Slice(), " "))
			}
			return nil
		},
		Action: func(c *cli.Context) error {
			all, name := table(), c.Args().First()
			if name == "" {
				return ui.JSON(c.App.Writer, OfList(all, kinds()))
			}
			if all[name] == nil {
				return ui.Usagef("schema %s: no such plugin; there are %s", name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
			}
			return ui.JSON(c.App.Writer, OfRole(all, kinds(), name))
		},
	}
}
