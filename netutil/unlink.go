package netutil

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// DeleteLink removes a link, and with it what hangs on it: the peer, addresses, routes. It succeeds, and tells so, if there is none.
func DeleteLink(n *Namespace, name string) (found bool, err error) {
	answers, err := n.ask(rtnl.DelLink(name))
	if err != nil {
		return false, err
	}
	switch err := answers[0].Err; {
	case errors.Is(err, unix.ENODEV):
		return false, nil
	case err != nil:
		return true, errcode.Errorf(errcode.Kernel, "delete interface %s: %w", name, err)
	}
	return true, nil
}

// deleteUnused removes a shared link if nobody has begun to use it since it was made.
func (a *applier) deleteUnused(l *Link) error {
	n := a.kernel.at(l.Place)
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	name := l.Name
	if l.Kind == Veth {
		name = l.Peer.Master
	}
	bridge, err := n.findLink(name)
	if bridge == nil || err != nil {
		return err
	}
	if used, err := a.usedByOthers(n, bridge); used || err != nil {
		return err
	}
	_, err = DeleteLink(n, l.Name)
	return err
}

// usedByOthers tells whether a bridge has ports that the plan does not know.
func (a *applier) usedByOthers(n *Namespace, bridge *rtnl.Link) (bool, error) {
	all, err := n.links()
	for _, other := range all {
		if other.Master == bridge.Index && !a.plans(other.Name) {
			return true, nil
		}
	}
	return false, err
}

// plans tells whether the plan has a link of this name in the host.
func (a *applier) plans(name string) bool {
	for i := range a.plan.Links {
		for l := &a.plan.Links[i]; l != nil; l = l.Peer {
			if l.Place == Host && l.Name == name {
				return true
			}
		}
	}
	return false
}

// DeleteUnowned removes a veth pair by its end in the sandbox, as another program made it: a pair whose host side carries an owner, and
// a link of another kind, are left alone. It succeeds if there is none.
func DeleteUnowned(host, sandbox *Namespace, name string) error {
	l, err := sandbox.findLink(name)
	if l == nil || err != nil || l.Kind != kindName(Veth) {
		return err
	}
	peer, err := host.byIndex(l.Peer)
	if err == nil && peer.Alias != "" {
		return nil
	}
	_, err = DeleteLink(sandbox, name)
	return err
}

// DeleteInside removes a link of one of the kinds from the sandbox, where it is all that an attachment has. One of another kind, and one whose
// alias names another attachment that has an interface of the same name, are left alone. It succeeds if there is none.
func DeleteInside(sandbox *Namespace, o owner.Owner, kinds ...Kind) error {
	l, err := sandbox.findLink(o.IfName)
	if l == nil || err != nil || !slices.ContainsFunc(kinds, func(k Kind) bool { return l.Kind == kindName(k) }) {
		return err
	}
	if strings.HasSuffix(l.Alias, "/"+o.IfName) && l.Alias != o.Text(aliasLimit) {
		return nil
	}
	_, err = DeleteLink(sandbox, o.IfName)
	return err
}

// SetDown takes a link down. It succeeds if there is none.
func SetDown(n *Namespace, name string) error {
	l, err := n.findLink(name)
	if l == nil || err != nil {
		return err
	}
	_, err = n.do(request{Message: rtnl.SetLink(l.Index, rtnl.Change{Down: true}), what: "take down interface " + name, harmless: unix.ENODEV})
	return err
}
