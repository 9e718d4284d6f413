// Package dhcp is the command that runs the daemon of the plugin dhcp.
package dhcp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/ipam/dhcp/daemon"
)

// Command is `cnibox dhcp`.
func Command() *cli.Command {
	t := daemon.DefaultTiming()
	return &cli.Command{
		Name:  "dhcp",
		Usage: "the daemon that the plugin dhcp needs",
		Subcommands: []*cli.Command{{
			Name:  "daemon",
			Usage: "ask DHCP servers for pods' addresses, and keep their leases",
			Description: ui.Describe("Runs until SIGTERM. Leases are kept on disk: started again, it goes on renewing them. A socket that systemd\n"+
				"hands over (LISTEN_FDS) is taken.",
				"cnibox dhcp daemon", "cnibox dhcp daemon --broadcast --pidfile /run/cnibox-dhcp.pid"),
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "socketpath", Usage: "the `SOCKET` on which plugins call (ipam.daemonSocketPath)", Value: daemon.DefaultSocket},
				&cli.StringFlag{Name: "state-dir", Usage: "the `FOLDER` for leases", Value: daemon.DefaultState},
				&cli.StringFlag{Name: "hostprefix", Usage: "the `PATH` of the host's root, in front of all paths"},
				&cli.StringFlag{Name: "pidfile", Usage: "a `FILE` to write the process number to"},
				&cli.BoolFlag{Name: "broadcast", Usage: "have servers answer by broadcast"},
				&cli.DurationFlag{Name: "timeout", Usage: "how long the answer to one request is waited for", Value: t.Timeout},
				&cli.DurationFlag{Name: "resendmax", Usage: "the longest time between two requests", Value: t.ResendMax},
				&cli.DurationFlag{Name: "resendtimeout", Usage: "how long a server's offer is waited for", Value: t.ResendTimeout},
			},
			Action: runDaemon,
		}},
	}
}

func runDaemon(c *cli.Context) (err error) {
	prefix := c.String("hostprefix")
	conf := daemon.Config{
		Socket: prefix + c.String("socketpath"), State: prefix + c.String("state-dir"), HostPrefix: prefix, Log: c.App.ErrWriter,
		Timing: daemon.Timing{
			Timeout: c.Duration("timeout"), ResendMax: c.Duration("resendmax"), ResendTimeout: c.Duration("resendtimeout"), Broadcast: c.Bool("broadcast"),
		},
	}
	for _, d := range []string{"timeout", "resendmax", "resendtimeout"} {
		if c.Duration(d) <= 0 {
			return ui.Usagef("--%s %s: want more than nothing", d, c.Duration(d))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	l, err := daemon.Listen(os.Getenv, conf.Socket)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if file := c.String("pidfile"); file != "" {
		if !filepath.IsAbs(file) {
			return errors.Join(ui.Usagef("--pidfile %s: want an absolute path", file), l.Close())
		}
		if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			return errors.Join(err, l.Close())
		}
		defer func() { err = errors.Join(err, os.Remove(file)) }()
	}
	d, err := daemon.New(ctx, conf)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer d.Wait()
	defer stop()
	return d.Serve(ctx, l)
}
