// Package sync is the command that makes anew what pods are missing in the packet filter.
package sync

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/roles/firewall"
)

// Command is `cnibox sync`.
func Command() *cli.Command {
	return &cli.Command{
		Name:  "sync",
		Usage: "make anew what pods are missing in the packet filter",
		Description: ui.Describe("Puts back what something else has thrown out: \"nft flush ruleset\", a firewall that was reloaded. The next call of a\n"+
			"plugin does so too where all is gone; this is for a timer, or for after a reload. What stands is left alone.",
			"cnibox sync"),
		Action: func(c *cli.Context) error { return Filter(c.Context, c.App.Writer) },
	}
}

// Filter restores the packet filter of the namespace that the program runs in, and says what it did.
func Filter(ctx context.Context, out io.Writer) error {
	host, err := netutil.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	host.WaitAtMost(node.LockWait) // the timer comes again
	restored, err := netutil.NFT(host).Restore()
	errs := []error{err}
	for _, r := range restored {
		if r.Err != nil {
			errs = append(errs, errors.New(r.String()))
			continue
		}
		_, _ = fmt.Fprintf(out, "restored %s\n", r)
	}
	elsewhere, err := firewall.Sync(ctx, host)
	errs = append(errs, err)
	for _, e := range elsewhere {
		_, _ = fmt.Fprintf(out, "restored %s\n", e)
	}
	if len(restored)+len(elsewhere) == 0 && errors.Join(errs...) == nil {
		_, _ = fmt.Fprintln(out, "nothing of pods was missing in the packet filter")
	}
	return errors.Join(errs...)
}
