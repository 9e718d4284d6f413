package explain

import (
	"bytes"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nft/eval"
)

// bridgeIn is a frame that enters a bridge by a port.
func (w *walker) bridgeIn(bridge, port *link) (hop, error) {
	s := bridge.space
	if why := bridge.broken(); why != "" && !bridge.Up() {
		return w.drop(w.last(), bridge.Name+": "+why)
	}
	if port.portState != forwarding {
		return w.drop(w.last(), "port "+port.Name+" does not forward (spanning tree)")
	}
	id, why := s.vlanIn(bridge, port, w.tag)
	if why != "" {
		return w.drop(w.last(), why)
	}
	if ok, err := w.filter(s, true, unix.NF_INET_PRE_ROUTING, netip.Addr{}); !ok || err != nil {
		return nil, err
	}
	called := s.callsIP(w.p.Is6())
	if called {
		if next, done, err := w.shownToIP(bridge, port, id); done || err != nil {
			return next, err
		}
	}
	if len(w.p.DstMAC) != 6 || s.ownMAC(bridge, w.p.DstMAC) {
		if ok, err := w.filter(s, true, unix.NF_INET_LOCAL_IN, netip.Addr{}); !ok || err != nil {
			return nil, err
		}
		return w.bridgeUp(bridge, id, called)
	}
	return w.bridgeForward(bridge, port, id, called)
}

// shownToIP has a frame that enters a bridge pass IP's hook, as if it came in by the bridge (module br_netfilter). If that changes its destination,
// its way is done here: by the bridge's ports, if the new one is behind them, or by the space's own routes.
func (w *walker) shownToIP(bridge, port *link, id uint16) (next hop, done bool, err error) {
	s := bridge.space
	w.p.In = bridge.device()
	was := w.p.Dst
	if ok, err := w.filter(s, false, unix.NF_INET_PRE_ROUTING, w.p.Src); !ok || err != nil {
		return nil, true, err
	}
	if w.p.Dst == was {
		w.p.In = port.device()
		return nil, false, nil
	}
	q := question{to: w.p.Dst, from: w.p.Src, in: bridge, p: w.p}
	r, err := s.lookUp(q)
	if err == nil && r.failed == unix.EHOSTUNREACH && s.forwardsNot(w.p.Is6(), bridge) != "" {
		q.in, q.from = nil, netip.Addr{}
		r, err = s.lookUp(q) // it is not forwarding, but bridging
	}
	if err != nil || r.failed != 0 || r.Link != bridge.Index || r.Type != unix.RTN_UNICAST {
		return w.input(s, bridge, true), true, err
	}
	f := w.world.neighbor(bridge, r.nextHop(w.p.Dst))
	if f.mac == nil && !f.open {
		next, err = w.drop(w.step(s, "bridge", "%s", bridge.Name), fmt.Sprintf("nobody there has the address %s", w.p.Dst))
		return next, true, err
	}
	w.p.DstMAC, w.p.In = f.mac, port.device()
	next, err = w.bridgeForward(bridge, port, id, true)
	return next, true, err
}

// callsIP tells whether bridged packets pass IP's hooks.
func (s *space) callsIP(six bool) bool {
	if six {
		return s.sysctl("bridge", "bridge-nf-call-ip6tables") == "1"
	}
	return s.sysctl("bridge", "bridge-nf-call-iptables") == "1"
}

// ownMAC tells whether frames to a MAC address are for the bridge itself: its own, or a port's.
func (s *space) ownMAC(bridge *link, mac []byte) bool {
	if bytes.Equal(bridge.MAC, mac) {
		return true
	}
	for _, p := range s.ports(bridge) {
		if bytes.Equal(p.MAC, mac) {
			return true
		}
	}
	return false
}

// bridgeUp is a frame that enters a bridge and is for the space itself: for the bridge, or for its link of the VLAN.
func (w *walker) bridgeUp(bridge *link, id uint16, called bool) (hop, error) {
	s := bridge.space
	in := bridge
	if id != 0 {
		w.tag = s.tagAt(bridge, id)
	}
	if w.tag != 0 {
		child, why := w.world.childFor(bridge, w.p, w.tag)
		if child == nil {
			return w.drop(w.last(), why)
		}
		in, w.tag = child, 0
	}
	w.p.In = in.device()
	return w.input(s, in, called), nil
}

// tagAt is the tag that a frame of a VLAN bears behind a port: none, if it is the port's own.
func (s *space) tagAt(port *link, id uint16) uint16 {
	for _, v := range s.vlansOf(port.Index) {
		if v.id == id && v.pvid {
			return 0
		}
	}
	return id
}

// vlanIn is the VLAN that a frame belongs to at a port, by its tag or by the port; 0 if the bridge knows none.
func (s *space) vlanIn(bridge, port *link, tag uint16) (id uint16, why string) {
	if !bridge.VLANFiltering {
		return 0, ""
	}
	for _, v := range s.vlansOf(port.Index) {
		if tag == 0 && v.pvid || tag != 0 && v.id == tag {
			return v.id, ""
		}
	}
	if tag != 0 {
		return 0, fmt.Sprintf("port %s is not in VLAN %d", port.Name, tag)
	}
	return 0, "port " + port.Name + " takes no frames without a VLAN tag (vlan_filtering)"
}

// bridgeForward is a frame from one port to another.
func (w *walker) bridgeForward(bridge, port *link, id uint16, called bool) (hop, error) {
	s := bridge.space
	to, open := w.world.portFor(bridge, w.p.DstMAC, id, port)
	if to == nil && open != nil {
		w.step(s, "bridge", "%s: %s is not known, the frame goes to all ports", bridge.Name, w.p.DstMAC)
		to = open
	}
	if to == nil {
		return w.drop(w.step(s, "bridge", "%s", bridge.Name), fmt.Sprintf("%s is behind none of its ports", w.p.DstMAC))
	}
	step := w.step(s, "bridge", "%s: from port %s to port %s", bridge.Name, port.Name, to.Name)
	if id != 0 {
		step.note("VLAN %d", id)
	}
	if why := s.portRefuses(bridge, port, to, id); why != "" {
		return w.drop(step, why)
	}
	if id != 0 {
		w.tag = s.tagAt(to, id)
	}
	w.p.Out = to.device()
	if ok, err := w.filter(s, true, unix.NF_INET_FORWARD, netip.Addr{}); !ok || err != nil {
		return nil, err
	}
	if called {
		if done, err := w.ipOfBridge(bridge, to); !done || err != nil {
			return nil, err
		}
	}
	w.p.In = eval.Device{}
	if ok, err := w.filter(s, true, unix.NF_INET_POST_ROUTING, netip.Addr{}); !ok || err != nil {
		return nil, err
	}
	return w.frame(to), nil
}

// ipOfBridge has a bridged packet pass IP's hooks, which see the bridge in the place of its ports.
func (w *walker) ipOfBridge(bridge, to *link) (passed bool, err error) {
	s := bridge.space
	w.p.In, w.p.Out = bridge.device(), bridge.device()
	if ok, err := w.filter(s, false, unix.NF_INET_FORWARD, netip.Addr{}); !ok || err != nil {
		return false, err
	}
	w.p.In = eval.Device{} // there the kernel does not tell it
	ok, err := w.filter(s, false, unix.NF_INET_POST_ROUTING, w.p.Dst)
	if !ok || err != nil {
		return false, err
	}
	if w.report.Steps != nil && w.last().Kind == "filter" {
		w.last().note("bridged packets pass the filter of IP too (br_netfilter)")
	}
	w.p.Out = to.device()
	return true, nil
}

// portRefuses is why a frame does not go from one port to another.
func (s *space) portRefuses(bridge, from, to *link, id uint16) string {
	switch {
	case from == to && !from.Hairpin:
		return "a frame does not go back to the port that it came from (hairpin mode is off)"
	case from.Isolated && to.Isolated:
		return "both ports are isolated: they reach no other isolated port"
	case to.broken() != "":
		return "port " + to.Name + ": " + to.broken()
	case to.portState != forwarding:
		return "port " + to.Name + " does not forward (spanning tree)"
	}
	if !bridge.VLANFiltering {
		return ""
	}
	for _, v := range s.vlansOf(to.Index) {
		if v.id == id {
			return ""
		}
	}
	return fmt.Sprintf("port %s is not in VLAN %d", to.Name, id)
}

// bridgeOut is a frame that the space itself sends by a bridge.
func (w *walker) bridgeOut(bridge *link) (hop, error) {
	s := bridge.space
	id, why := s.vlanIn(bridge, bridge, w.tag)
	if why != "" {
		return w.drop(w.step(s, "bridge", "%s", bridge.Name), why)
	}
	to, open := w.world.portFor(bridge, w.p.DstMAC, id, nil)
	if to == nil {
		to = open
	}
	if to == nil {
		return w.drop(w.step(s, "bridge", "%s", bridge.Name), fmt.Sprintf("%s is behind none of its ports", w.p.DstMAC))
	}
	step := w.step(s, "bridge", "%s: to port %s", bridge.Name, to.Name)
	if why := s.portRefuses(bridge, bridge, to, id); why != "" {
		return w.drop(step, why)
	}
	if id != 0 {
		w.tag = s.tagAt(to, id)
	}
	w.p.In, w.p.Out = eval.Device{}, to.device()
	for _, hook := range []uint32{unix.NF_INET_LOCAL_OUT, unix.NF_INET_POST_ROUTING} {
		if ok, err := w.filter(s, true, hook, netip.Addr{}); !ok || err != nil {
			return nil, err
		}
	}
	return w.frame(to), nil
}
