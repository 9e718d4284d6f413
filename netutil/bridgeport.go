package netutil

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// defaultVLAN is the one that a VLAN filtering bridge puts every new port into.
const defaultVLAN = 1

// setVLANs makes a port a member of its VLANs.
func setVLANs(n *Namespace, port *rtnl.Link, p Port) error {
	var requests []request
	if p.NoVLAN1 {
		requests = append(requests, request{
			Message: rtnl.DelVLAN(port.Index, defaultVLAN), what: fmt.Sprintf("interface %s: VLAN %d", port.Name, defaultVLAN), harmless: unix.ENOENT,
		})
	}
	for _, v := range p.VLANs {
		requests = append(requests, request{
			Message: rtnl.AddVLANs(port.Index, v.First, v.Last, v.Access), what: fmt.Sprintf("interface %s: VLAN %d-%d", port.Name, v.First, v.Last),
		})
	}
	_, err := n.do(requests...)
	return err
}

// verifyVLANs compares a port's memberships with the plan's, if that has any.
func verifyVLANs(n *Namespace, l *Link, index int) error {
	if l.Port.VLANs == nil {
		return nil
	}
	bodies, err := n.list("VLANs of bridge ports", rtnl.GetVLANs())
	if err != nil {
		return err
	}
	have := map[uint16]bool{} // true: its PVID
	for _, b := range bodies {
		rtnl.ParseVLANs(b, func(port int, id uint16, pvid bool) {
			if port == index {
				have[id] = have[id] || pvid
			}
		})
	}
	for _, want := range l.Port.VLANs {
		for id := want.First; id <= want.Last; id++ {
			pvid, ok := have[id]
			if !ok {
				return differs("%s interface %s is no member of VLAN %d", l.Place, l.Name, id)
			}
			if pvid != want.Access {
				return differs("%s interface %s: VLAN %d is %s", l.Place, l.Name, id, map[bool]string{true: "tagged", false: "its PVID"}[want.Access])
			}
		}
	}
	if _, ok := have[defaultVLAN]; ok && l.Port.NoVLAN1 && !memberOf(l.Port.VLANs, defaultVLAN) {
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
func FiltersBridged(n *Namespace) (bool, error) {
	for _, key := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		v, err := n.Sysctl("net", "bridge", key)
		switch {
		case errors.Is(err, os.ErrNotExist): // without the module
		case err != nil:
			return false, err
		case v != "0":
			return true, nil
		}
	}
	return false, nil
}

// There is what Among finds.
type There struct {
	Links  []string // that exist
	Bridge string   // the first that is a bridge, or else the one that the port belongs to
	Port   string   // the first that is a port of a bridge
}

// Among looks for bridges and their ports among the named links.
func Among(n *Namespace, names []string) (t There, err error) {
	found, err := n.find(names...)
	if err != nil {
		return There{}, err
	}
	master := ""
	for _, l := range found {
		if l == nil {
			continue
		}
		t.Links = append(t.Links, l.Name)
		if t.Bridge == "" && l.Kind == kindName(Bridge) {
			t.Bridge = l.Name
		}
		if l.Master == 0 || t.Port != "" {
			continue
		}
		// A bridge may itself belong to a VRF, or to a bond.
		m, err := n.byIndex(l.Master)
		switch {
		case errors.Is(err, unix.ENODEV): // gone since
		case err != nil:
			return There{}, errcode.Errorf(errcode.Kernel, "host interface %s: what it belongs to: %w", l.Name, err)
		case m.Kind == kindName(Bridge):
			t.Port, master = l.Name, m.Name
		}
	}
	if t.Bridge == "" {
		t.Bridge = master
	}
	return t, nil
}
