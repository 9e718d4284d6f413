package netutil

import (
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// Attributes of a bridge port within IFLA_INFO_SLAVE_DATA (linux/if_link.h).
const (
	brportMode     = 4  // IFLA_BRPORT_MODE: hairpin
	brportIsolated = 33 // IFLA_BRPORT_ISOLATED
)

// portFlags asks for one port. The library can only list those of all bridges, which takes longer the more pods there are.
func portFlags(n *Namespace, index int) (Port, error) {
	sock, err := openSocket(n, unix.NETLINK_ROUTE)
	if err != nil {
		return Port{}, err
	}
	defer sock.Close()
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: sock}}
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	replies, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return Port{}, errcode.Errorf(errcode.Kernel, "bridge port %d: %w", index, err)
	}
	var out Port
	for _, r := range replies {
		if len(r) < unix.SizeofIfInfomsg {
			continue
		}
		data := nested(nested(r[unix.SizeofIfInfomsg:], unix.IFLA_LINKINFO), nl.IFLA_INFO_SLAVE_DATA)
		out.Hairpin = flag(data, brportMode)
		out.Isolated = flag(data, brportIsolated)
	}
	return out, nil
}

// nested is the value of one attribute in a run of attributes, nil if it is not there.
func nested(attrs []byte, kind uint16) []byte {
	list, err := nl.ParseRouteAttr(attrs)
	if err != nil {
		return nil
	}
	for _, a := range list {
		if a.Attr.Type&^unix.NLA_F_NESTED == kind {
			return a.Value
		}
	}
	return nil
}

func flag(attrs []byte, kind uint16) bool {
	v := nested(attrs, kind)
	return len(v) > 0 && v[0] != 0
}

// verifyVLANs compares a port's memberships with the plan's, if that has any.
func verifyVLANs(h *netlink.Handle, l *Link, index int) error {
	if l.Port.VLANs == nil {
		return nil
	}
	all, err := Dump("VLANs of bridge ports", h.BridgeVlanList)
	if err != nil {
		return err
	}
	have := map[uint16]*nl.BridgeVlanInfo{}
	for _, v := range all[int32(index)] {
		have[v.Vid] = v
	}
	for _, want := range l.Port.VLANs {
		for id := want.First; id <= want.Last; id++ {
			got := have[id]
			if got == nil {
				return differs("%s interface %s is no member of VLAN %d", l.Place, l.Name, id)
			}
			if got.PortVID() != want.Access {
				return differs("%s interface %s: VLAN %d is %s", l.Place, l.Name, id, map[bool]string{true: "tagged", false: "its PVID"}[want.Access])
			}
		}
	}
	if l.Port.NoVLAN1 && have[defaultVLAN] != nil && !memberOf(l.Port.VLANs, defaultVLAN) {
		return differs("%s interface %s is still a member of VLAN %d", l.Place, l.Name, defaultVLAN)
	}
	return nil
}

func memberOf(vlans []VLAN, id uint16) bool {
	for _, v := range vlans {
		if v.First <= id && id <= v.Last {
			return true
		}
	}
	return false
}

// FiltersBridged tells whether the namespace's bridges hand the frames that they forward to the IP packet filter (module br_netfilter).
func FiltersBridged(n *Namespace) bool {
	for _, key := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		if v, err := n.Sysctl("net", "bridge", key); err == nil && v != "0" {
			return true
		}
	}
	return false
}

// PortAmong is the first of the named links that is a port of a bridge; empty if none is.
func PortAmong(n *Namespace, names []string) (string, error) {
	h, err := linksOf(n)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		link, err := h.LinkByName(name)
		if isLinkNotFound(err) {
			continue
		}
		if err != nil {
			return "", errcode.Errorf(errcode.Kernel, "interface %s: %w", name, err)
		}
		if link.Attrs().MasterIndex == 0 {
			continue
		}
		// A bridge may itself belong to a VRF, or to a bond.
		if master, err := h.LinkByIndex(link.Attrs().MasterIndex); err == nil && master.Type() == kindName(Bridge) {
			return name, nil
		}
	}
	return "", nil
}
