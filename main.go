// Command cnibox is every CNI plugin of a Linux node in one executable. It acts by the name that it is called by.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/static"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/bridge"
	"github.com/cnibox/cnibox/roles/loopback"
	"github.com/cnibox/cnibox/roles/ptp"
)

// roleTable is every plugin that this executable is.
func roleTable() roles.Table {
	return roles.Table{
		"bridge":     bridge.New(),
		"host-local": hostlocal.New(),
		"loopback":   loopback.New(),
		"ptp":        ptp.New(),
		"static":     static.New(),
	}
}

func main() {
	os.Exit(dispatch(os.Args))
}

// dispatch finds the role in the name of the program (a symlink) or, on hosts without symlinks, in the first argument. The command line
// is everything else.
func dispatch(args []string) int {
	if len(args) == 0 {
		return commandLine([]string{"cnibox"})
	}
	table := roleTable()
	name := filepath.Base(args[0])
	if table[name] == nil && len(args) == 2 && table[args[1]] != nil {
		name = args[1]
	}
	if table[name] == nil {
		return commandLine(args)
	}
	return plugin(name, table)
}

func plugin(name string, table roles.Table) int {
	// A runtime that goes away must not keep an ADD from being undone: a lost reader is an error like others, and so is a signal.
	// SIGPIPE is taken rather than ignored, since a delegate would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return roles.Run(ctx, roles.Exchange{Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}, name, table)
}
