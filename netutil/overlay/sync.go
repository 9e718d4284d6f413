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
	unlock, err := n.Lock()
	if err != nil {
		return nil, err
	}
	r := &reconciler{n: n, desired: d, repair: repair}
	for _, step := range []func() error{r.device, r.addresses, r.neighborEntries, r.forwardingEntries, r.routeEntries} {
		if err = step(); err != nil {
			break
		}
	}
	unlock() // the packet filter takes it itself
	if err == nil {
		err = r.filter(c)
	}
	return &Status{r.found, d.addr, d.mtu}, err
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
	link   *rtnl.Link // the device; nil if it is not there
	found  []Difference
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

// device makes the tunnel's device, up. One of other properties that cannot be changed is made anew.
func (r *reconciler) device() error {
	l, have, err := r.findDevice()
	if err != nil {
		return err
	}
	if l != nil && r.halfMade(l) {
		r.differs("interface %s has no alias", r.name)
		if err := r.carryOut([]change{{Message: rtnl.SetAlias(l.Index, r.alias), what: "name interface " + r.name}}); err != nil {
			return err
		}
	} else if l != nil && l.Alias != r.alias {
		return errcode.Errorf(errcode.AlreadyExists, "vni: interface %s is there already, and not this network's (its alias is %q)", r.name, l.Alias)
	}
	if l != nil && (have.Port != r.vxlan.Port || have.Local != r.vxlan.Local || have.VNI != r.vxlan.VNI) {
		r.differs("interface %s sends from %s to port %d, not from %s to %d", r.name, have.Local, have.Port, r.vxlan.Local, r.vxlan.Port)
		if err := r.carryOut([]change{{Message: rtnl.DelLink(r.name), what: "remove interface " + r.name, harmless: unix.ENODEV}}); err != nil {
			return err
		}
		l = nil
		if !r.repair {
			return nil
		}
	} else if l == nil {
		r.differs("no interface %s", r.name)
	}
	if l == nil && r.repair {
		if l, err = r.makeDevice(); err != nil {
			return err
		}
	}
	if r.link = l; l == nil {
		return nil
	}
	return r.adjust()
}

// halfMade tells that somebody here made the device and died before it got its alias, which the kernel takes only when there is one.
func (d *desired) halfMade(l *rtnl.Link) bool {
	return l.Kind == "vxlan" && l.Alias == "" && d.mark != nil && l.MAC.String() == d.mark.String()
}

func (r *reconciler) findDevice() (*rtnl.Link, rtnl.VXLAN, error) {
	answers, err := netutil.Ask(r.n, rtnl.GetLink(r.name))
	switch {
	case err != nil:
		return nil, rtnl.VXLAN{}, err
	case errors.Is(answers[0].Err, unix.ENODEV):
		return nil, rtnl.VXLAN{}, nil
	case answers[0].Err != nil || len(answers[0].Bodies) == 0:
		return nil, rtnl.VXLAN{}, errcode.Errorf(errcode.Kernel, "overlay: interface %s: %w", r.name, answers[0].Err)
	}
	v, _ := rtnl.ParseVXLAN(answers[0].Bodies[0])
	return rtnl.ParseLink(answers[0].Bodies[0]), v, nil
}

func (r *reconciler) makeDevice() (*rtnl.Link, error) {
	answers, err := netutil.Ask(r.n, rtnl.NewVXLAN(rtnl.End{Name: r.name, MTU: r.mtu, MAC: r.mark}, r.vxlan))
	if err != nil {
		return nil, err
	}
	switch err := answers[0].Err; {
	case errors.Is(err, unix.EEXIST):
		return nil, errcode.Errorf(errcode.AlreadyExists, "vni: another VXLAN interface has VNI %d on port %d", r.vxlan.VNI, r.vxlan.Port)
	case errors.Is(err, unix.EOPNOTSUPP):
		return nil, errcode.Errorf(errcode.Kernel, "overlay: this kernel has no VXLAN (module vxlan): %w", err)
	case err != nil:
		return nil, errcode.Errorf(errcode.Kernel, "overlay: make interface %s: %w", r.name, err)
	}
	l, _, err := r.findDevice() // with the MAC address that marks it, until it is adjusted
	if err == nil && l == nil {
		err = errcode.Errorf(errcode.Kernel, "overlay: interface %s is gone again", r.name)
	}
	if err != nil {
		return nil, err
	}
	return l, r.carryOut([]change{{Message: rtnl.SetAlias(l.Index, r.alias), what: "name interface " + r.name}})
}

// adjust gives the device its MTU and MAC address, and takes it up.
func (r *reconciler) adjust() error {
	l := r.link
	c := rtnl.Change{}
	if l.MTU != r.mtu {
		r.differs("interface %s has the MTU %d, not %d", r.name, l.MTU, r.mtu)
		c.MTU = r.mtu
	}
	if l.MAC.String() != r.mac.String() {
		r.differs("interface %s has the MAC address %s, not %s", r.name, l.MAC, r.mac)
		c.MAC = r.mac
	}
	if !l.Up() {
		if len(r.found) == 0 {
			r.differs("interface %s is down", r.name)
		}
		c.Up = true
	}
	if c.MTU == 0 && c.MAC == nil && !c.Up {
		return nil
	}
	return r.carryOut([]change{{Message: rtnl.SetLink(l.Index, c), what: "set up interface " + r.name}})
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

// addresses gives the device the first address of each of the node's subnets, which the host itself sends from to other nodes' pods.
func (r *reconciler) addresses() error {
	have := map[netip.Prefix]bool{}
	if r.link != nil {
		for _, like := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			list, err := netutil.AddrsOf(r.n, r.link, like)
			if err != nil {
				return err
			}
			for _, a := range list {
				if !a.Prefix.Addr().IsLinkLocalUnicast() {
					have[a.Prefix] = true
				}
			}
		}
	}
	var changes []change
	for p := range have {
		if !r.addrs[p] {
			r.differs("interface %s has the address %s", r.name, p)
			changes = append(changes, change{rtnl.DelAddr(rtnl.Addr{Prefix: p, Link: r.link.Index}), "remove address " + p.String(), unix.EADDRNOTAVAIL})
		}
	}
	for p := range r.addrs {
		if have[p] {
			continue
		}
		if p.Addr().Is6() && r.link != nil && r.repair { // hosts like to disable IPv6 in new interfaces
			if _, err := r.n.SetSysctl("0", "net", "ipv6", "conf", r.name, "disable_ipv6"); err != nil {
				return err
			}
		}
		r.differs("interface %s lacks the address %s", r.name, p)
		if r.link != nil {
			a := rtnl.Addr{Prefix: p, Link: r.link.Index}
			if p.Addr().Is6() {
				a.Flags = unix.IFA_F_NODAD
			}
			changes = append(changes, change{rtnl.NewAddr(a), "add address " + p.String(), unix.EEXIST})
		}
	}
	return r.carryOut(changes)
}

// neighborEntries tell which MAC address stands for a peer.
func (r *reconciler) neighborEntries() error {
	var changes []change
	missing := maps.Clone(r.neighbors)
	for _, like := range r.families() {
		if r.link == nil {
			break
		}
		bodies, err := netutil.List(r.n, "neighbours of "+r.name, rtnl.GetNeighbors(r.link.Index, like))
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
	if r.link != nil {
		bodies, err := netutil.List(r.n, "forwarding entries of "+r.name, rtnl.GetFDBs(r.link.Index))
		if err != nil {
			return err
		}
		for _, b := range bodies {
			have, ok := rtnl.ParseFDB(b)
			if !ok || have.Link != r.link.Index || !have.Remote.IsValid() {
				continue
			}
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
	return r.link != nil && have.Link == r.link.Index || have.Priority == int(r.vxlan.VNI) && !r.isTunnel(have)
}

// isTunnel tells whether a route goes through a tunnel: its gateway is the first address of what it leads to.
func (r *reconciler) isTunnel(have *rtnl.Route) bool { return have.Gateway == have.Dst.Addr() }

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
	o, n := c.filter(r.addr), 0
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

// Remove takes a network's overlay away: its device, all that leads through it, and the routes beside it. It succeeds if there is nothing. Of c the
// network, the VNI and the node's own subnets count.
func Remove(n *netutil.Namespace, c *Config) error {
	return errors.Join(netutil.NFT(n).RemoveOverlay(c.Network), remove(n, c))
}

func remove(n *netutil.Namespace, c *Config) error {
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	r := &reconciler{n: n, repair: true, desired: &desired{name: c.DeviceName(), vxlan: rtnl.VXLAN{VNI: c.VNI}}}
	if len(c.Subnets) > 0 {
		r.mark = deviceMAC(c.VNI, c.Subnets)
	}
	l, _, err := r.findDevice()
	if err != nil {
		return err
	}
	if l != nil && l.Alias != aliasOf(c.Network) && !r.halfMade(l) {
		return nil // another's, and so are the routes with its number
	}
	var changes []change
	if l != nil {
		changes = append(changes, change{rtnl.DelLink(r.name), "remove interface " + r.name, unix.ENODEV})
	}
	for _, like := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		bodies, err := netutil.List(n, "routes", rtnl.GetRoutes(like))
		if err != nil {
			return err
		}
		for _, b := range bodies {
			for _, have := range rtnl.ParseRoute(b) {
				if r.ours(&have) {
					changes = append(changes, change{rtnl.DelRoute(have), "remove the route to " + have.Dst.String(), unix.ESRCH})
				}
			}
		}
	}
	return r.carryOut(changes)
}
