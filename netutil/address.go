package netutil

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
)

func (a *applier) addAddrs(ctx context.Context) error {
	for i := range a.plan.Addrs {
		if err := a.addAddr(&a.plan.Addrs[i]); err != nil {
			return err
		}
	}
	for i := range a.plan.Addrs {
		if err := a.waitDAD(ctx, &a.plan.Addrs[i]); err != nil {
			return err
		}
	}
	return nil
}

// waitLocal waits until the sandbox answers to its IPv6 addresses. The kernel adds an address at once, but joins its multicast group and
// makes it a local one in a queue of work that all namespaces share, and while many come and go that takes a second.
func (a *applier) waitLocal(ctx context.Context) error {
	for i := range a.plan.Addrs {
		ad := &a.plan.Addrs[i]
		if ad.Place != Sandbox || ad.Prefix.Addr().Is4() {
			continue
		}
		h, err := linksOf(a.kernel.Sandbox)
		if err != nil {
			return err
		}
		groups := []uint{unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_IFADDR}
		err = waitFor(ctx, a.kernel.Sandbox, "address "+ad.Prefix.String(), waitLimit, groups, func() (bool, error) {
			routes, err := h.RouteGet(ad.Prefix.Addr().AsSlice())
			return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) addAddr(ad *Addr) error {
	link, h, err := a.link(ad.Place, ad.Link)
	if err != nil {
		return err
	}
	if ad.Shared {
		return a.addShared(h, link, ad)
	}
	if err := h.AddrAdd(link, kernelAddr(ad)); err != nil {
		return errcode.Errorf(errcode.Kernel, "add address %s to %s interface %s: %w", ad.Prefix, ad.Place, ad.Link, err)
	}
	return nil
}

// addShared adds an address that other attachments use as well, such as the gateway's on a bridge.
func (a *applier) addShared(h *netlink.Handle, link netlink.Link, ad *Addr) error {
	have, err := listAddrs(h, link, ad.Prefix.Addr())
	if err != nil {
		return err
	}
	var inTheWay []netip.Prefix
	for _, other := range have {
		if other == ad.Prefix {
			return nil
		}
		if ad.Exclusive && conflicts(other, ad.Prefix) && !a.planned(ad, other) {
			inTheWay = append(inTheWay, other)
		}
	}
	if len(inTheWay) > 0 && !ad.Force {
		return errcode.Errorf(errcode.AlreadyExists, "%s interface %s has the address %s, not %s (forceAddress replaces it)",
			ad.Place, ad.Link, inTheWay[0], ad.Prefix)
	}
	for _, other := range inTheWay {
		old := *ad
		old.Prefix = other
		if err := h.AddrDel(link, kernelAddr(&old)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return errcode.Errorf(errcode.Kernel, "remove address %s from %s: %w", other, ad.Link, err)
		}
		a.undo.Push("removal of address "+other.String(), func() error {
			return ignore(h.AddrAdd(link, kernelAddr(&old)), unix.EEXIST)
		})
	}
	a.undo.Push("address "+ad.Prefix.String(), func() error { return a.removeUnusedAddr(ad) })
	if err := h.AddrAdd(link, kernelAddr(ad)); err != nil && !errors.Is(err, unix.EEXIST) {
		return errcode.Errorf(errcode.Kernel, "add address %s to %s: %w", ad.Prefix, ad.Link, err)
	}
	return nil
}

// conflicts tells whether two addresses of one family cannot share a link: two of IPv4 never, since the kernel would choose a
// source address among them; two of IPv6 where their subnets overlap.
func conflicts(a, b netip.Prefix) bool {
	return b.Addr().Is4() || a.Overlaps(b)
}

// planned tells whether the plan itself wants the other address on the same link.
func (a *applier) planned(ad *Addr, other netip.Prefix) bool {
	for i := range a.plan.Addrs {
		p := &a.plan.Addrs[i]
		if p.Place == ad.Place && p.Link == ad.Link && p.Prefix == other {
			return true
		}
	}
	return false
}

// removeUnusedAddr takes a shared address back unless another attachment has come to use it. An attachment's port is on the bridge
// before it looks at the bridge's addresses, so a bridge without other ports has no other user.
func (a *applier) removeUnusedAddr(ad *Addr) error {
	n := a.kernel.at(ad.Place)
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	h, err := linksOf(n)
	if err != nil {
		return err
	}
	link, err := h.LinkByName(ad.Link)
	if isLinkNotFound(err) {
		return nil
	}
	if err != nil {
		return errcode.Errorf(errcode.Kernel, "interface %s: %w", ad.Link, err)
	}
	if used, err := a.usedByOthers(h, link); used || err != nil {
		return err
	}
	return ignore(h.AddrDel(link, kernelAddr(ad)), unix.EADDRNOTAVAIL)
}

func ignore(err error, harmless unix.Errno) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

func kernelAddr(ad *Addr) *netlink.Addr {
	out := &netlink.Addr{IPNet: ipNet(ad.Prefix)}
	if ad.Prefix.Addr().Is6() && !ad.DAD {
		out.Flags |= unix.IFA_F_NODAD
	}
	if ad.NoPrefixRoute {
		out.Flags |= unix.IFA_F_NOPREFIXROUTE
	}
	return out
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Prefix is an address with its mask as the CNI types hold it; ok is false if it is none. IPv4 in IPv6 clothes is unwrapped.
func Prefix(n net.IPNet) (p netip.Prefix, ok bool) {
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap()
	ones, bits := n.Mask.Size()
	switch bits - addr.BitLen() {
	case 0:
	case 96: // an IPv4 address with a mask of 16 bytes
		ones -= 96
	default:
		return netip.Prefix{}, false
	}
	p = netip.PrefixFrom(addr, ones)
	return p, p.IsValid()
}

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// listAddrs lists a link's addresses of the family of like, without link-local ones of IPv6: those are the kernel's own.
func listAddrs(h *netlink.Handle, link netlink.Link, like netip.Addr) ([]netip.Prefix, error) {
	list, err := Dump("addresses of "+link.Attrs().Name, func() ([]netlink.Addr, error) { return h.AddrList(link, family(like)) })
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for i := range list {
		p, ok := Prefix(*list[i].IPNet)
		if ok && !(p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()) {
			out = append(out, p)
		}
	}
	return out, nil
}

// waitDAD waits until the kernel has made sure that nobody else has the address.
func (a *applier) waitDAD(ctx context.Context, ad *Addr) error {
	if !ad.DAD || ad.Prefix.Addr().Is4() {
		return nil
	}
	link, h, err := a.link(ad.Place, ad.Link)
	if err != nil {
		return err
	}
	n := a.kernel.at(ad.Place)
	return waitFor(ctx, n, "address "+ad.Prefix.String(), waitLimit, []uint{unix.RTNLGRP_IPV6_IFADDR}, func() (bool, error) {
		list, err := Dump("addresses of "+ad.Link, func() ([]netlink.Addr, error) { return h.AddrList(link, netlink.FAMILY_V6) })
		if err != nil {
			return false, err
		}
		for i := range list {
			if p, ok := Prefix(*list[i].IPNet); !ok || p != ad.Prefix {
				continue
			}
			if list[i].Flags&unix.IFA_F_DADFAILED != 0 {
				return false, errcode.Errorf(errcode.AddressTaken, "address %s is in use on the link of %s (duplicate address detection)",
					ad.Prefix, ad.Link)
			}
			return list[i].Flags&unix.IFA_F_TENTATIVE == 0, nil
		}
		return false, errcode.Errorf(errcode.Kernel, "address %s is gone from %s", ad.Prefix, ad.Link)
	})
}

// Addrs are the addresses of a link, both families, without link-local ones of IPv6.
func Addrs(n *Namespace, link string) ([]netip.Prefix, error) {
	h, err := linksOf(n)
	if err != nil {
		return nil, err
	}
	l, err := h.LinkByName(link)
	if err != nil {
		return nil, errcode.Errorf(errcode.Kernel, "interface %s: %w", link, err)
	}
	v4, err := listAddrs(h, l, netip.IPv4Unspecified())
	if err != nil {
		return nil, err
	}
	v6, err := listAddrs(h, l, netip.IPv6Unspecified())
	return append(v4, v6...), err
}
