package overlay

import (
	"bytes"
	"maps"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rtnl"
)

// tunnelPort has the tunnel's device be a port of the bridge, to which, unless all are to be asked, nothing goes that the bridge can answer itself.
func (r *reconciler) tunnelPort() error {
	l := r.link
	if l == nil || r.hub == nil {
		return nil
	}
	var changes []change
	added := l.Master != r.hub.Index
	if added {
		r.differs("interface %s is no port of %s", l.Name, r.bridge.name)
		changes = append(changes, r.enslave(l))
	} else if l.NeighSuppress != rtnl.Unset && l.NeighSuppress != r.suppress {
		r.differs("neighbour suppression of port %s is not as it should be", l.Name)
	}
	if added || l.NeighSuppress != rtnl.Unset && l.NeighSuppress != r.suppress {
		set := rtnl.SetLink(l.Index, rtnl.Change{NeighSuppress: r.suppress})
		changes = append(changes, change{Message: set, what: "set up port " + l.Name, harmless: unix.EOPNOTSUPP})
	}
	return r.carryOut(changes)
}

func (r *reconciler) enslave(l *rtnl.Link) change {
	return change{Message: rtnl.SetMaster(l.Index, r.hub.Index), what: "have interface " + l.Name + " be a port of " + r.bridge.name}
}

// otherPorts puts back what has fallen from the bridge.
func (r *reconciler) otherPorts() error {
	var changes []change
	for _, name := range r.ports {
		l, _, err := r.find(name)
		if err != nil {
			return err
		}
		if l == nil || r.hub != nil && l.Master == r.hub.Index {
			continue
		}
		r.differs("interface %s is no port of %s", name, r.bridge.name)
		if r.hub != nil {
			changes = append(changes, r.enslave(l))
		}
	}
	return r.carryOut(changes)
}

// floodEntries tell to which hosts frames go that are for all. Behind which host a pod is, the device learns from what it receives; what it has learnt of
// one that is no peer any more goes.
func (r *reconciler) floodEntries() error {
	missing := maps.Clone(r.flood)
	var changes []change
	entries, err := r.remoteEntries()
	if err != nil {
		return err
	}
	for _, have := range entries {
		if forAll := bytes.Equal(have.MAC, rtnl.ForAll); forAll && r.flood[have.Remote] && have.Port == 0 && have.VNI == 0 {
			delete(missing, have.Remote)
		} else if forAll || !have.Permanent() && r.known != nil && !r.known[have.Remote] {
			r.differs("a forwarding entry for %s to %s, which is no peer", have.MAC, have.Remote)
			changes = append(changes, change{rtnl.DelFDB(have), "remove the forwarding entry for " + have.MAC.String(), unix.ENOENT})
		}
	}
	for remote := range missing {
		r.differs("no forwarding entry for all to %s", remote)
		if r.link != nil {
			entry := rtnl.FDB{Link: r.link.Index, MAC: rtnl.ForAll, Remote: remote, Via: r.vxlan.Link, External: true}
			changes = append(changes, change{rtnl.AppendFDB(entry), "add the forwarding entry for all to " + remote.String(), unix.EEXIST})
		}
	}
	return r.carryOut(changes)
}
