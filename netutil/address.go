package netutil

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// newAddr adds an address that is the attachment's own.
func newAddr(l *rtnl.Link, ad *Addr) request {
	return request{
		Message: rtnl.NewAddr(kernelAddr(l, ad)),
		what:    "add address " + ad.Prefix.String() + " to " + ad.Place.String() + " interface " + ad.Link,
	}
}

// addShared adds the addresses that other attachments use as well, such as the gateway's on a bridge.
func (a *applier) addShared(context.Context) error {
	for i := range a.plan.Addrs {
		ad := &a.plan.Addrs[i]
		if !ad.Shared {
			continue
		}
		l, err := a.link(ad.Place, ad.Link)
		if err != nil {
			return err
		}
		if err := a.share(l, ad); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) share(l *rtnl.Link, ad *Addr) error {
	n := a.kernel.at(ad.Place)
	have, err := addrsOf(n, l, ad.Prefix.Addr())
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
		a.undo.Push("removal of address "+other.String(), func() error {
			back := newAddr(l, &old)
			back.harmless = unix.EEXIST
			_, err := n.do(back)
			return err
		})
		if err := delAddr(n, l, &old); err != nil {
			return err
		}
	}
	a.undo.Push("address "+ad.Prefix.String(), func() error { return a.removeUnusedAddr(ad) })
	add := newAddr(l, ad)
	add.harmless = unix.EEXIST // another ADD was faster
	_, err = n.do(add)
	return err
}

func delAddr(n *Namespace, l *rtnl.Link, ad *Addr) error {
	_, err := n.do(request{
		Message: rtnl.DelAddr(kernelAddr(l, ad)), harmless: unix.EADDRNOTAVAIL,
		what: "remove address " + ad.Prefix.String() + " from " + ad.Link,
	})
	return err
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
	l, err := n.findLink(ad.Link)
	if l == nil || err != nil {
		return err
	}
	if used, err := a.usedByOthers(n, l); used || err != nil {
		return err
	}
	return delAddr(n, l, ad)
}

func ignore(err error, harmless unix.Errno) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

func kernelAddr(l *rtnl.Link, ad *Addr) rtnl.Addr {
	out := rtnl.Addr{Prefix: ad.Prefix, Link: l.Index}
	if ad.Prefix.Addr().Is6() && !ad.DAD {
		out.Flags |= unix.IFA_F_NODAD
	}
	if ad.NoPrefixRoute {
		out.Flags |= unix.IFA_F_NOPREFIXROUTE
	}
	return out
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
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// listAddrs lists a link's addresses of the family of like.
func listAddrs(n *Namespace, l *rtnl.Link, like netip.Addr) ([]rtnl.Addr, error) {
	bodies, err := n.list("addresses of "+l.Name, rtnl.GetAddrs(l.Index, like))
	if err != nil {
		return nil, err
	}
	var out []rtnl.Addr
	for _, b := range bodies {
		if a, ok := rtnl.ParseAddr(b); ok && a.Link == l.Index {
			out = append(out, a)
		}
	}
	return out, nil
}

// addrsOf is listAddrs without link-local addresses of IPv6: those are the kernel's own.
func addrsOf(n *Namespace, l *rtnl.Link, like netip.Addr) ([]netip.Prefix, error) {
	list, err := listAddrs(n, l, like)
	var out []netip.Prefix
	for _, a := range list {
		if ip := a.Prefix.Addr(); !(ip.Is6() && ip.IsLinkLocalUnicast()) {
			out = append(out, a.Prefix)
		}
	}
	return out, err
}

// waitAddrs waits until the IPv6 addresses are usable.
func (a *applier) waitAddrs(ctx context.Context) error {
	for i := range a.plan.Addrs {
		ad := &a.plan.Addrs[i]
		if ad.Prefix.Addr().Is4() {
			continue
		}
		l, err := a.link(ad.Place, ad.Link)
		if err != nil {
			return err
		}
		if ad.DAD {
			if err := waitDAD(ctx, a.kernel.at(ad.Place), l, ad); err != nil {
				return err
			}
		}
		wait := waitLinkLocal
		if ad.Place == Sandbox {
			wait = waitLocal
		}
		if err := wait(ctx, a.kernel.at(ad.Place), l, ad); err != nil {
			return err
		}
	}
	return nil
}

// waitLinkLocal waits until the host's link has its link-local address, with which the host asks for a container's MAC address when it
// forwards to it (RFC 4861, section 7.2.2): until then it forwards nothing. A link may have been told to have none, so it is not
// waited for longer than a second.
func waitLinkLocal(ctx context.Context, n *Namespace, l *rtnl.Link, ad *Addr) error {
	what := "link-local address of " + ad.Link
	err := waitFor(ctx, n, what, briefly, []uint{unix.RTNLGRP_IPV6_IFADDR}, func() (bool, error) {
		list, err := listAddrs(n, l, ad.Prefix.Addr())
		for _, have := range list {
			if have.Prefix.Addr().IsLinkLocalUnicast() && have.Flags&unix.IFA_F_TENTATIVE == 0 {
				return true, err
			}
		}
		return false, err
	})
	return unlessLate(ctx, err)
}

// waitLocal waits until the namespace answers to an IPv6 address. The kernel adds it at once, but joins its multicast group and
// makes it a local one in a queue of work that all namespaces share, and while many come and go that takes a second.
func waitLocal(ctx context.Context, n *Namespace, _ *rtnl.Link, ad *Addr) error {
	groups := []uint{unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_IFADDR}
	return waitFor(ctx, n, "address "+ad.Prefix.String(), waitLimit, groups, func() (bool, error) {
		r, err := routeTo(n, ad.Prefix.Addr())
		return r != nil && r.Type == unix.RTN_LOCAL, err
	})
}

// waitDAD waits until the kernel has made sure that nobody else has the address.
func waitDAD(ctx context.Context, n *Namespace, l *rtnl.Link, ad *Addr) error {
	return waitFor(ctx, n, "address "+ad.Prefix.String(), waitLimit, []uint{unix.RTNLGRP_IPV6_IFADDR}, func() (bool, error) {
		list, err := listAddrs(n, l, ad.Prefix.Addr())
		if err != nil {
			return false, err
		}
		for _, have := range list {
			if have.Prefix != ad.Prefix {
				continue
			}
			if have.Flags&unix.IFA_F_DADFAILED != 0 {
				return false, errcode.Errorf(errcode.AddressTaken, "address %s is in use on the link of %s (duplicate address detection)",
					ad.Prefix, ad.Link)
			}
			return have.Flags&unix.IFA_F_TENTATIVE == 0, nil
		}
		return false, errcode.Errorf(errcode.Kernel, "address %s is gone from %s", ad.Prefix, ad.Link)
	})
}

// Addrs are the addresses of a link, both families, without link-local ones of IPv6.
func Addrs(n *Namespace, link string) ([]netip.Prefix, error) {
	l, err := n.findLink(link)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, errcode.Errorf(errcode.Kernel, "interface %s: %w", link, unix.ENODEV)
	}
	v4, err := addrsOf(n, l, netip.IPv4Unspecified())
	if err != nil {
		return nil, err
	}
	v6, err := addrsOf(n, l, netip.IPv6Unspecified())
	return append(v4, v6...), err
}

// Addresses are those of a link, but for link-local ones of IPv6; none if there is no link.
func Addresses(n *Namespace, link string) (out []netip.Addr, err error) {
	l, err := n.findLink(link)
	if l == nil || err != nil {
		return nil, err
	}
	for _, like := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		have, err := addrsOf(n, l, like)
		if err != nil {
			return nil, err
		}
		for _, p := range have {
			out = append(out, p.Addr())
		}
	}
	return out, nil
}
