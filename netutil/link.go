package netutil

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// aliasLimit is the longest alias that the kernel stores (IFALIASZ, less its final NUL).
const aliasLimit = 255

// makeLinks holds the namespace's lock, so that a shared bridge made by one ADD is not taken away by another's undo between
// being found and being used.
func (a *applier) makeLinks(context.Context) error {
	unlock, err := a.kernel.Host.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	for i := range a.plan.Links {
		l := &a.plan.Links[i]
		if l.Kind != Existing {
			if err := a.make(l); err != nil {
				return err
			}
		}
		for end := l; end != nil; end = end.Peer {
			if err := a.setUp(end); err != nil {
				return err
			}
		}
	}
	return nil
}

// make creates the link, unless it is shared and there.
func (a *applier) make(l *Link) error {
	if l.Kind == TapDevice {
		return a.makeTap(l)
	}
	n := a.kernel.at(l.Place)
	if l.Shared {
		found, err := n.findLink(l.Name)
		if err != nil {
			return err
		}
		if found != nil {
			return a.adopt(l, found)
		}
	}
	if l.Peer != nil {
		// The kernel's answer to the creation of a pair does not tell a taken name in the sandbox from one in the host.
		if err := RefuseLink(a.kernel.at(l.Peer.Place), l.Peer.Place, l.Peer.Name); err != nil {
			return err
		}
	}
	message, err := a.creation(l)
	if err != nil {
		return err
	}
	made := true
	a.undo.Push("interface "+l.Name, func() error {
		if !made {
			return nil
		}
		if l.Shared {
			return a.deleteUnused(l)
		}
		_, err := DeleteLink(n, l.Name)
		return err
	})
	sender := n
	if l.Parent != "" { // the kernel looks for the parent where the request comes from
		sender = a.kernel.at(l.ParentAt)
	}
	requests := []request{{Message: message, explain: func(err error) error { return linkError(l, err) }}}
	if l.taggedAtOnce() {
		requests = append(requests, request{Message: rtnl.SetAliasOf(l.Name, aliasOf(a.plan)), what: "set up host interface " + l.Name})
	}
	answers, err := sender.do(requests...)
	if errcode.Of(err) == errcode.AlreadyExists {
		made = false
		// A program that does not know the lock may have been faster.
		if found, lost := n.findLink(l.Name); l.Shared && lost == nil && found != nil {
			return a.adopt(l, found)
		}
	}
	if err != nil {
		return err
	}
	if err := a.distrust(l); err != nil {
		return err
	}
	return a.remember(l, answers[0].Bodies)
}

// taggedAtOnce tells whether a link has its owner from the moment it is made. Who is killed in between would leave one on the host that GC does not know.
func (l *Link) taggedAtOnce() bool { return l.OwnerTag && l.Place == Host }

// distrust has the host take no container behind the link for a router: one that advertises itself would get what the host sends over IPv6. What a bridge
// gets from its ports reaches the host by the bridge.
func (a *applier) distrust(l *Link) error {
	if l.Place != Host || l.Kind != Bridge && l.Kind != Veth || l.Master != "" {
		return nil
	}
	return a.kernel.at(Host).SetIPv6(l.Name, "accept_ra", "0")
}

// remember keeps what the kernel has told of a new link.
func (a *applier) remember(l *Link, told [][]byte) error {
	for _, b := range told {
		if made := rtnl.ParseLink(b); made != nil && made.Name == l.Name {
			a.links[linkKey{l.Place, l.Name}] = made
			if l.Peer != nil && made.Peer != 0 {
				a.links[linkKey{l.Peer.Place, l.Peer.Name}] = &rtnl.Link{
					Index: made.Peer, Name: l.Peer.Name, Kind: kindName(Veth), MAC: l.Peer.MAC, MTU: made.MTU,
				}
			}
		}
	}
	if l.Kind != Bridge || l.MTU == 0 {
		return nil
	}
	// A bridge follows its ports, to the default when the last of them goes, unless its MTU was changed: the kernel takes one that the
	// bridge was created with for its own choice.
	made, err := a.link(l.Place, l.Name)
	if err != nil {
		return err
	}
	made.MTU = l.MTU
	return a.change(l, made, rtnl.Change{MTU: l.MTU})
}

// change changes a link of the plan.
func (a *applier) change(l *Link, link *rtnl.Link, c rtnl.Change) error {
	_, err := a.kernel.at(l.Place).do(a.changing(l, link, c))
	return err
}

// adopt checks that a shared link that is there already is what the plan means.
func (a *applier) adopt(l *Link, found *rtnl.Link) error {
	if want := kindName(l.Kind); found.Kind != want {
		return errcode.Errorf(errcode.AlreadyExists, "%s interface %s exists already and is %s, not %s", l.Place, l.Name, kindOf(found), want)
	}
	a.links[linkKey{l.Place, l.Name}] = found
	if l.Kind == Bridge && !found.Running() {
		// A bridge without active ports keeps the address that it has now, see creation.
		return a.change(l, found, rtnl.Change{MAC: found.MAC})
	}
	return nil
}

func kindOf(l *rtnl.Link) string {
	if l.Kind == "" {
		return "hardware"
	}
	return "of kind " + l.Kind
}

// RefuseLink is an error with code errcode.AlreadyExists if the namespace, which is that place of a plan, has a link of the name.
func RefuseLink(n *Namespace, place Place, name string) error {
	found, err := n.findLink(name)
	if err == nil && found != nil {
		err = errcode.Errorf(errcode.AlreadyExists, "%s interface %s exists already", place, name)
	}
	return err
}

// kindName is the kind as the kernel names it (IFLA_INFO_KIND).
func kindName(k Kind) string {
	switch k {
	case Bridge:
		return "bridge"
	case Macvlan:
		return "macvlan"
	case IPvlan:
		return "ipvlan"
	case VLANLink:
		return "vlan"
	case Dummy:
		return "dummy"
	case IFB:
		return "ifb"
	case TapDevice:
		return "tun"
	}
	return "veth"
}

// moduleName is the kernel module that has links of the kind.
func moduleName(k Kind) string {
	if k == VLANLink {
		return "8021q"
	}
	return kindName(k)
}

// creation is the request that makes the link.
func (a *applier) creation(l *Link) (rawnl.Message, error) {
	end := rtnl.End{Name: l.Name, MTU: l.MTU, MAC: l.MAC}
	if l.Kind == Bridge {
		if end.MAC == nil {
			// A bridge without an address of its own takes that of one of its ports and changes it as pods come and go, which
			// leaves them with a gateway that they cannot reach until their neighbour entries expire.
			end.MAC = RandomMAC()
		}
		end.MTU = 0 // see remember
		return rtnl.NewBridge(end, rtnl.Bridge{VLANFiltering: l.VLANs}, a.upAtOnce(l)), nil
	}
	master, namespace := 0, 0
	if l.Master != "" {
		m, err := a.link(l.Place, l.Master)
		if err != nil {
			return rawnl.Message{}, err
		}
		master = m.Index
	}
	if l.Kind != Veth {
		return a.single(l, end, master)
	}
	if l.Peer.Place != l.Place {
		namespace = a.kernel.at(l.Peer.Place).FD()
	}
	peer := rtnl.End{Name: l.Peer.Name, MTU: l.Peer.MTU, MAC: l.Peer.MAC}
	return rtnl.NewVeth(end, peer, namespace, master), nil
}

// single is the request that makes a link without another end: on its parent if it has one, which may be in another namespace.
func (a *applier) single(l *Link, end rtnl.End, master int) (rawnl.Message, error) {
	kind := kindName(l.Kind)
	n := rtnl.New{End: end, Kind: kind, Master: master, Data: l.Child.Data(kind)}
	if l.Parent != "" {
		parent, err := a.link(l.ParentAt, l.Parent)
		if err != nil {
			return rawnl.Message{}, err
		}
		n.Parent = parent.Index
		if l.ParentAt != l.Place {
			n.Namespace = a.kernel.at(l.Place).FD()
		}
	}
	return rtnl.NewLink(n), nil
}

// RandomMAC is a locally administered unicast address (IEEE 802, clause 8.4).
func RandomMAC() net.HardwareAddr {
	r := rand.Uint64()
	mac := net.HardwareAddr{byte(r), byte(r >> 8), byte(r >> 16), byte(r >> 24), byte(r >> 32), byte(r >> 40)}
	mac[0] = mac[0]&^1 | 2
	return mac
}

// linkError explains what the kernel's answer to a new link most often means.
func linkError(l *Link, err error) error {
	switch {
	case errors.Is(err, unix.EEXIST) && l.Kind == VLANLink: // of its name, which nobody else can have taken since, or of its number
		return errcode.Errorf(errcode.AlreadyExists, "VLAN %d of %s interface %s exists already, and it can have only one interface",
			l.Child.ID, l.ParentAt, l.Parent)
	case errors.Is(err, unix.EEXIST):
		return errcode.Errorf(errcode.AlreadyExists, "%s interface %s exists already", l.Place, l.Name)
	case errors.Is(err, unix.EOPNOTSUPP) && l.VLANs:
		return errcode.Errorf(errcode.UnsupportedField, "vlan: this kernel's bridge has no VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING): %w", err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return errcode.Errorf(errcode.Kernel, "this kernel has no %s (module %s): %w", kindName(l.Kind), moduleName(l.Kind), err)
	default:
		return errcode.Errorf(errcode.Kernel, "create %s interface %s: %w", l.Place, l.Name, err)
	}
}

// setUp gives a link the properties that it does not have yet, its flags as a bridge's port among them, and takes it up unless it waits for
// sysctls.
func (a *applier) setUp(l *Link) error {
	link, err := a.link(l.Place, l.Name)
	if err != nil {
		return err
	}
	changes, err := a.changes(l, link)
	if err != nil {
		return err
	}
	requests := make([]request, len(changes))
	for i, c := range changes {
		requests[i] = a.changing(l, link, c)
		requests[i].optional = c.NoLinkLocal // a kernel without IPv6 knows nothing of it
	}
	if _, err := a.kernel.at(l.Place).do(requests...); err != nil {
		return err
	}
	return setVLANs(a.kernel.at(l.Place), link, l.Port)
}

// changes are what a link lacks, in the order in which the kernel wants it: the flags of a port need the bridge, and each change of a link
// that is up would have the kernel walk through all IPv6 routes of the host.
func (a *applier) changes(l *Link, have *rtnl.Link) (out []rtnl.Change, err error) {
	if l.OwnerTag && !l.taggedAtOnce() {
		out = append(out, rtnl.Change{Alias: aliasOf(a.plan)})
	}
	if l.Kind == Veth && l.Place == Host && !a.hasSysctls(l) {
		// Nobody speaks IPv6 to it. With an address for each pod the host would have four routes more for each.
		out = append(out, rtnl.Change{NoLinkLocal: true})
	}
	if l.Promisc && have.Promisc == 0 {
		out = append(out, rtnl.Change{Promisc: true})
	}
	if l.VLANs && !have.VLANFiltering {
		out = append(out, rtnl.Change{VLANFiltering: true})
	}
	if l.Master != "" {
		master, err := a.link(l.Place, l.Master)
		if err != nil {
			return nil, err
		}
		if have.Master != master.Index {
			out = append(out, rtnl.Change{Master: master.Index})
		}
	}
	if l.Port.Hairpin || l.Port.Isolated {
		out = append(out, rtnl.Change{Hairpin: l.Port.Hairpin, Isolated: l.Port.Isolated})
	}
	if a.upAtOnce(l) && !have.Up() {
		out = append(out, rtnl.Change{Up: true})
	}
	return out, nil
}

// changing is the request for a change.
func (a *applier) changing(l *Link, link *rtnl.Link, c rtnl.Change) request {
	return request{
		Message: rtnl.SetLink(link.Index, c), what: "set up " + l.Place.String() + " interface " + l.Name,
		explain: func(err error) error {
			if c.VLANFiltering && errors.Is(err, unix.EOPNOTSUPP) {
				return linkError(l, err)
			}
			if l.Parent != "" && errors.Is(err, unix.ENETDOWN) {
				return errcode.Errorf(errcode.TryAgainLater, "%s interface %s, which %s is made on, is down: %w", l.ParentAt, l.Parent, l.Name, err)
			}
			return errcode.Errorf(errcode.Kernel, "set up %s interface %s: %w", l.Place, l.Name, err)
		},
	}
}

func aliasOf(p *Plan) string { return p.Owner.Text(aliasLimit) }

// upAtOnce tells whether a link goes up when it is made. In the sandbox, and where the plan has sysctls for it, that waits for those: the
// kernel reads them at that moment.
func (a *applier) upAtOnce(l *Link) bool { return l.Up && l.Place == Host && !a.hasSysctls(l) }

// hasSysctls tells whether the plan has sysctls for a link.
func (a *applier) hasSysctls(l *Link) bool {
	return slices.ContainsFunc(a.plan.Sysctls, func(s Sysctl) bool { return s.Place == l.Place && slices.Contains(s.Path, l.Name) })
}

// raise takes the links up that have waited for sysctls: the host's first, so that a bridge is there when its port's other end comes up.
func (a *applier) raise(context.Context) error {
	for _, place := range []Place{Host, Sandbox} {
		var requests []request
		for i := range a.plan.Links {
			for l := &a.plan.Links[i]; l != nil; l = l.Peer {
				if !l.Up || l.Place != place || a.upAtOnce(l) {
					continue
				}
				link, err := a.link(l.Place, l.Name)
				if err != nil {
					return err
				}
				if l.Kind == Existing && l == &a.plan.Links[i] && !link.Up() { // a peer has no kind of its own
					a.undo.Push("interface "+l.Name+" up", func() error { return SetDown(a.kernel.at(l.Place), l.Name) })
				}
				requests = append(requests, a.changing(l, link, rtnl.Change{Up: true}))
			}
		}
		if len(requests) == 0 {
			continue
		}
		if _, err := a.kernel.at(place).do(requests...); err != nil {
			return err
		}
	}
	return nil
}
