package netutil

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Verify compares the plan with the kernel. The first difference is an error with code errcode.Differs that names the object,
// what it should be and what it is. Sysctls are left out but for those of the sandbox: on the host they may have other owners.
func Verify(_ context.Context, p *Plan, k Kernel) error {
	v := &verifier{applier{plan: p, kernel: k, links: map[linkKey]*rtnl.Link{}}}
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
	if err := v.shapes(); err != nil {
		return err
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
	got, err := v.applier.link(l.Place, l.Name)
	if errors.Is(err, unix.ENODEV) {
		return differs("%s interface %s is gone", l.Place, l.Name)
	}
	if err != nil {
		return err
	}
	switch {
	case l.Kind != Existing && got.Kind != kindName(l.Kind):
		return differs("%s interface %s is %s, not %s", l.Place, l.Name, kindOf(got), kindName(l.Kind))
	case l.MTU != 0 && !l.Shared && got.MTU != l.MTU:
		return differs("%s interface %s has the mtu %d, not %d", l.Place, l.Name, got.MTU, l.MTU)
	case l.MAC != nil && !l.Shared && !bytes.Equal(got.MAC, l.MAC):
		return differs("%s interface %s has the MAC address %s, not %s", l.Place, l.Name, got.MAC, l.MAC)
	case l.Up && !got.Up():
		return differs("%s interface %s is down", l.Place, l.Name)
	case l.Promisc && got.Promisc == 0:
		return differs("%s interface %s is not promiscuous", l.Place, l.Name)
	case l.VLANs && !got.VLANFiltering:
		return differs("%s interface %s does not filter VLANs", l.Place, l.Name)
	}
	if err := v.child(l, got); err != nil {
		return err
	}
	return v.port(l, got)
}

// child compares what a link has that is made on another. What the plan leaves to the kernel is not compared.
func (v *verifier) child(l *Link, got *rtnl.Link) error {
	want := l.Child
	if want.BCQueueLen == 0 {
		want.BCQueueLen = got.Child.BCQueueLen
	}
	if l.Kind != Existing && want != got.Child {
		return differs("%s interface %s is a %s with %+v, not %+v", l.Place, l.Name, kindName(l.Kind), got.Child, want)
	}
	if l.Kind == TapDevice {
		return v.tap(l, got.Index)
	}
	if l.Parent == "" {
		return nil
	}
	parent, err := v.applier.link(l.ParentAt, l.Parent)
	if errors.Is(err, unix.ENODEV) {
		return differs("%s interface %s, which %s is made on, is gone", l.ParentAt, l.Parent, l.Name)
	}
	if err == nil && got.Peer != parent.Index {
		err = differs("%s interface %s is not made on %s interface %s", l.Place, l.Name, l.ParentAt, l.Parent)
	}
	return err
}

func (v *verifier) port(l *Link, got *rtnl.Link) error {
	if l.Master != "" {
		master, err := v.applier.link(l.Place, l.Master)
		if err != nil {
			return err
		}
		if got.Master != master.Index {
			return differs("%s interface %s is no port of %s", l.Place, l.Name, l.Master)
		}
	}
	// Only what the plan wants: another plugin of the list may have switched more on.
	if l.Port.Hairpin && !got.Hairpin {
		return differs("%s interface %s: hairpin mode is off", l.Place, l.Name)
	}
	if l.Port.Isolated && !got.Isolated {
		return differs("%s interface %s is not isolated", l.Place, l.Name)
	}
	return verifyVLANs(v.kernel.at(l.Place), l, got.Index)
}

// pair checks that both ends of a veth are still each other's: a container may have replaced its own.
func (v *verifier) pair(l *Link) error {
	if l.Kind != Veth {
		return nil
	}
	one, err := v.applier.link(l.Place, l.Name)
	if err != nil {
		return err
	}
	other, err := v.applier.link(l.Peer.Place, l.Peer.Name)
	if err != nil {
		return err
	}
	if one.Peer != other.Index {
		return differs("%s interface %s is not the peer of %s interface %s", l.Place, l.Name, l.Peer.Place, l.Peer.Name)
	}
	return nil
}

func (v *verifier) sysctl(s *Sysctl) error {
	if s.Place == Host {
		return nil
	}
	got, err := v.kernel.at(s.Place).Sysctl(s.Path...)
	if errors.Is(err, fs.ErrNotExist) {
		return differs("%s %s is gone", s.Place, sysctlPath(s.Path...))
	}
	if err != nil {
		return err
	}
	if !slices.Equal(strings.Fields(got), strings.Fields(s.Value)) { // the kernel puts its own space between numbers
		return differs("%s %s is %s, not %s", s.Place, sysctlPath(s.Path...), got, s.Value)
	}
	return nil
}

func (v *verifier) addr(ad *Addr) error {
	l, err := v.applier.link(ad.Place, ad.Link)
	if err != nil {
		return err
	}
	have, err := listAddrs(v.kernel.at(ad.Place), l, ad.Prefix.Addr())
	if err != nil {
		return err
	}
	for _, a := range have {
		if a.Prefix == ad.Prefix {
			return nil
		}
	}
	return differs("%s interface %s has no address %s", ad.Place, ad.Link, ad.Prefix)
}

func (v *verifier) route(r *Route) error {
	l, err := v.applier.link(r.Place, r.Link)
	if err != nil {
		return err
	}
	bodies, err := v.routes(r)
	if err != nil {
		return err
	}
	want := kernelRoute(l, r)
	if want.Table == 0 {
		if want.Table, err = v.kernel.at(r.Place).mainTable(l); err != nil {
			return err
		}
	}
	if r.AnyTable {
		want.Table = 0
	}
	if amongRoutes(bodies, &want) {
		return nil
	}
	if r.Table == 0 && r.Place == Sandbox {
		if moved, err := v.movedBySource(bodies, want); moved || err != nil {
			return err
		}
	}
	return differs("no route %s", describe(r))
}

func amongRoutes(bodies [][]byte, want *rtnl.Route) bool {
	for _, b := range bodies {
		for _, got := range rtnl.ParseRoute(b) {
			if sameRoute(&got, want) {
				return true
			}
		}
	}
	return false
}

// movedBySource tells whether a route is in a table that what is sent from one of the plan's addresses goes by, as the role sbr leaves it.
func (v *verifier) movedBySource(bodies [][]byte, want rtnl.Route) (bool, error) {
	rules, err := rulesOf(v.kernel.Sandbox)
	if err != nil {
		return false, err
	}
	for _, rule := range rules {
		ours := func(ad Addr) bool { return ad.Place == Sandbox && ruleFor(ad.Prefix.Addr(), 0).Source == rule.Source }
		if rule.Protocol != rtnl.RuleProtocol || !slices.ContainsFunc(v.plan.Addrs, ours) {
			continue
		}
		want.Table = int(rule.Table)
		if amongRoutes(bodies, &want) {
			return true, nil
		}
	}
	return false, nil
}

// routes are those among which a route must be. The host may have thousands, of which the one to a container is asked for.
func (v *verifier) routes(r *Route) ([][]byte, error) {
	n := v.kernel.at(r.Place)
	if r.Place != Host || !r.Dst.IsSingleIP() {
		return n.list("routes", rtnl.GetRoutes(r.Dst.Addr()))
	}
	answers, err := n.ask(rtnl.GetEntry(r.Dst.Addr()))
	if err != nil {
		return nil, err
	}
	return answers[0].Bodies, nil
}

// sameRoute compares what the plan says of a route; what it leaves open is the kernel's choice.
func sameRoute(got, want *rtnl.Route) bool {
	return got.Link == want.Link && got.Dst == want.Dst &&
		(want.Table == 0 || want.Table == got.Table) &&
		(!want.Gateway.IsValid() || want.Gateway == got.Gateway) &&
		(!want.Source.IsValid() || want.Source == got.Source) &&
		(want.Priority == 0 || want.Priority == got.Priority) &&
		(want.MTU == 0 || want.MTU == got.MTU) &&
		(want.AdvMSS == 0 || want.AdvMSS == got.AdvMSS)
}
