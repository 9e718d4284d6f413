package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// usualList is a list as operators write them. DATA stands for a folder.
type usualList struct {
	name    string
	needs   []string // features of the kernel
	prepare string   // a command on the host before
	plugins string
	shows   string // a command in the pod, and on the host behind "host:", that works while it is attached
	stays   []string
}

const (
	addresses = `"ipam": {"type": "host-local", "dataDir": "DATA", "ranges": [[{"subnet": "10.91.0.0/24"}], [{"subnet": "fd91::/64"}]], "routes": [{"dst": "0.0.0.0/0"}]}`
	uplink    = "ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up"
)

// usualLists are the chains that people run.
func usualLists() []usualList {
	return []usualList{
		{
			name: "bridge, portmap, firewall, bandwidth, tuning", needs: []string{"tbf", "ifb"}, stays: []string{"br0"},
			plugins: `{"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, ` + addresses + `},
				{"type": "portmap", "capabilities": {"portMappings": true}}, {"type": "firewall", "ingressPolicy": "same-bridge"},
				{"type": "bandwidth", "ingressRate": 80000000, "ingressBurst": 8000000, "egressRate": 80000000, "egressBurst": 8000000},
				{"type": "tuning", "dataDir": "DATA/tuning", "sysctl": {"net.core.somaxconn": "77"}, "mtu": 1400}`,
			shows: "ping -c1 -W5 10.91.0.1 && ping -c1 -W5 fd91::1 && ip link show eth0 | grep -q 'mtu 1400' host: tc qdisc | grep -q tbf",
		},
		{
			name:    "ptp, portmap",
			plugins: `{"type": "ptp", "ipMasq": true, ` + addresses + `}, {"type": "portmap", "capabilities": {"portMappings": true}}`,
			shows:   "ping -c1 -W5 10.91.0.1 host: nft list map inet cnibox ports_ipv4 | grep -q 8080",
		},
		{
			name: "macvlan, sbr, tuning", needs: []string{"macvlan"}, prepare: uplink, stays: []string{"up0", "up1"},
			plugins: `{"type": "macvlan", "master": "up0", ` + addresses + `}, {"type": "sbr"}, {"type": "tuning", "dataDir": "DATA/tuning", "promisc": true}`,
			shows:   "ip rule | grep -q 'from 10.91.0.[0-9]* lookup 100' && ip link show eth0 | grep -q PROMISC host: true",
		},
		{
			name: "flannel, portmap", stays: []string{"cni0"},
			prepare: `printf 'FLANNEL_NETWORK=10.91.0.0/16\nFLANNEL_SUBNET=10.91.0.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n' > DATA/subnet.env`,
			plugins: `{"type": "flannel", "subnetFile": "DATA/subnet.env", "dataDir": "DATA/flannel", "ipam": {"dataDir": "DATA"}},
				{"type": "portmap", "capabilities": {"portMappings": true}}`,
			shows: "ping -c1 -W5 10.91.0.1 host: nft list map inet cnibox ports_ipv4 | grep -q 8080",
		},
		{
			name: "bridge, vrf", needs: []string{"vrf"}, stays: []string{"br0"},
			plugins: `{"type": "bridge", "bridge": "br0", "isGateway": true, ` + addresses + `}, {"type": "vrf", "vrfname": "blue"}`,
			shows:   "ping -c1 -W5 -I blue 10.91.0.1 host: true",
		},
	}
}

// Each of the usual lists, as it stands and fused into one plugin, is attached, checked, kept by GC, and taken away by either form or by GC.
func TestChains(t *testing.T) {
	t.Parallel()
	for _, c := range usualLists() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nstest.Need(t, c.needs...)
			h := newFusedHost(t, `{"cniVersion": "1.1.0", "name": "net", "plugins": [`+c.plugins+`]}`)
			if c.prepare != "" {
				h.ns.Run("sh", "-c", strings.ReplaceAll(c.prepare, "DATA", h.data))
			}
			for _, forms := range [][2]string{{"list", "list"}, {"fused", "fused"}, {"list", "fused"}, {"fused", "list"}} {
				h.must("ADD", forms[0])
				inPod, onHost, _ := strings.Cut(c.shows, " host: ")
				h.pod.Run("sh", "-c", inPod)
				h.ns.Run("sh", "-c", onHost)
				h.must("STATUS", forms[0])
				h.must("CHECK", forms[0])
				h.must("GC", forms[0])
				h.must("CHECK", forms[0])
				h.must("DEL", forms[1])
				h.must("DEL", forms[1])
				h.wantNothing(c)
			}
			h.must("ADD", "list")
			h.pod.Remove()
			h.must("GC of all", "fused")
			h.wantNothing(c)
		})
	}
}

// wantNothing fails the test if anything of the attachment is left.
func (h *fusedHost) wantNothing(c usualList) {
	h.t.Helper()
	leaks, err := h.ns.Leaks(c.stays...)
	if err != nil || len(leaks) > 0 {
		h.t.Errorf("left on the host: %q (%v)", leaks, err)
	}
	for _, pattern := range []string{"net/10.*", "net/fd*", "tuning/*", "flannel/*"} {
		if files, err := filepath.Glob(filepath.Join(h.data, pattern)); err != nil || len(files) > 0 {
			h.t.Errorf("left: %q (%v)", files, err)
		}
	}
	if _, err := os.Stat(h.pod.Path); err != nil {
		h.t.Error(err)
	}
}
