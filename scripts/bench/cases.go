package main

import (
	"encoding/json"
	"slices"
)

// network is a case of pods on one network: which plugins, with which configuration.
type network struct {
	name   string
	main   string // the first plugin
	v4, v6 bool
	masq   bool
	chain  []string // the plugins behind it
	scales bool     // with the number of pods; else it is measured at the first number only
	atOnce []int    // how many pods come at the same time, besides one after the other
	quick  bool     // part of the short form, with the number of pods if it scales
}

const portsPerPod = 5

func networks() []network {
	return []network{
		{name: "loopback", main: "loopback", quick: true},
		{name: "bridge", main: "bridge", v4: true, scales: true, quick: true},
		{name: "bridge + masquerade", main: "bridge", v4: true, masq: true, scales: true, atOnce: []int{10, 50}, quick: true},
		{name: "ptp + masquerade", main: "ptp", v4: true, masq: true, scales: true, quick: true},
		{name: "ptp, IPv6", main: "ptp", v6: true, quick: true},
		{name: "bridge, IPv6", main: "bridge", v6: true},
		{name: "bridge, dual stack", main: "bridge", v4: true, v6: true},
		{name: "bridge + masquerade + portmap", main: "bridge", v4: true, masq: true, chain: []string{"portmap"}, scales: true, quick: true},
		{
			name: "bridge, portmap, firewall, bandwidth", main: "bridge", v4: true, masq: true,
			chain: []string{"portmap", "firewall", "bandwidth"}, scales: true, atOnce: []int{50},
		},
	}
}

// within cuts the chain down to the plugins that there are. What is missing is returned.
func (n *network) within(roles map[string]bool) (missing []string) {
	lacks := func(role string) bool { return !roles[role] }
	for _, role := range append([]string{n.main}, n.chain...) {
		if lacks(role) {
			missing = append(missing, role)
		}
	}
	n.chain = slices.DeleteFunc(slices.Clone(n.chain), lacks)
	return missing
}

// has tells whether a contender takes part.
func (n *network) has(contender string) bool {
	filters := n.masq || len(n.chain) > 0
	switch contender {
	case cnibox:
		return true
	case cniboxFused:
		return len(n.chain) > 0
	case reference:
		return !filters
	case refNftables, refIptables:
		return filters
	case floor:
		return n.main != "loopback" && len(n.chain) == 0 && n.v4 != n.v6
	default:
		return false
	}
}

// list is the configuration list for a contender that keeps its addresses below dataDir.
func (n *network) list(c contender, dataDir string) ([]byte, error) {
	type object = map[string]any
	first := object{"type": n.main}
	if n.main != "loopback" {
		var ranges [][]object
		if n.v4 {
			ranges = append(ranges, []object{{"subnet": "10.100.0.0/16"}})
		}
		if n.v6 {
			ranges = append(ranges, []object{{"subnet": "fd00:100::/64"}})
		}
		first["ipam"] = object{"type": "host-local", "dataDir": dataDir, "ranges": ranges}
		first["ipMasq"] = n.masq
		if c.backend != "" {
			first["ipMasqBackend"] = c.backend
		}
	}
	if n.main == "bridge" {
		first["bridge"], first["isDefaultGateway"] = "cni0", true
	}
	plugins := []object{first}
	for _, role := range n.chain {
		plugin := object{"type": role}
		switch role {
		case "portmap":
			plugin["capabilities"] = object{"portMappings": true}
			if c.backend != "" {
				plugin["backend"] = c.backend
			}
		case "bandwidth":
			plugin["capabilities"] = object{"bandwidth": true}
		}
		plugins = append(plugins, plugin)
	}
	return json.Marshal(object{"cniVersion": "1.0.0", "name": "bench", "plugins": plugins})
}

// capabilities are the runtime's part of a pod's configuration. Each pod has host ports of its own.
func (n *network) capabilities(pod int) map[string]any {
	args := map[string]any{}
	if slices.Contains(n.chain, "portmap") {
		var mappings []any
		for i := range portsPerPod {
			hostPort := 10_000 + (pod*portsPerPod+i)%50_000
			mappings = append(mappings, map[string]any{"hostPort": hostPort, "containerPort": 8000 + i, "protocol": "tcp"})
		}
		args["portMappings"] = mappings
	}
	if slices.Contains(n.chain, "bandwidth") {
		args["bandwidth"] = map[string]any{
			"ingressRate": 100_000_000, "ingressBurst": 10_000_000, "egressRate": 100_000_000, "egressBurst": 10_000_000,
		}
	}
	return args
}
