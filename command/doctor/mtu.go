package doctor

import (
	"fmt"

	"github.com/cnibox/cnibox/command/node"
)

// mtu compares the MTUs of links that packets go through one after the other. Of a pod's link and its other end the snapshot tells.
func mtu(f *facts, l *list) {
	f.bridges(l)
	f.tunnels(l)
	f.uplink(l)
}

// bridges compares bridges with their ports: a bridge drops what does not fit into the port where it goes out.
func (f *facts) bridges(l *list) {
	for _, bridge := range f.node.Host.Links {
		if bridge.Kind != "bridge" || !f.podsLink(bridge) {
			continue
		}
		var narrow *node.Link
		count := 0
		for _, port := range f.node.Host.Links {
			if port.Master == bridge.Index && port.MTU < bridge.MTU {
				count++
				if narrow == nil || port.MTU < narrow.MTU {
					narrow = port
				}
			}
		}
		if narrow != nil {
			l.add(Warning, fmt.Sprintf("the bridge %s has MTU %d, but %s at it %d (%s so)", bridge.Name, bridge.MTU, narrow.Name, narrow.MTU, number(count, "port")),
				"larger packets from the host to that port are lost without a word", fmt.Sprintf("ip link set %s mtu %d, or the key mtu of the network", bridge.Name, narrow.MTU))
		}
	}
}

// headers of a VXLAN packet before the frame inside, in bytes: Ethernet inside, VXLAN, UDP, and IP.
const (
	vxlanOver4 = 50
	vxlanOver6 = 70
)

// tunnels compares tunnels with the links that they go by.
func (f *facts) tunnels(l *list) {
	for _, link := range f.node.Host.Links {
		if link.VXLAN == nil || !link.VXLAN.Local.IsValid() {
			continue
		}
		under := f.linkWith(link.VXLAN.Local)
		headers := vxlanOver4
		if link.VXLAN.Local.Is6() {
			headers = vxlanOver6
		}
		if under != nil && under.MTU < link.MTU+headers {
			severity := Warning // somebody else's, which pods may not use
			if f.podsLink(link) || f.uses("flannel") {
				severity = Problem
			}
			l.add(severity, fmt.Sprintf("the tunnel %s has MTU %d, which with %d bytes of headers does not fit into %d of %s", link.Name, link.MTU, headers, under.MTU, under.Name),
				"large packets to other nodes are cut or lost", fmt.Sprintf("cnibox overlay sync, if cnibox made it; else ip link set %s mtu %d", link.Name, under.MTU-headers))
		}
	}
}

// uplink compares the networks' key mtu with the link that leads out.
func (f *facts) uplink(l *list) {
	var quiet list
	for _, out := range f.defaultLinks(&quiet) {
		for i := range f.nets {
			n := &f.nets[i]
			if n.main.MTU > out.MTU && n.routed() {
				l.add(Warning, fmt.Sprintf("network %s has mtu %d, the link %s to the outside %d", n.Name, n.main.MTU, out.Name, out.MTU),
					"what pods send outside must be cut, and is lost where it may not be", fmt.Sprintf("\"mtu\": %d in %s", out.MTU, n.File))
			}
		}
	}
}
