// Package install is the commands that put the program and its plugins where runtimes look for them, and take them away.
package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/command/ui"
)

const defaultConf = "/etc/cni/net.d/10-cnibox.conflist"

// Command is `cnibox install`. The names are those of all plugins, told when it runs; version is the program's.
func Command(version string, all func() []string) *cli.Command {
	return &cli.Command{
		Name:  "install",
		Usage: "copy this program into a folder, with a symlink for each plugin",
		Description: ui.Describe("All or nothing, and atomic: a runtime finds either the old plugins or the new ones, and calls that run\n"+
			"meanwhile go on. A program that is not cnibox's is left alone, unless --force is given.\n\n"+
			"With --conf it also puts a network configuration where the runtime looks for it, after the plugins, since a\n"+
			"runtime is ready as soon as there is one. With --wait it then runs until SIGTERM, as the only container of a\n"+
			"DaemonSet, and puts the configuration there again when the file has changed. What it has installed stays.",
			"cnibox install", "cnibox install --dir /usr/lib/cni --force", "cnibox install --role bridge --role host-local",
			"cnibox install --dir /host/opt/cni/bin --conf /conf/net.conflist --conf-to /host/etc/cni/net.d/10-net.conflist --wait"),
		Flags: []cli.Flag{
			dirFlag(),
			&cli.StringSliceFlag{Name: "role", Usage: "install only this `PLUGIN`; may be repeated"},
			&cli.BoolFlag{Name: "force", Usage: "replace other programs too; each is kept as NAME" + backupSuffix},
			&cli.BoolFlag{Name: "skip-foreign", Usage: "leave out plugins in whose place there are other programs"},
			&cli.StringFlag{Name: "conf", Usage: "also install this `FILE`, a network configuration (list)"},
			&cli.StringFlag{Name: "conf-to", Usage: "the `FILE` to install it as", Value: defaultConf},
			&cli.BoolFlag{Name: "wait", Usage: "when all is installed, wait for SIGTERM"},
		},
		Action: func(c *cli.Context) error {
			names, err := chosen(c.StringSlice("role"), all())
			if err != nil {
				return err
			}
			how := installation{version: version, dir: c.String("dir"), names: names, force: c.Bool("force"), skip: c.Bool("skip-foreign")}
			switch {
			case how.force && how.skip:
				return ui.Usagef("--force and --skip-foreign exclude each other")
			case c.IsSet("conf-to") && !c.IsSet("conf"):
				return ui.Usagef("--conf-to without --conf")
			case c.IsSet("conf") && (c.String("conf") == "" || c.String("conf-to") == ""):
				return ui.Usagef("--conf and --conf-to want a file")
			}
			conf := &confFile{from: c.String("conf"), to: c.String("conf-to"), farm: how.dir}
			return installAll(c, how, conf)
		},
	}
}

// installAll installs the farm, then the configuration if there is one, and waits if that is wanted.
func installAll(c *cli.Context, how installation, conf *confFile) error {
	// From here on, so that a SIGTERM ends the wait and never the work.
	ctx, stop := signal.NotifyContext(c.Context, unix.SIGINT, unix.SIGTERM)
	defer stop()
	self, err := openSelf(os.Args[0])
	if err != nil {
		return err
	}
	defer func() { _ = self.Close() }()
	if err := install(c.App.Writer, self, how); err != nil {
		return err
	}
	if conf.from != "" {
		if _, err := conf.install(c.App.Writer); err != nil {
			return err
		}
	}
	if c.Bool("wait") {
		watch(ctx, c.App.Writer, c.App.ErrWriter, conf)
	}
	return nil
}

// confInterval is how often a configuration is looked at again. A ConfigMap that is mounted is itself up to a minute behind.
const confInterval = 10 * time.Second

// watch waits for the end of ctx, and installs a configuration again whenever it has changed. One that is wrong is told of once, and the last
// that was right stays.
func watch(ctx context.Context, out, errOut io.Writer, conf *confFile) {
	_, _ = fmt.Fprintln(out, "waiting for SIGTERM; what is installed stays")
	tick := time.NewTicker(confInterval)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if conf.from == "" {
			continue
		}
		_, err := conf.install(out)
		if err == nil {
			told = ""
		} else if told != err.Error() {
			told = err.Error()
			_, _ = fmt.Fprintf(errOut, "cnibox: %v\n", err)
		}
	}
}

// installation is what to install, and how.
type installation struct {
	version string
	dir     string
	names   []string // of plugins
	force   bool     // replace foreign programs, and keep them
	skip    bool     // leave foreign programs' names out
}

// install makes the farm and says what it did.
func install(out io.Writer, self *os.File, how installation) (err error) {
	if err := os.MkdirAll(how.dir, 0o755); err != nil {
		return err
	}
	f, err := openFarm(how.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	names := how.names
	if how.skip {
		var foreign []string
		if names, foreign, err = f.without(names); err != nil {
			return err
		}
		if len(foreign) > 0 {
			_, _ = fmt.Fprintf(out, "%s: not cnibox's, so left alone: %s\n", how.dir, strings.Join(foreign, ", "))
		}
	}
	backups, err := f.install(self, names, how.force)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "installed cnibox %s in %s as %s\n", how.version, how.dir, strings.Join(names, ", "))
	for _, name := range backups {
		_, _ = fmt.Fprintf(out, "kept the former %s as %s\n", name, name+backupSuffix)
	}
	return nil
}

// chosen is what --role names, all plugins if it is not given.
func chosen(flags, all []string) ([]string, error) {
	if len(flags) == 0 {
		return all, nil
	}
	for _, name := range flags {
		if !slices.Contains(all, name) {
			return nil, ui.Usagef("--role %s: no such plugin; there are %s", name, strings.Join(all, ", "))
		}
	}
	slices.Sort(flags)
	return slices.Compact(flags), nil
}

func dirFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "dir", Usage: "the `FOLDER` where the runtime looks for plugins (CNI_PATH)", Value: defaultFarm,
		Action: func(_ *cli.Context, dir string) error {
			if dir == "" {
				return ui.Usagef("--dir is empty")
			}
			return nil
		},
	}
}
