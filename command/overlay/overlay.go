// Package overlay is the commands that look at the tunnels to other nodes, and put them right.
package overlay

import (
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/overlay"
)

// Command is `cnibox overlay`.
func Command() *cli.Command {
	return &cli.Command{
		Name:  "overlay",
		Usage: "the tunnels to other nodes that the plugin vxlan makes",
		Subcommands: []*cli.Command{
			{
				Name: "show", Usage: "tell what there is, and what is not as it should be",
				Description: ui.Describe("One line for each tunnel, and one for each difference.", "cnibox overlay show", "cnibox overlay show --output json"),
				Flags:       []cli.Flag{ui.OutputFlag()},
				Action: func(c *cli.Context) error {
					return overlays(c.App.Writer, c.String("output") == "json", overlay.Verify)
				},
			},
			{
				Name: "sync", Usage: "make it so: for when the machine has started, and for timers",
				Description: ui.Describe("Reads the lists of peers that are in files anew, and knows those of configurations as the last pod came with them.",
					"cnibox overlay sync"),
				Action: func(c *cli.Context) error { return Sync(c.App.Writer) },
			},
		},
	}
}

// Sync puts all tunnels right, and says what it did.
func Sync(out io.Writer) error { return overlays(out, false, overlay.Sync) }

// overlayReport is what is told of one network.
type overlayReport struct {
	Network     string               `json:"network"`
	Device      string               `json:"device"`
	Bridge      string               `json:"bridge,omitempty"`
	Underlay    string               `json:"underlay"`
	MTU         int                  `json:"mtu"`
	Peers       int                  `json:"peers"`
	Differences []overlay.Difference `json:"differences"`
	Error       string               `json:"error,omitempty"`
}

// overlays treats each network that the node has a tunnel of, and tells of it. It goes on after errors and joins them.
func overlays(out io.Writer, asJSON bool, treat func(*netutil.Namespace, *overlay.Config) (*overlay.Status, error)) error {
	host, err := netutil.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	networks, err := overlay.Networks(overlay.DefaultState)
	if err != nil {
		return err
	}
	reports, errs := []overlayReport{}, []error(nil)
	for _, network := range networks {
		r, err := overlayOf(host, network, treat)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", network, err))
			r.Error = err.Error()
		}
		reports = append(reports, r)
	}
	if asJSON {
		errs = append(errs, ui.JSON(out, reports))
		return errors.Join(errs...)
	}
	for i := range reports {
		reports[i].print(out)
	}
	if len(reports) == 0 {
		_, _ = fmt.Fprintln(out, "there is no overlay on this node")
	}
	return errors.Join(errs...)
}

func overlayOf(host *netutil.Namespace, network string, treat func(*netutil.Namespace, *overlay.Config) (*overlay.Status, error)) (overlayReport, error) {
	r := overlayReport{Network: network, Differences: []overlay.Difference{}}
	s := overlay.OpenStore(overlay.DefaultState, overlay.DefaultRun, network)
	unlock, err := s.Lock()
	if err != nil {
		return r, err
	}
	defer unlock()
	c, stale := s.Refresh()
	if c == nil {
		return r, stale
	}
	r.Device, r.Bridge, r.Peers = c.DeviceName(), c.Bridge, len(c.Peers)
	status, err := treat(host, c)
	if status != nil {
		r.Underlay, r.MTU = status.Underlay.String(), status.MTU
		r.Differences = append(r.Differences, status.Found...)
	}
	return r, errors.Join(stale, err)
}

func (r *overlayReport) print(out io.Writer) {
	device := r.Device
	if r.Bridge != "" {
		device += " at " + r.Bridge
	}
	_, _ = fmt.Fprintf(out, "%s: %s from %s, MTU %d, %d peers\n", r.Network, device, r.Underlay, r.MTU, r.Peers)
	for _, d := range r.Differences {
		_, _ = fmt.Fprintf(out, "  was wrong: %s\n", d)
	}
	if len(r.Differences) == 0 && r.Error == "" {
		_, _ = fmt.Fprintln(out, "  all is right")
	}
}
