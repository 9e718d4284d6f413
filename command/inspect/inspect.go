// Package inspect is the command that shows what the node has for its pods, and what of it is not right.
package inspect

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/command/ui"
)

// Command is `cnibox inspect`.
func Command() *cli.Command {
	return &cli.Command{
		Name:  "inspect",
		Usage: "show what pods have on this node, and what of it is not right",
		Description: ui.Describe("Puts together what the kernel, the packet filter, the address files and the runtime's cache tell of each attachment. It\n"+
			"changes nothing. An orphan is what is left of a container that is gone; a drift is what an attachment should have and\n"+
			"has not. With --container all details are shown.",
			"cnibox inspect",
			"cnibox inspect --container 3f1c",
			"cnibox inspect --network podnet --output json | jq '.attachments[].findings'"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "network", Usage: "only attachments of this `NETWORK`"},
			&cli.StringFlag{Name: "container", Usage: "only attachments of the container whose ID begins with `ID`, or of the pod of that name"},
			ui.OutputFlag(),
			&cli.BoolFlag{Name: "watch", Usage: "show it again and again"},
			IntervalFlag(),
		},
		Action: func(c *cli.Context) error {
			v := view{network: c.String("network"), container: c.String("container"), json: c.String("output") == "json"}
			v.width, _ = ui.Size(c.App.Writer)
			v.colours = ui.ColoursFor(c.App.Writer)
			if !c.Bool("watch") {
				return v.show(c.Context, c.App.Writer)
			}
			return ui.Watch(c.Context, c.App.Writer, c.Duration("interval"), 0, v.show)
		},
	}
}

// IntervalFlag is how often what changes is shown again.
func IntervalFlag() cli.Flag {
	return &cli.DurationFlag{
		Name: "interval", Usage: "`TIME` between two pictures", Value: 2 * time.Second,
		Action: func(_ *cli.Context, d time.Duration) error {
			if d < 100*time.Millisecond {
				return ui.Usagef("--interval %s: want at least 100ms", d)
			}
			return nil
		},
	}
}

// view is what is to be shown, and how.
type view struct {
	network, container string
	json               bool
	width              int // characters in a line
	colours            ui.Colours
}

func (v view) show(ctx context.Context, out io.Writer) error {
	n, err := node.Read(ctx, node.Options{})
	if err != nil {
		return err
	}
	n.Attachments = slices.DeleteFunc(n.Attachments, func(a *node.Attachment) bool { return !a.Matches(v.network, v.container) })
	switch {
	case len(n.Attachments) == 0 && v.container != "":
		return fmt.Errorf("there is no attachment of the container %s", v.container)
	case v.json:
		return ui.JSON(out, n)
	case v.container != "":
		return v.details(out, n)
	}
	return v.table(out, n)
}
