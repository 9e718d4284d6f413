package overlay

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Remove takes a network's overlay away: its devices, all that leads through them, and the routes beside the tunnel. It succeeds if there is nothing. Of
// c the network, the VNI, the bridge and the node's own subnets count.
func Remove(n *netutil.Namespace, c *Config) error {
	if err := remove(n, c); err != nil {
		return err // as long as the tunnel may be there, only its nodes may send to it
	}
	return netutil.NFT(n).RemoveOverlay(c.Network)
}

func remove(n *netutil.Namespace, c *Config) error {
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	r := &reconciler{n: n, repair: true, desired: &desired{alias: aliasOf(c.Network)}} // without a device that is to stay
	if r.all, err = netutil.List(n, "interfaces", rtnl.GetLinks()); err != nil {
		return err
	}
	return errors.Join(r.formerDevices(), r.removeHalfMade(c), r.removeDirect(c))
}

// RemoveHalfMade removes what somebody has begun to make by these settings and died, before others take their place that no longer tell of it.
func RemoveHalfMade(n *netutil.Namespace, c *Config) error {
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	return (&reconciler{n: n, repair: true, desired: &desired{}}).removeHalfMade(c)
}

func (r *reconciler) removeHalfMade(c *Config) error {
	mark := deviceMAC(c.VNI, c.Subnets)
	for _, d := range []device{{name: c.DeviceName(), kind: "vxlan", mark: mark}, {name: c.Bridge, kind: "bridge", mark: mark}} {
		if d.name == "" {
			continue
		}
		l, _, err := r.find(d.name)
		if err == nil && l != nil && d.halfMade(l) {
			err = r.carryOut([]change{removal(l.Name)})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func removal(link string) change {
	return change{rtnl.DelLink(link), "remove interface " + link, unix.ENODEV}
}

// removeDirect removes the routes beside the tunnel, unless its device is another's: then they are too.
func (r *reconciler) removeDirect(c *Config) error {
	l, _, err := r.find(c.DeviceName())
	if err != nil || l != nil {
		return err
	}
	changes, err := r.directRoutes(c.VNI)
	return errors.Join(err, r.carryOut(changes))
}

// formerDevices removes those devices of the network's that it has no use for: of another VNI or bridge that it had before.
func (r *reconciler) formerDevices() error {
	var changes []change
	for _, b := range r.all {
		l := rtnl.ParseLink(b)
		if l == nil || l.Alias != r.alias || l.Name == r.tunnel.name || r.bridge != nil && l.Name == r.bridge.name {
			continue
		}
		r.differs("interface %s, which is of no use any more", l.Name)
		if v, ok := rtnl.ParseVXLAN(b); ok {
			routes, err := r.directRoutes(v.VNI)
			if err != nil {
				return err
			}
			changes = append(changes, routes...)
		}
		changes = append(changes, removal(l.Name))
	}
	return r.carryOut(changes)
}

// directRoutes are the changes that take away the routes beside the tunnel of a VNI.
func (r *reconciler) directRoutes(vni uint32) (changes []change, err error) {
	for _, like := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		bodies, err := netutil.List(r.n, "routes", rtnl.GetRoutes(like))
		if err != nil {
			return nil, err
		}
		for _, b := range bodies {
			if !rtnl.MadeBy(b, protocol) {
				continue
			}
			for _, have := range rtnl.ParseRoute(b) {
				if have.Table == unix.RT_TABLE_MAIN && isDirect(&have, vni) {
					changes = append(changes, change{rtnl.DelRoute(have), "remove the route to " + have.Dst.String(), unix.ESRCH})
				}
			}
		}
	}
	return changes, nil
}
