// Package gc is the command that finds what no living sandbox owns, and frees it.
package gc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/networks"
	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/ipam/dhcp/daemon"
	"github.com/cnibox/cnibox/ipam/store"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/roles"
)

// Command is the command. The table is asked for when it runs. With only, a kind of things, it frees nothing else.
func Command(table func() roles.Table, only string) *cli.Command {
	what, name := "what no living sandbox owns: links, addresses, entries of the packet filter, records", "gc"
	if only != "" {
		what, name = "addresses that no living sandbox owns", "ipam gc"
	}
	return &cli.Command{
		Name:  "gc",
		Usage: "free " + what,
		Description: ui.Describe("The living are told by --runtime (what it keeps on disk), by --from, or by both. Besides, what has its interface or its\n"+
			"address in a network namespace lives, and so does what is newer than --older-than. Without --yes nothing is changed.",
			"cnibox "+name+" --runtime containerd", "crictl pods -o json | cnibox "+name+" --from - --yes", "cnibox "+name+" --runtime podman --network mynet --yes"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "runtime", Usage: "the `RUNTIME` whose sandboxes live: containerd, crio, podman or docker; may be repeated"},
			&cli.StringSliceFlag{Name: "from", Usage: "a `FILE` that lists those that live, - for standard input: container IDs, one a line, or JSON as crictl and podman print it"},
			&cli.BoolFlag{Name: "none-living", Usage: "take an empty list for what it says"},
			&cli.StringFlag{Name: "network", Usage: "only this `NETWORK`"},
			OlderThanFlag("only what is at least this `OLD`, as an ADD may be running"),
			&cli.BoolFlag{Name: "yes", Usage: "do it"},
			&cli.BoolFlag{Name: "verbose", Usage: "tell of what is kept too, and why"},
			networks.DirFlag(), PluginsFlag(),
			&cli.StringFlag{Name: "data-dir", Usage: "the `FOLDER` of host-local (ipam.dataDir), beside those that configurations name", Value: store.DefaultDir},
			ui.OutputFlag(),
		},
		Action: func(c *cli.Context) error { return run(c, table, only) },
	}
}

// PluginsFlag is --plugin-dir.
func PluginsFlag() cli.Flag {
	return &cli.StringFlag{Name: "plugin-dir", Usage: "the `FOLDER` of the plugins (CNI_PATH)", Value: "/opt/cni/bin"}
}

// OlderThanFlag is --older-than. Less than nothing would take what an ADD is just making.
func OlderThanFlag(usage string) cli.Flag {
	return &cli.DurationFlag{
		Name: "older-than", Usage: usage, Value: OlderThan,
		Action: func(_ *cli.Context, old time.Duration) error {
			if old < 0 {
				return ui.Usagef("--older-than %s: it is less than nothing", old)
			}
			return nil
		},
	}
}

// Open is the node that the flags name. Its Host is to be closed.
func Open(c *cli.Context, table roles.Table) (*Node, error) {
	all, _, err := networks.Load(c.String("conf-dir"))
	if err != nil {
		return nil, err
	}
	host, err := netutil.Current()
	if err != nil {
		return nil, err
	}
	host.WaitAtMost(node.LockWait)
	return &Node{
		Host: host, Table: table, Networks: all, ConfDir: c.String("conf-dir"), DataDir: c.String("data-dir"), LeaseDir: daemon.DefaultState, Plugins: c.String("plugin-dir"),
	}, nil
}

func run(c *cli.Context, table func() roles.Table, only string) error {
	living, err := livingOf(c)
	if err != nil {
		return err
	}
	n, err := Open(c, table())
	if err != nil {
		return err
	}
	defer n.Host.Close()
	snapshot, err := n.Snapshot(c.Context, 0)
	if err != nil {
		return err
	}
	all, err := n.Find(snapshot)
	if err != nil {
		return fmt.Errorf("not all of the node could be seen, so nothing is freed: %w", err)
	}
	n.Judge(all, Rules{Living: living, Network: c.String("network"), Older: c.Duration("older-than"), Only: only})
	r := &report{Attachments: []reported{}}
	var errs []error
	progress := ui.NewProgress(c.App.ErrWriter, "freed")
	for i, a := range all {
		one := reported{Network: a.Network, ContainerID: a.ContainerID, IfName: a.IfName, Things: a.Things, Kept: a.Kept, name: ui.Printable(a.String()), text: ui.Printable(a.Describe())}
		if a.Kept == "" && c.Bool("yes") {
			progress.At(i, len(all))
			if only != "" {
				err = n.dropAddresses(a)
			} else {
				err = n.Free(c.Context, a)
			}
			one.Freed = err == nil
			errs = append(errs, err)
		}
		r.Attachments = append(r.Attachments, one)
	}
	progress.Done()
	if c.String("output") == "json" {
		return errors.Join(append(errs, ui.JSON(c.App.Writer, r))...)
	}
	r.print(c.App.Writer, c.Bool("yes"), c.Bool("verbose"))
	return errors.Join(errs...)
}

// livingOf is who lives by the command line.
func livingOf(c *cli.Context) (*Living, error) {
	var lists []*Living
	for _, name := range c.StringSlice("runtime") {
		l, err := FromRuntime(name)
		if err != nil {
			return nil, err
		}
		lists = append(lists, l)
	}
	for _, path := range c.StringSlice("from") {
		l, err := readFile(c, path)
		if err != nil {
			return nil, err
		}
		if l.Len() == 0 && !c.Bool("none-living") {
			return nil, fmt.Errorf("--from %s: %w", path, ErrNoneLiving)
		}
		lists = append(lists, l)
	}
	if len(lists) == 0 {
		return nil, ui.Usagef("%s: want --runtime or --from, to know who lives", c.Command.Name)
	}
	return merge(lists), nil
}

func readFile(c *cli.Context, path string) (*Living, error) {
	if path == "-" {
		if c.App.Reader != nil { // in tests
			return Read("standard input", c.App.Reader)
		}
		return Read("standard input", os.Stdin)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	l, err := Read(path, file)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() && info.ModTime().Before(l.Taken) {
		l.Taken = info.ModTime() // what has come since is not in it
	}
	return l, nil
}

// merge is all of the lists, as old as the oldest.
func merge(lists []*Living) *Living {
	all := lists[0]
	for _, l := range lists[1:] {
		all.Of += ", " + l.Of
		if l.Taken.Before(all.Taken) {
			all.Taken = l.Taken
		}
		for id, names := range l.ids {
			if names == nil {
				all.add(id, "")
			}
			for _, name := range names {
				all.add(id, name)
			}
		}
	}
	return all
}

// report is what the command tells.
type report struct {
	Attachments []reported `json:"attachments"`
}

type reported struct {
	Network     string  `json:"network"`
	ContainerID string  `json:"containerID"`
	IfName      string  `json:"ifName,omitempty"`
	Things      []Thing `json:"things"`
	Kept        string  `json:"kept,omitempty"` // why; empty: it goes
	Freed       bool    `json:"freed"`

	name, text string
}

func (r *report) print(out io.Writer, yes, verbose bool) {
	c := ui.ColoursFor(out)
	stale := 0
	for _, a := range r.Attachments {
		word := "would free"
		switch {
		case a.Kept != "":
			if verbose {
				_, _ = fmt.Fprintf(out, "keeps %s: %s\n  %s\n", a.name, ui.Printable(a.Kept), c.Faint(a.text))
			}
			continue
		case a.Freed:
			word = "freed"
		case yes:
			word = "failed to free"
		}
		stale++
		_, _ = fmt.Fprintf(out, "%s %s\n  %s\n", word, c.Strong(a.name), a.text)
	}
	switch {
	case stale == 0:
		_, _ = fmt.Fprintf(out, "nothing to free: all of %d attachments are kept\n", len(r.Attachments))
	case !yes:
		_, _ = fmt.Fprintf(out, "%d of %d attachments; nothing was changed, --yes frees them\n", stale, len(r.Attachments))
	}
}
