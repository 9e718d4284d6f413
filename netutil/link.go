package netutil

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// aliasLimit is the longest alias that the kernel stores (IFALIASZ, less its final NUL).
const aliasLimit = 255

// DefaultMTU is what the kernel gives a bridge or a veth whose MTU nobody chose, in bytes.
const DefaultMTU = 1500

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
				return errcode.Errorf(errcode.Kernel, "set up %s interface %s: %w", end.Place, end.Name, err)
			}
		}
	}
	return nil
}

// make creates the link, unless it is shared and there.
func (a *applier) make(l *Link) error {
	h, err := linksOf(a.kernel.at(l.Place))
	if err != nil {
		return err
	}
	if l.Shared {
		if found, err := h.LinkByName(l.Name); err == nil {
			return a.adopt(l, found)
		}
	}
	if l.Peer != nil {
		// The kernel's answer to the creation of a pair does not tell a taken name in the sandbox from one in the host.
		if err := RefuseLink(a.kernel.at(l.Peer.Place), l.Peer.Place, l.Peer.Name); err != nil {
			return err
		}
	}
	made := true
	a.undo.Push("interface "+l.Name, func() error {
		if !made {
			return nil
		}
		if l.Shared {
			return a.deleteUnused(l)
		}
		return DeleteLink(a.kernel.at(l.Place), l.Name)
	})
	wanted := a.newLink(l)
	err = h.LinkAdd(wanted)
	if errors.Is(err, unix.EEXIST) {
		made = false
		// A program that does not know the lock may have been faster.
		if found, err := h.LinkByName(l.Name); l.Shared && err == nil {
			return a.adopt(l, found)
		}
		return errcode.Errorf(errcode.AlreadyExists, "%s interface %s exists already", l.Place, l.Name)
	}
	if err != nil {
		return linkError(l, err)
	}
	a.links[linkKey{l.Place, l.Name}] = wanted
	return a.pinMTU(l, wanted)
}

// pinMTU keeps a bridge from following its ports, to the default when the last of them goes. For that the MTU must be changed: the kernel
// takes one that the bridge was created with for its own choice.
func (a *applier) pinMTU(l *Link, made netlink.Link) error {
	if l.Kind != Bridge || l.MTU == 0 {
		return nil
	}
	h, err := linksOf(a.kernel.at(l.Place))
	if err != nil {
		return err
	}
	if err := h.LinkSetMTU(made, l.MTU); err != nil {
		return errcode.Errorf(errcode.Kernel, "%s interface %s: set its MTU: %w", l.Place, l.Name, err)
	}
	made.Attrs().MTU = l.MTU
	return nil
}

// adopt checks that a shared link that is there already is what the plan means.
func (a *applier) adopt(l *Link, found netlink.Link) error {
	if got, want := found.Type(), kindName(l.Kind); got != want {
		return errcode.Errorf(errcode.AlreadyExists, "%s interface %s exists already and is a %s, not a %s", l.Place, l.Name, got, want)
	}
	a.links[linkKey{l.Place, l.Name}] = found
	if l.Kind == Bridge && found.Attrs().OperState != netlink.OperUp {
		return a.pinMAC(l, found)
	}
	return nil
}

// pinMAC keeps the address that a bridge without active ports has now, see newLink.
func (a *applier) pinMAC(l *Link, bridge netlink.Link) error {
	h, err := linksOf(a.kernel.at(l.Place))
	if err != nil {
		return err
	}
	if err := h.LinkSetHardwareAddr(bridge, bridge.Attrs().HardwareAddr); err != nil {
		return errcode.Errorf(errcode.Kernel, "%s interface %s: set its MAC address: %w", l.Place, l.Name, err)
	}
	return nil
}

// RefuseLink is an error with code errcode.AlreadyExists if the namespace, which is that place of a plan, has a link of the name.
func RefuseLink(n *Namespace, place Place, name string) error {
	h, err := linksOf(n)
	if err != nil {
		return err
	}
	if _, err := h.LinkByName(name); err == nil {
		return errcode.Errorf(errcode.AlreadyExists, "%s interface %s exists already", place, name)
	}
	return nil
}

func kindName(k Kind) string {
	if k == Bridge {
		return "bridge"
	}
	return "veth"
}

func (a *applier) newLink(l *Link) netlink.Link {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = l.Name, l.MTU, l.MAC
	if l.Kind == Bridge {
		if attrs.HardwareAddr == nil {
			// A bridge without an address of its own takes that of one of its ports and changes it as pods come and go, which
			// leaves them with a gateway that they cannot reach until their neighbour entries expire.
			attrs.HardwareAddr = randomMAC()
		}
		attrs.MTU = 0 // see pinMTU
		b := &netlink.Bridge{LinkAttrs: attrs}
		if l.VLANs {
			b.VlanFiltering = &l.VLANs
		}
		return b
	}
	v := &netlink.Veth{LinkAttrs: attrs, PeerName: l.Peer.Name, PeerHardwareAddr: l.Peer.MAC, PeerMTU: uint32(l.Peer.MTU), PeerTxQLen: -1}
	if l.Peer.Place != l.Place {
		v.PeerNamespace = netlink.NsFd(a.kernel.at(l.Peer.Place).FD())
	}
	return v
}

// randomMAC is a locally administered unicast address (IEEE 802, clause 8.4).
func randomMAC() net.HardwareAddr {
	r := rand.Uint64()
	mac := net.HardwareAddr{byte(r), byte(r >> 8), byte(r >> 16), byte(r >> 24), byte(r >> 32), byte(r >> 40)}
	mac[0] = mac[0]&^1 | 2
	return mac
}

// linkError explains what the kernel's answer to a new link most often means.
func linkError(l *Link, err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP) && l.VLANs:
		return errcode.Errorf(errcode.UnsupportedField, "vlan: this kernel's bridge has no VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING): %w", err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return errcode.Errorf(errcode.Kernel, "this kernel has no %s (module %[1]s): %w", kindName(l.Kind), err)
	default:
		return errcode.Errorf(errcode.Kernel, "create %s interface %s: %w", l.Place, l.Name, err)
	}
}

// setUp gives a link its properties, master and port flags, and takes those up that do not wait for sysctls.
func (a *applier) setUp(l *Link) error {
	link, h, err := a.link(l.Place, l.Name)
	if err != nil {
		return err
	}
	if l.OwnerTag {
		if err := h.LinkSetAlias(link, aliasOf(a.plan)); err != nil {
			return err
		}
	}
	if l.Promisc && link.Attrs().Promisc == 0 {
		if err := h.SetPromiscOn(link); err != nil {
			return err
		}
	}
	if b, ok := link.(*netlink.Bridge); ok && l.VLANs && (b.VlanFiltering == nil || !*b.VlanFiltering) {
		if err := h.BridgeSetVlanFiltering(link, true); err != nil {
			return linkError(l, err)
		}
	}
	if err := a.join(h, link, l); err != nil {
		return err
	}
	if l.Up && l.Place == Host && link.Attrs().Flags&net.FlagUp == 0 {
		return h.LinkSetUp(link)
	}
	return nil
}

func aliasOf(p *Plan) string { return p.Owner.Text(aliasLimit) }

// join makes a link a port of its bridge.
func (a *applier) join(h *netlink.Handle, link netlink.Link, l *Link) error {
	if l.Master != "" {
		master, _, err := a.link(l.Place, l.Master)
		if err != nil {
			return err
		}
		if err := h.LinkSetMaster(link, master); err != nil {
			return err
		}
	}
	if l.Port.Hairpin {
		if err := h.LinkSetHairpin(link, true); err != nil {
			return err
		}
	}
	if l.Port.Isolated {
		if err := h.LinkSetIsolated(link, true); err != nil {
			return err
		}
	}
	return setVLANs(h, link, l.Port)
}

// defaultVLAN is the one that a VLAN filtering bridge puts every new port into.
const defaultVLAN = 1

func setVLANs(h *netlink.Handle, link netlink.Link, p Port) error {
	if p.NoVLAN1 {
		if err := h.BridgeVlanDel(link, defaultVLAN, false, false, false, true); err != nil && !errors.Is(err, unix.ENOENT) {
			return errcode.Errorf(errcode.Kernel, "VLAN %d: %w", defaultVLAN, err)
		}
	}
	for _, v := range p.VLANs {
		var err error
		if v.First == v.Last {
			err = h.BridgeVlanAdd(link, v.First, v.Access, v.Access, false, true)
		} else {
			err = h.BridgeVlanAddRange(link, v.First, v.Last, v.Access, v.Access, false, true)
		}
		if err != nil {
			return errcode.Errorf(errcode.Kernel, "VLAN %d-%d: %w", v.First, v.Last, err)
		}
	}
	return nil
}

// raiseLinks takes the sandbox's links up: after their sysctls, which the kernel reads at that moment.
func (a *applier) raiseLinks(context.Context) error {
	for i := range a.plan.Links {
		for l := &a.plan.Links[i]; l != nil; l = l.Peer {
			if !l.Up || l.Place != Sandbox {
				continue
			}
			link, h, err := a.link(l.Place, l.Name)
			if err != nil {
				return err
			}
			if l.Kind == Existing && link.Attrs().Flags&net.FlagUp == 0 {
				a.undo.Push("interface "+l.Name+" up", func() error { return SetDown(a.kernel.at(l.Place), l.Name) })
			}
			if err := h.LinkSetUp(link); err != nil {
				return errcode.Errorf(errcode.Kernel, "take up %s interface %s: %w", l.Place, l.Name, err)
			}
		}
	}
	return nil
}

// DeleteLink removes a link, and with it what hangs on it: the peer, addresses, routes. It succeeds if there is none.
func DeleteLink(n *Namespace, name string) error {
	h, err := linksOf(n)
	if err != nil {
		return err
	}
	link, err := h.LinkByName(name)
	if isLinkNotFound(err) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return errcode.Errorf(errcode.Kernel, "delete interface %s: %w", name, err)
	}
	return nil
}

// deleteUnused removes a shared link if nobody has begun to use it since it was made.
func (a *applier) deleteUnused(l *Link) error {
	n := a.kernel.at(l.Place)
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	h, err := linksOf(n)
	if err != nil {
		return err
	}
	bridge := l.Name
	if l.Kind == Veth {
		bridge = l.Peer.Master
	}
	link, err := h.LinkByName(bridge)
	if isLinkNotFound(err) {
		return nil
	}
	if err != nil {
		return errcode.Errorf(errcode.Kernel, "interface %s: %w", bridge, err)
	}
	if used, err := a.usedByOthers(h, link); used || err != nil {
		return err
	}
	return DeleteLink(n, l.Name)
}

// usedByOthers tells whether a bridge has ports that the plan does not know.
func (a *applier) usedByOthers(h *netlink.Handle, bridge netlink.Link) (bool, error) {
	all, err := Dump("interfaces", h.LinkList)
	if err != nil {
		return false, err
	}
	for _, other := range all {
		if at := other.Attrs(); at.MasterIndex == bridge.Attrs().Index && !a.plans(at.Name) {
			return true, nil
		}
	}
	return false, nil
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
	h, err := linksOf(sandbox)
	if err != nil {
		return err
	}
	link, err := h.LinkByName(name)
	if isLinkNotFound(err) || err == nil && link.Type() != kindName(Veth) {
		return nil
	}
	if err != nil {
		return errcode.Errorf(errcode.Kernel, "sandbox interface %s: %w", name, err)
	}
	hostLinks, err := linksOf(host)
	if err != nil {
		return err
	}
	peer, err := hostLinks.LinkByIndex(link.Attrs().ParentIndex)
	if err == nil && peer.Attrs().Alias != "" {
		return nil
	}
	return DeleteLink(sandbox, name)
}

func isLinkNotFound(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing)
}

// SetDown takes a link down. It succeeds if there is none.
func SetDown(n *Namespace, name string) error {
	h, err := linksOf(n)
	if err != nil {
		return err
	}
	link, err := h.LinkByName(name)
	if isLinkNotFound(err) {
		return nil
	}
	if err == nil {
		err = h.LinkSetDown(link)
	}
	if err != nil {
		return errcode.Errorf(errcode.Kernel, "take down interface %s: %w", name, err)
	}
	return nil
}
