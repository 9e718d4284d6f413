// Command cnibox is every CNI plugin of a Linux node in one executable. It acts by the name that it is called by.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/ipam/dhcp"
	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/static"
	"github.com/cnibox/cnibox/netutil/trace"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/bandwidth"
	"github.com/cnibox/cnibox/roles/bridge"
	"github.com/cnibox/cnibox/roles/dummy"
	"github.com/cnibox/cnibox/roles/firewall"
	"github.com/cnibox/cnibox/roles/flannel"
	"github.com/cnibox/cnibox/roles/fused"
	"github.com/cnibox/cnibox/roles/hostdevice"
	"github.com/cnibox/cnibox/roles/ipvlan"
	"github.com/cnibox/cnibox/roles/loopback"
	"github.com/cnibox/cnibox/roles/macvlan"
	"github.com/cnibox/cnibox/roles/portmap"
	"github.com/cnibox/cnibox/roles/ptp"
	"github.com/cnibox/cnibox/roles/sbr"
	"github.com/cnibox/cnibox/roles/tap"
	"github.com/cnibox/cnibox/roles/tuning"
	"github.com/cnibox/cnibox/roles/vlan"
	"github.com/cnibox/cnibox/roles/vrf"
	"github.com/cnibox/cnibox/roles/vxlan"
)

// roleTable is every plugin that this executable is.
func roleTable() roles.Table {
	return roles.Table{
		"bandwidth":   bandwidth.New(),
		"bridge":      bridge.New(),
		fused.Name:    fused.New(),
		"dhcp":        dhcp.New(),
		"dummy":       dummy.New(),
		"firewall":    firewall.New(),
		"flannel":     flannel.New(),
		"host-device": hostdevice.New(),
		"host-local":  hostlocal.New(),
		"ipvlan":      ipvlan.New(),
		"loopback":    loopback.New(),
		"macvlan":     macvlan.New(),
		"portmap":     portmap.New(),
		"ptp":         ptp.New(),
		"sbr":         sbr.New(),
		"static":      static.New(),
		"tap":         tap.New(),
		"tuning":      tuning.New(),
		"vlan":        vlan.New(),
		"vrf":         vrf.New(),
		"vxlan":       vxlan.New(),
	}
}

func main() {
	// Work in other namespaces is done on threads that end with it, which the process's first thread cannot: it would stay there, and keep the
	// namespace of a container that is gone, as long as the process runs.
	runtime.LockOSThread()
	os.Exit(dispatch(os.Args))
}

// dispatch finds the role in the name of the program (a symlink) or, on hosts without symlinks, in the first argument. The command line
// is everything else. The executable's own name is a role's as well: a runtime calls it without arguments and with CNI_COMMAND set.
func dispatch(args []string) int {
	if len(args) == 0 {
		return commandLine([]string{ui.Program})
	}
	if isDaemon(args) {
		return commandLine(append([]string{ui.Program, "dhcp"}, args[1:]...))
	}
	table := roleTable()
	name := filepath.Base(args[0])
	isRole := table[name] != nil
	if name == ui.Program {
		isRole = len(args) == 1 && os.Getenv("CNI_COMMAND") != ""
	}
	if !isRole && len(args) == 2 {
		name = args[1]
		isRole = table[name] != nil
	}
	if !isRole {
		return commandLine(args)
	}
	return plugin(name, table)
}

// isDaemon tells whether the program is called as the reference's daemon is: by the plugin's name, with the word daemon.
func isDaemon(args []string) bool {
	return len(args) > 1 && filepath.Base(args[0]) == "dhcp" && args[1] == "daemon"
}

func plugin(name string, table roles.Table) int {
	runtime.UnlockOSThread() // it soon ends, and is faster so
	if path := os.Getenv("CNIBOX_TRACE"); path != "" {
		if err := trace.Enable(path, os.Getenv("TRACEPARENT")); err != nil {
			_, _ = fmt.Fprintf(os.Stderr, "cnibox %s: CNIBOX_TRACE: %v\n", name, err)
		}
	}
	ctx := context.Background()
	// A runtime that gives up must not keep an ADD from being undone. The other calls can be made again, and to watch for signals takes a
	// thread.
	if os.Getenv("CNI_COMMAND") == "ADD" {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
		defer stop()
	}
	return roles.Run(ctx, roles.Exchange{Getenv: os.Getenv, Stdin: os.Stdin, Stdout: stdout{}, Stderr: os.Stderr}, name, table)
}

// stdout is standard output of which a lost reader is an error like others: os.Stdout would have the process killed by SIGPIPE, before an
// ADD could be undone. Ignoring the signal would do too, but a delegate would inherit that.
type stdout struct{}

func (stdout) Write(b []byte) (n int, err error) {
	for n < len(b) {
		k, err := unix.Write(1, b[n:])
		if err == unix.EAGAIN { // it does not block: wait until it takes more
			_, err = unix.Poll([]unix.PollFd{{Fd: 1, Events: unix.POLLOUT}}, -1)
		}
		if err != nil && err != unix.EINTR {
			return n, &os.PathError{Op: "write", Path: "standard output", Err: err}
		}
		n += max(k, 0)
	}
	return n, nil
}
