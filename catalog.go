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
		{Name: "bridge", Kind: "main", Summary: "joins pods to a bridge by a veth pair"},
		{Name: fused.Name, Kind: "meta", Summary: "runs the plugins of a list in one process"},
		{Name: "firewall", Kind: "meta", Summary: "admits pods' forwarded traffic, and keeps pods apart"},
		{Name: "host-local", Kind: "ipam", Summary: "gives addresses from ranges, kept on the node's disk"},
		{Name: "loopback", Kind: "main", Summary: "brings up the pod's loopback interface"},
		{Name: "portmap", Kind: "meta", Summary: "leads ports of the host to pods"},
		{Name: "ptp", Kind: "main", Summary: "joins a pod to the host by a routed veth pair"},
		{Name: "static", Kind: "ipam", Summary: "gives the addresses that the configuration names"},
	}
	for i := range infos {
		infos[i].CNIVersions = roles.Versions()
	}
	return infos
}

func sortedNames(table roles.Table) []string { return slices.Sorted(maps.Keys(table)) }
