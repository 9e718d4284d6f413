package main

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

// Each list of each contender is one that libcni takes, with the plugins of the case.
func TestLists(t *testing.T) {
	t.Parallel()
	for _, n := range networks() {
		for _, c := range contenders("/temp", nil) {
			raw, err := n.list(c, "/temp/networks")
			if err != nil {
				t.Fatal(err)
			}
			list, err := libcni.NetworkConfFromBytes(raw)
			if err != nil {
				t.Fatalf("%s, %s: %v\n%s", n.name, c.name, err, raw)
			}
			var types []string
			for _, p := range list.Plugins {
				types = append(types, p.Network.Type)
			}
			if want := append([]string{n.main}, n.chain...); !slices.Equal(types, want) {
				t.Errorf("%s, %s: the plugins are %v, want %v", n.name, c.name, types, want)
			}
		}
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	n := network{main: "bridge", chain: []string{"portmap", "firewall", "bandwidth"}}
	missing := n.within(map[string]bool{"bridge": true, "portmap": true, "bandwidth": true})
	if !slices.Equal(missing, []string{"firewall"}) || !slices.Equal(n.chain, []string{"portmap", "bandwidth"}) {
		t.Errorf("missing %v, left %v", missing, n.chain)
	}
}

// Pods that are there at the same time have no host port in common.
func TestHostPorts(t *testing.T) {
	t.Parallel()
	n := network{main: "bridge", chain: []string{"portmap"}}
	seen := map[int]bool{}
	for pod := range 2000 {
		raw, err := json.Marshal(n.capabilities(pod))
		if err != nil {
			t.Fatal(err)
		}
		var args struct{ PortMappings []struct{ HostPort int } }
		if err := json.Unmarshal(raw, &args); err != nil {
			t.Fatal(err)
		}
		for _, m := range args.PortMappings {
			if seen[m.HostPort] || m.HostPort < 1024 || m.HostPort > 65535 {
				t.Fatalf("pod %d: host port %d", pod, m.HostPort)
			}
			seen[m.HostPort] = true
		}
	}
	if len(seen) != 2000*portsPerPod {
		t.Errorf("%d host ports", len(seen))
	}
}
