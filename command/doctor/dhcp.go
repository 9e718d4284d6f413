package doctor

import (
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/cnibox/cnibox/ipam/dhcp/daemon"
)

// dhcpDaemon looks whether the daemon answers, where it is needed.
func dhcpDaemon(f *facts, l *list) {
	leases := 0
	for _, a := range f.node.Attachments {
		if a.Leased {
			leases++
		}
	}
	if leases == 0 && !f.uses("dhcp") {
		return
	}
	for _, socket := range f.dhcpSockets() {
		c, err := net.DialTimeout("unix", socket, time.Second)
		if err == nil {
			_ = c.Close()
			continue
		}
		what, why := fmt.Sprintf("no dhcp daemon answers on %s", socket), "ADD of its networks fails"
		if leases > 0 {
			why = fmt.Sprintf("the leases of %s are not renewed, and run out", number(leases, "attachment"))
		}
		l.add(Problem, what, why, "start it: cnibox dhcp daemon, best by systemd")
	}
}

// dhcpSockets are those that the networks name, the default one if they name none.
func (f *facts) dhcpSockets() (sockets []string) {
	known := map[string]bool{}
	add := func(path string) {
		if path == "" {
			path = daemon.DefaultSocket
		}
		if !known[path] {
			known[path], sockets = true, append(sockets, path)
		}
	}
	for i := range f.nets {
		for _, p := range f.nets[i].Plugins {
			var c struct {
				IPAM struct {
					Socket string `json:"daemonSocketPath"`
				} `json:"ipam"`
			}
			if p.IPAM == "dhcp" && json.Unmarshal(p.Conf, &c) == nil {
				add(c.IPAM.Socket)
			}
		}
	}
	if sockets == nil {
		add("")
	}
	return sockets
}
