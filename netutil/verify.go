package netutil

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// Verify compares the plan with the kernel. The first difference is an error with code errcode.Differs that names the object,
// what it should be and what it is. Sysctls are left out but for those of the sandbox: on the host they may have other owners.
func Verify(_ context.Context, p *Plan, k Kernel) error {
	v := &verifier{applier{plan: p, kernel: k, links: map[linkKey]netlink.Link{}}}
	for i := range p.Links {
		for l := &p.Links[i]; l != nil; l = l.Peer {
			if err := v.link(l); err != nil {
				return err
			}
		}
		if err := v.pair(&p.Links[i]); err != nil {
			return err
		}
	}
	for i := range p.Sysctls {
		if err := v.sysctl(&p.Sysctls[i]); err != nil {
			return err
		}
	}
	for i := range p.Addrs {
		if err := v.addr(&p.Addrs[i]); err != nil {
			return err
		}
	}
	for i := range p.Routes {
		if err := v.route(&p.Routes[i]); err != nil {
			return err
		}
	}
	if len(p.Filter) == 0 {
		return nil
	}
	return NFT(k.Host).Verify(p.Owner, p.Filter)
}

type verifier struct{ applier }

func differs(format string, args ...any) error {
	return errcode.Errorf(errcode.Differs, format, args...)
}

func (v *verifier) link(l *Link) error {
	got, _, err := v.applier.link(l.Place, l.Name)
	if err != nil {
		if isLinkNotFound(err) {
			return differs("%s interface %s is gone", l.Place, l.Name)
		}
		return err
	}
	at := got.Attrs()
	switch {
	case l.Kind != Existing && got.Type() != kindName(l.Kind):
		return differs("%s interface %s is a %s, not a %s", l.Place, l.Name, got.Type(), kindName(l.Kind))
	case l.MTU != 0 && !l.Shared && at.MTU != l.MTU:
		return differs("%s interface %s has the mtu %d, not %d", l.Place, l.Name, at.MTU, l.MTU)
	case l.MAC != nil && !l.Shared && !bytes.Equal(at.HardwareAddr, l.MAC):
		return differs("%s interface %s has the MAC address %s, not %s", l.Place, l.Name, at.HardwareAddr, l.MAC)
	case l.Up && at.Flags&net.FlagUp == 0:
		return differs("%s interface %s is down", l.Place, l.Name)
	case l.Promisc && at.Promisc == 0:
		return differs("%s interface %s is not promiscuous", l.Place, l.Name)
	}
	if b, ok := got.(*netlink.Bridge); ok && l.VLANs && (b.VlanFiltering == nil || !*b.VlanFiltering) {
		return differs("%s interface %s does not filter VLANs", l.Place, l.Name)
	}
	if l.Master != "" || l.Port.Hairpin {
		return v.port(l, at)
	}
	return nil
}

func (v *verifier) port(l *Link, at *netlink.LinkAttrs) error {
	h, err := linksOf(v.kernel.at(l.Place))
	if err != nil {
		return err
	}
	if l.Master != "" {
		master, _, err := v.applier.link(l.Place, l.Master)
		if err != nil {
			return err
		}
		if at.MasterIndex != master.Attrs().Index {
			return differs("%s interface %s is no port of %s", l.Place, l.Name, l.Master)
		}
	}
	got, err := portFlags(v.kernel.at(l.Place), at.Index)
	if err != nil {
		return err
	}
	// Only what the plan wants: another plugin of the list may have switched more on.
	if l.Port.Hairpin && !got.Hairpin {
		return differs("%s interface %s: hairpin mode is off", l.Place, l.Name)
	}
	if l.Port.Isolated && !got.Isolated {
		return differs("%s interface %s is not isolated", l.Place, l.Name)
	}
	return verifyVLANs(h, l, at.Index)
}

// pair checks that both ends of a veth are still each other's: a container may have replaced its own.
func (v *verifier) pair(l *Link) error {
	if l.Kind != Veth {
		return nil
	}
	one, _, err := v.applier.link(l.Place, l.Name)
	if err != nil {
		return err
	}
	other, _, err := v.applier.link(l.Peer.Place, l.Peer.Name)
	if err != nil {
		return err
	}
	if one.Attrs().ParentIndex != other.Attrs().Index {
		return differs("%s interface %s is not the peer of %s interface %s", l.Place, l.Name, l.Peer.Place, l.Peer.Name)
	}
	return nil
}

func (v *verifier) sysctl(s *Sysctl) error {
	if s.Place == Host {
		return nil
	}
	got, err := v.kernel.at(s.Place).Sysctl(s.Path...)
	if s.Optional && errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if got != s.Value {
		return differs("%s %s is %s, not %s", s.Place, sysctlPath(s.Path...), got, s.Value)
	}
	return nil
}

func (v *verifier) addr(ad *Addr) error {
	link, h, err := v.applier.link(ad.Place, ad.Link)
	if err != nil {
		return err
	}
	have, err := listAddrs(h, link, ad.Prefix.Addr())
	if err != nil {
		return err
	}
	if !slices.Contains(have, ad.Prefix) {
		return differs("%s interface %s has no address %s", ad.Place, ad.Link, ad.Prefix)
	}
	return nil
}

func (v *verifier) route(r *Route) error {
	link, h, err := v.applier.link(r.Place, r.Link)
	if err != nil {
		return err
	}
	want := kernelRoute(r, link.Attrs().Index)
	table := r.Table
	if table == 0 {
		table = unix.RT_TABLE_MAIN
	}
	if r.AnyTable {
		table = unix.RT_TABLE_UNSPEC
	}
	filter := &netlink.Route{LinkIndex: want.LinkIndex, Dst: want.Dst, Table: table}
	const mask = netlink.RT_FILTER_OIF | netlink.RT_FILTER_DST | netlink.RT_FILTER_TABLE
	list, err := Dump("routes", func() ([]netlink.Route, error) { return h.RouteListFiltered(family(r.Dst.Addr()), filter, mask) })
	if err != nil {
		return err
	}
	for i := range list {
		if sameRoute(&list[i], want) {
			return nil
		}
	}
	return differs("no route %s", describe(r))
}

// sameRoute compares what the plan says of a route; what it leaves open is the kernel's choice.
func sameRoute(got, want *netlink.Route) bool {
	return (want.Gw == nil || want.Gw.Equal(got.Gw)) &&
		(want.Src == nil || want.Src.Equal(got.Src)) &&
		(want.Priority == 0 || want.Priority == got.Priority) &&
		(want.MTU == 0 || want.MTU == got.MTU) &&
		(want.AdvMSS == 0 || want.AdvMSS == got.AdvMSS)
}
