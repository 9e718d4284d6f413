package overlay

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Difference is something that the kernel does not hold as it should, as a person is told.
type Difference string

// Status is what has become of the node's part of the overlay.
type Status struct {
	Found    []Difference // what was wrong
	Underlay netip.Addr   // of this node
	MTU      int          // bytes, of packets in the tunnel
}

// Sync makes the node's part of the overlay so. What is right is not touched.
func Sync(n *netutil.Namespace, c *Config) (*Status, error) { return reconcile(n, c, true) }

// Verify tells what is wrong and changes nothing.
func Verify(n *netutil.Namespace, c *Config) (*Status, error) { return reconcile(n, c, false) }

func reconcile(n *netutil.Namespace, c *Config, repair bool) (*Status, error) {
	d, err := prepare(n, c)
	if err != nil {
		return nil, err
	}
	r := &reconciler{n: n, desired: d, repair: repair}
	// The packet filter comes first: nobody else may send to the tunnel from the beginning. It takes the lock itself.
	for _, step := range []func() error{r.judge, func() error { return r.filter(c) }} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	unlock, err := n.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, step := range r.steps() {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return &Status{r.found, d.addr, d.tunnel.mtu}, nil
}

// prepare works out what the kernel is to hold.
func prepare(n *netutil.Namespace, c *Config) (*desired, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	u, err := findUnderlay(n, c)
	if err != nil {
		return nil, err
	}
	return c.desire(u)
}

// reconciler compares what is wanted with the kernel, and repairs the differences.
type reconciler struct {
	n *netutil.Namespace
	*desired
	repair bool
	all    [][]byte   // the links that there were at first
	link   *rtnl.Link // the tunnel's device; nil if it is not there
	hub    *rtnl.Link // the bridge; nil if it is not there, or none is wanted
	found  []Difference
}

// steps are in the order in which one builds on another. A tunnel that the network had before goes early: the kernel takes no route to a gateway that
// another interface leads to, and a bridge with both tunnels could send in circles.
func (r *reconciler) steps() []func() error {
	if r.bridge == nil {
		return []func() error{r.tunnelDevice, r.formerDevices, r.addresses, r.neighborEntries, r.forwardingEntries, r.routeEntries, r.pathMTU}
	}
	return []func() error{r.tunnelDevice, r.formerDevices, r.bridgeDevice, r.tunnelPort, r.otherPorts, r.addresses, r.floodEntries}
}

func (r *reconciler) differs(format string, args ...any) {
	r.found = append(r.found, Difference(fmt.Sprintf(format, args...)))
}

// change is a request and what it is about.
type change struct {
	rawnl.Message
	what     string
	harmless unix.Errno
}

// batch is how many changes go to the kernel together.
const batch = 1000

// carryOut makes the changes, if anything is to be repaired.
func (r *reconciler) carryOut(changes []change) error {
	if !r.repair {
		return nil
	}
	for some := range slices.Chunk(changes, batch) {
		messages := make([]rawnl.Message, len(some))
		for i := range some {
			messages[i] = some[i].Message
		}
		answers, err := netutil.Ask(r.n, messages...)
		if err != nil {
			return err
		}
		for i, a := range answers {
			if a.Err != nil && (some[i].harmless == 0 || !errors.Is(a.Err, some[i].harmless)) {
				return errcode.Errorf(errcode.Kernel, "overlay: %s: %w", some[i].what, a.Err)
			}
		}
	}
	return nil
}

// macOf reads what net.HardwareAddr wrote.
func macOf(text string) net.HardwareAddr {
	mac, _ := net.ParseMAC(text)
	return mac
}

// families are those that the node has subnets of, as addresses.
func (r *reconciler) families() (out []netip.Addr) {
	for _, like := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		for p := range r.addrs {
			if p.Addr().Is4() == like.Is4() {
				out = append(out, like)
				break
			}
		}
	}
	return out
}

// addresses gives the device the first address of each of the node's subnets, which the host itself sends from to other nodes' pods, or the bridge its own.
func (r *reconciler) addresses() error {
	link, name := r.link, r.tunnel.name
	if r.bridge != nil {
		link, name = r.hub, r.bridge.name
	}
	have, err := r.addressesOf(link)
	if err != nil {
		return err
	}
	var changes []change
	for p := range have {
		if !r.addrs[p] && r.bridge == nil { // the bridge may have others besides
			r.differs("interface %s has the address %s", name, p)
			changes = append(changes, change{rtnl.DelAddr(rtnl.Addr{Prefix: p, Link: link.Index}), "remove address " + p.String(), unix.EADDRNOTAVAIL})
		}
	}
	for p := range r.addrs {
		if have[p] {
			continue
		}
		if p.Addr().Is6() && link != nil && r.repair { // hosts like to disable IPv6 in new interfaces
			if _, err := r.n.SetSysctl("0", "net", "ipv6", "conf", name, "disable_ipv6"); err != nil {
				return err
			}
		}
		r.differs("interface %s lacks the address %s", name, p)
		if link != nil {
			a := rtnl.Addr{Prefix: p, Link: link.Index}
			if p.Addr().Is6() {
				a.Flags = unix.IFA_F_NODAD
			}
			changes = append(changes, change{rtnl.NewAddr(a), "add address " + p.String(), unix.EEXIST})
		}
	}
	return r.carryOut(changes)
}

// addressesOf are a link's addresses that somebody has given it; none if there is no link.
func (r *reconciler) addressesOf(l *rtnl.Link) (map[netip.Prefix]bool, error) {
	have := map[netip.Prefix]bool{}
	for _, like := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if l == nil {
			break
		}
		list, err := netutil.AddrsOf(r.n, l, like)
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			if !a.Prefix.Addr().IsLinkLocalUnicast() {
				have[a.Prefix] = true
			}
		}
	}
	return have, nil
}

// neighborEntries tell which MAC address stands for a peer.
func (r *reconciler) neighborEntries() error {
	var changes []change
	missing := maps.Clone(r.neighbors)
	for _, like := range r.families() {
		if r.link == nil {
			break
		}
		bodies, err := netutil.List(r.n, "neighbours of "+r.tunnel.name, rtnl.GetNeighbors(r.link.Index, like))
		if err != nil {
			return err
		}
		for _, b := range bodies {
			have, ok := rtnl.ParseNeighbor(b)
			if !ok || have.Link != r.link.Index || !have.Permanent() {
				continue
			}
			want, wanted := r.neighbors[have.Addr]
			switch {
			case wanted && want == have.MAC.String():
				delete(missing, have.Addr)
			case !wanted && have.Protocol == protocol:
				r.differs("a neighbour %s that is no peer's", have.Addr)
				changes = append(changes, change{rtnl.DelNeighbor(have), "remove neighbour " + have.Addr.String(), unix.ENOENT})
			}
		}
	}
	for a, mac := range missing {
		r.differs("no neighbour %s with %s", a, mac)
		if r.link != nil {
			entry := rtnl.Neighbor{Link: r.link.Index, Addr: a, MAC: macOf(mac), Protocol: protocol}
			changes = append(changes, change{rtnl.SetNeighbor(entry), "add neighbour " + a.String(), 0})
		}
	}
	return r.carryOut(changes)
}

// forwardingEntries tell behind which host a MAC address is.
func (r *reconciler) forwardingEntries() error {
	var changes []change
	missing := maps.Clone(r.forwards)
	entries, err := r.remoteEntries()
	if err != nil {
		return err
	}
	for _, have := range entries {
		mac := have.MAC.String()
		want, wanted := r.forwards[mac]
		switch {
		case wanted && want == have.Remote && have.External:
			delete(missing, mac)
		case wanted && !have.External: // the kernel keeps to what somebody has set by hand
			changes = append(changes, change{rtnl.DelFDB(have), "remove the forwarding entry for " + mac, unix.ENOENT})
		case !wanted && have.External:
			r.differs("a forwarding entry for %s that is no peer's", mac)
			changes = append(changes, change{rtnl.DelFDB(have), "remove the forwarding entry for " + mac, unix.ENOENT})
		}
	}
	for mac, remote := range missing {
		r.differs("no forwarding entry for %s to %s", mac, remote)
		if r.link != nil {
			entry := rtnl.FDB{Link: r.link.Index, MAC: macOf(mac), Remote: remote, External: true}
			changes = append(changes, change{rtnl.SetFDB(entry), "add the forwarding entry for " + mac, 0})
		}
	}
	return r.carryOut(changes)
}

// remoteEntries are the forwarding entries of the tunnel's device that lead to a host; none if there is no device.
func (r *reconciler) remoteEntries() (out []rtnl.FDB, err error) {
	if r.link == nil {
		return nil, nil
	}
	bodies, err := netutil.List(r.n, "forwarding entries of "+r.tunnel.name, rtnl.GetFDBs(r.link.Index))
	for _, b := range bodies {
		if have, ok := rtnl.ParseFDB(b); ok && have.Link == r.link.Index && have.Remote.IsValid() {
			out = append(out, have)
		}
	}
	return out, err
}

// routeEntries lead to the peers' subnets, through the tunnel or beside it.
func (r *reconciler) routeEntries() error {
	var changes []change
	missing := maps.Clone(r.routes)
	for _, like := range r.families() {
		bodies, err := netutil.List(r.n, "routes", rtnl.GetRoutes(like))
		if err != nil {
			return err
		}
		for _, b := range bodies {
			if !rtnl.MadeBy(b, protocol) {
				continue
			}
			for _, have := range rtnl.ParseRoute(b) {
				if !r.ours(&have) {
					continue
				}
				if want, wanted := r.routes[have.Dst]; wanted && have == r.route(have.Dst, want) {
					delete(missing, have.Dst)
					continue
				}
				r.differs("a route to %s via %s that is not the way there", have.Dst, have.Gateway)
				changes = append(changes, change{rtnl.DelRoute(have), "remove the route to " + have.Dst.String(), unix.ESRCH})
			}
		}
	}
	for dst, w := range missing {
		r.differs("no route to %s via %s", dst, w.gateway)
		if r.link != nil || w.direct {
			changes = append(changes, change{rtnl.SetRoute(r.route(dst, w)), "add the route to " + dst.String(), 0})
		}
	}
	return r.carryOut(changes)
}

// ours tells whether a route is this overlay's.
func (r *reconciler) ours(have *rtnl.Route) bool {
	if have.Protocol != protocol || have.Table != unix.RT_TABLE_MAIN {
		return false
	}
	return r.link != nil && have.Link == r.link.Index || isDirect(have, r.vxlan.VNI)
}

// isDirect tells whether a route of an overlay's goes beside the tunnel of a VNI.
func isDirect(have *rtnl.Route, vni uint32) bool { return have.Priority == int(vni) && !isTunnel(have) }

// isTunnel tells whether a route goes through a tunnel: its gateway is the first address of what it leads to.
func isTunnel(have *rtnl.Route) bool { return have.Gateway == have.Dst.Addr() }

// route is the route as the kernel tells of it.
func (r *reconciler) route(dst netip.Prefix, w way) rtnl.Route {
	out := rtnl.Route{Dst: dst, Gateway: w.gateway, Protocol: protocol, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, OnLink: true}
	if w.direct {
		out.Link, out.Priority = r.underlay.link.Index, int(r.vxlan.VNI)
		return out
	}
	if r.link != nil {
		out.Link = r.link.Index
	}
	if dst.Addr().Is6() {
		out.Priority = 1024 // IP6_RT_PRIO_USER, which the kernel gives a route without one
	}
	return out
}

// filter has the packet filter know the nodes, and that nothing between their pods is masqueraded.
func (r *reconciler) filter(c *Config) (err error) {
	o, n := r.desired.filter(c), 0
	if r.repair {
		n, err = netutil.NFT(r.n).SetOverlay(o)
	} else {
		n, err = netutil.NFT(r.n).VerifyOverlay(o)
	}
	if n > 0 {
		r.differs("%d elements in the packet filter", n)
	}
	return err
}
