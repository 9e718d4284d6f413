// Package doctor is the command that tells whether a node is fit for pods, and healthy, with a repair for each thing that is not.
package doctor

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/gc"
	"github.com/cnibox/cnibox/command/networks"
	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/ipam/store"
	"github.com/cnibox/cnibox/roles"
)

// Command is the command. The roles, and which are main, meta and ipam plugins, are asked for when it runs.
func Command(table func() roles.Table, kinds func() map[string]string) *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "tell whether this node is fit for pods, and healthy, and how to repair it",
		Description: ui.Describe("Nothing is changed without --fix. What the kernel has is tried in a network namespace that is thrown away.\n"+
			"--fix does what is safe: what \"cnibox sync\", \"cnibox overlay sync\" and \"cnibox gc\" do, and forwarding on. It touches nothing of\n"+
			"another program. The exit status is 1 if a problem is left.",
			"cnibox doctor", "cnibox doctor --role vxlan --role portmap", "cnibox doctor --only filter --output json", "cnibox doctor --fix"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "fix", Usage: "repair what can be repaired without a risk"},
			&cli.BoolFlag{Name: "verbose", Usage: "tell of what is right too"},
			&cli.StringSliceFlag{Name: "role", Usage: "a `PLUGIN` that the node is to be fit for, beside those of the configurations; may be repeated"},
			&cli.StringSliceFlag{Name: "only", Usage: "make only this `CHECK`: " + strings.Join(checkNames(), ", ") + "; may be repeated"},
			gc.OlderThanFlag("remove leftovers that are at least this `OLD`"),
			networks.DirFlag(), gc.PluginsFlag(),
			&cli.StringFlag{Name: "data-dir", Usage: "the `FOLDER` of host-local (ipam.dataDir), beside those that configurations name", Value: store.DefaultDir},
			ui.OutputFlag(),
		},
		Action: func(c *cli.Context) error { return run(c, table(), kinds()) },
	}
}

func checkNames() (names []string) {
	for _, c := range checks() {
		names = append(names, c.name)
	}
	return names
}

// result is what a check has found.
type result struct {
	check
	findings list
}

func run(c *cli.Context, table roles.Table, kinds map[string]string) error {
	chosen, err := choose(c.StringSlice("only"))
	if err != nil {
		return err
	}
	for _, role := range c.StringSlice("role") {
		if table[role] == nil {
			return ui.Usagef("--role %s: no such plugin", role)
		}
	}
	f, err := gather(c, table, kinds)
	if err != nil {
		return err
	}
	defer f.gc.Host.Close()
	results := make([]result, len(chosen))
	for i, ch := range chosen {
		results[i].check = ch
		ch.look(f, &results[i].findings)
		for j := range results[i].findings {
			results[i].findings[j].Check = ch.name
			if c.Bool("fix") {
				results[i].findings[j].repair()
			}
		}
	}
	return report(c, results)
}

func choose(names []string) ([]check, error) {
	all := checks()
	if len(names) == 0 {
		return all, nil
	}
	var chosen []check
	for _, name := range names {
		before := len(chosen)
		for _, ch := range all {
			if ch.name == name {
				chosen = append(chosen, ch)
			}
		}
		if len(chosen) == before {
			return nil, ui.Usagef("--only %s: no such check; there are %s", name, strings.Join(checkNames(), ", "))
		}
	}
	return chosen, nil
}

// repair does what --fix is for.
func (f *Finding) repair() {
	if f.fix == nil {
		return
	}
	if err := f.fix(); err != nil {
		f.Failed = oneLine(err.Error())
		return
	}
	f.Fixed = true
}

// report prints all that was found.
func report(c *cli.Context, results []result) error {
	all, count := []Finding{}, map[Severity]int{}
	for _, r := range results {
		for _, f := range r.findings {
			all = append(all, f)
			if !f.Fixed {
				count[f.Severity]++
			}
		}
	}
	out := c.App.Writer
	if c.String("output") == "json" {
		if err := ui.JSON(out, struct {
			Findings []Finding `json:"findings"`
		}{all}); err != nil {
			return err
		}
	} else {
		for i := range results {
			results[i].print(out, c.Bool("verbose"))
		}
		_, _ = fmt.Fprintf(out, "%s, %s, %s\n", number(count[Problem], "problem"), number(count[Warning], "warning"), number(count[Note], "note"))
	}
	if count[Problem] > 0 {
		return ui.ErrFindings
	}
	return nil
}

func number(n int, word string) string {
	switch n {
	case 0:
		return "no " + word
	case 1:
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
