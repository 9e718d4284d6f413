package main

import (
	"maps"
	"slices"

	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/fused"
)

// roleInfo is what the command line tells about a role.
type roleInfo struct {
	Name        string   `json:"name"`
	Kind        string   `json:"kind"` // main, meta or ipam, as the CNI project sorts plugins
	CNIVersions []string `json:"cniVersions"`
	Summary     string   `json:"summary"`
}

// roleInfos describes every role, sorted by name.
func roleInfos() []roleInfo {
	infos := []roleInfo{
		{Name: "bandwidth", Kind: "meta", Summary: "limits how fast a pod sends and receives"},
		{Name: "bridge", Kind: "main", Summary: "joins pods to a bridge by a veth pair"},
		{Name: fused.Name, Kind: "meta", Summary: "runs the plugins of a list in one process"},
		{Name: "dhcp", Kind: "ipam", Summary: "asks a DHCP server, by way of a daemon (cnibox dhcp daemon)"},
		{Name: "dummy", Kind: "main", Summary: "gives the pod an interface that leads nowhere"},
		{Name: "firewall", Kind: "meta", Summary: "admits pods' forwarded traffic, and keeps pods apart"},
		{Name: "flannel", Kind: "meta", Summary: "attaches pods to the subnet that flanneld has given to this node"},
		{Name: "host-device", Kind: "main", Summary: "hands an interface of the host over to a pod"},
		{Name: "host-local", Kind: "ipam", Summary: "gives addresses from ranges, kept on the node's disk"},
		{Name: "ipvlan", Kind: "main", Summary: "gives the pod an interface on one of the host's, with that one's MAC address"},
		{Name: "loopback", Kind: "main", Summary: "brings up the pod's loopback interface"},
		{Name: "macvlan", Kind: "main", Summary: "gives the pod an interface on one of the host's, with a MAC address of its own"},
		{Name: "portmap", Kind: "meta", Summary: "leads ports of the host to pods"},
		{Name: "ptp", Kind: "main", Summary: "joins a pod to the host by a routed veth pair"},
		{Name: "sbr", Kind: "meta", Summary: "has a pod answer on the interface where it was asked"},
		{Name: "static", Kind: "ipam", Summary: "gives the addresses that the configuration names"},
		{Name: "tap", Kind: "main", Summary: "gives a pod a tap device, for a virtual machine to open"},
		{Name: "tuning", Kind: "meta", Summary: "changes sysctls and attributes of a pod's interface"},
		{Name: "vlan", Kind: "main", Summary: "gives the pod an interface in a VLAN of one of the host's"},
		{Name: "vrf", Kind: "meta", Summary: "gives a pod's interface a routing table of its own"},
		{Name: "vxlan", Kind: "main", Summary: "connects the pods of many nodes, through a tunnel"},
	}
	for i := range infos {
		infos[i].CNIVersions = roles.Versions()
	}
	return infos
}

// roleKinds are the kinds of all roles.
func roleKinds() map[string]string {
	kinds := map[string]string{}
	for _, info := range roleInfos() {
		kinds[info.Name] = info.Kind
	}
	return kinds
}

// pluginNames are the names of all plugins, sorted.
func pluginNames() []string { return slices.Sorted(maps.Keys(roleTable())) }
