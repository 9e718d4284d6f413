package main

import (
	"fmt"
	"maps"
	"net"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/ipam/dhcp/dhcptest"
	"github.com/cnibox/cnibox/netutil/nstest"
)

// dhcpd LINK ADDRESS
func cmdDHCPD(ts *testscript.TestScript, neg bool, args []string) {
	h := hostOf(ts)
	usage(ts, !neg && len(args) == 2 && h.dhcpd == nil, "dhcpd LINK ADDRESS, once")
	h.dhcpd = dhcptest.Start(h.t, h.ns, args[0], args[1], dhcptest.Policy{})
}

// leases [CLIENT=ADDRESS...]
func cmdLeases(ts *testscript.TestScript, neg bool, args []string) {
	h := hostOf(ts)
	usage(ts, !neg && h.dhcpd != nil, "leases [CLIENT=ADDRESS...], after dhcpd")
	slices.Sort(args)
	want, have := strings.Join(args, " "), ""
	for range 200 { // nobody is told when a server has heard of a release
		var all []string
		held := h.dhcpd.Held()
		for _, id := range slices.Sorted(maps.Keys(held)) {
			all = append(all, fmt.Sprintf("%s=%s", id, held[id]))
		}
		if have = strings.Join(all, " "); have == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("leased are %q, not %q", have, want)
}

const daemonCapabilities = "-all,+net_admin,+net_bind_service,+net_raw,+sys_admin"

// daemon start|kill
func cmdDaemon(ts *testscript.TestScript, neg bool, args []string) {
	h := hostOf(ts)
	start := len(args) == 1 && args[0] == "start"
	usage(ts, !neg && (start && h.daemon == nil || len(args) == 1 && args[0] == "kill" && h.daemon != nil), "daemon start|kill")
	if !start {
		ts.Check(h.daemon.Process.Kill())
		_ = h.daemon.Wait() // killed
		h.daemon = nil
		return
	}
	socket := ts.MkAbs("dhcp.sock")
	cmd := exec.Command(h.farm+"/cnibox", "dhcp", "daemon", "--socketpath", socket, "--state-dir", ts.MkAbs("dhcp"), "--resendtimeout", "2s")
	if setpriv, err := exec.LookPath("setpriv"); err == nil { // with the capabilities that SECURITY.md tells of, and no others
		cmd.Path, cmd.Args = setpriv, append([]string{setpriv, "--bounding-set=" + daemonCapabilities, "--inh-caps=-all", "--"}, cmd.Args...)
	}
	ts.Check(nstest.Enter(h.ns.Path, cmd.Start)) // with the machine's mounts: it is to see pods that are made later
	h.daemon = cmd
	ts.Defer(func() {
		if h.daemon != cmd {
			return
		}
		_ = cmd.Process.Signal(unix.SIGTERM)
		if err := cmd.Wait(); err != nil {
			ts.Logf("the daemon: %v", err)
		}
	})
	for range 500 {
		if c, err := net.Dial("unix", socket); err == nil {
			_ = c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("the daemon does not listen")
}
