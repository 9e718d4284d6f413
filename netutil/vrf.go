package netutil

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// VRF is a device of virtual routing and forwarding: the links that follow it have a routing table of their own.
type VRF struct {
	Name  string
	Table uint32 // 0: any
}

// JoinVRF has a link of the sandbox follow the VRF, which is made if it is not there, with a table that nobody uses unless one is asked for.
// What the link has of routes in the main table goes into that of the VRF. The kernel takes the link down and up for this, which costs it
// all routes and its IPv6 addresses; they are put back.
func JoinVRF(ctx context.Context, n *Namespace, v VRF, link string, undo *Undo) error {
	has, table, err := joinVRF(n, v, link, undo)
	if err != nil || has == nil {
		return err
	}
	if err := has.putBack(n, unix.RT_TABLE_MAIN, table); err != nil {
		return err
	}
	return has.await(ctx, n, table)
}

// joinVRF makes the change under the namespace's lock, so that two attachments of one container choose different tables, and a VRF is not
// removed while a link is about to join it. It returns nothing if the link was there already.
func joinVRF(n *Namespace, v VRF, link string, undo *Undo) (has *belongings, table uint32, err error) {
	unlock, err := n.Lock()
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	l, err := n.findLink(link)
	if err != nil {
		return nil, 0, err
	}
	if l == nil {
		return nil, 0, errNoLink(Sandbox, link)
	}
	all, err := n.vrfs()
	if err != nil {
		return nil, 0, err
	}
	vrf, err := findVRF(n, v, all)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case vrf != nil && l.Master == vrf.index:
		return nil, 0, nil
	case l.Master != 0:
		return nil, 0, errcode.Errorf(errcode.AlreadyExists, "sandbox interface %s has another master already%s", link, named(n, l.Master))
	case vrf == nil:
		if vrf, err = makeVRF(n, v, all, undo); err != nil {
			return nil, 0, err
		}
	}
	has = &belongings{link: l}
	if err := has.collect(n); err != nil {
		return nil, 0, err
	}
	undo.Push("VRF of interface "+link, func() error { return unjoin(n, has, vrf.index) })
	return has, vrf.table, has.follow(n, vrf.index)
}

// unjoin has the link follow nobody, if it follows the VRF, and gives it all that it had.
func unjoin(n *Namespace, has *belongings, master int) error {
	l, err := n.findLink(has.link.Name)
	if l == nil || err != nil {
		return err
	}
	if l.Master == master {
		if err := has.follow(n, 0); err != nil {
			return err
		}
	}
	return has.putBack(n, unix.RT_TABLE_MAIN, unix.RT_TABLE_MAIN)
}

// named tells the name of a link, if it can be had.
func named(n *Namespace, index int) string {
	l, err := n.byIndex(index)
	if err != nil {
		return ""
	}
	return ", " + l.Name
}

// vrf is a VRF that there is.
type vrf struct {
	name  string
	index int
	table uint32
}

// vrfs are those of the namespace.
func (n *Namespace) vrfs() (out []vrf, err error) {
	bodies, err := n.list("interfaces", rtnl.GetLinks())
	for _, b := range bodies {
		if table := rtnl.ParseVRF(b); table != 0 {
			l := rtnl.ParseLink(b)
			out = append(out, vrf{l.Name, l.Index, table})
		}
	}
	return out, err
}

// findVRF is the one that is meant; nil if it has to be made.
func findVRF(n *Namespace, v VRF, all []vrf) (*vrf, error) {
	i := slices.IndexFunc(all, func(have vrf) bool { return have.name == v.Name })
	if i >= 0 {
		if v.Table != 0 && v.Table != all[i].table {
			return nil, errcode.Errorf(errcode.InvalidConfig, "table: the VRF %s has the table %d, not %d", v.Name, all[i].table, v.Table)
		}
		return &all[i], nil
	}
	other, err := n.findLink(v.Name)
	if err == nil && other != nil {
		err = errcode.Errorf(errcode.AlreadyExists, "sandbox interface %s exists already and is %s, not of kind vrf", v.Name, kindOf(other))
	}
	return nil, err
}

func makeVRF(n *Namespace, v VRF, all []vrf, undo *Undo) (*vrf, error) {
	if i := slices.IndexFunc(all, func(have vrf) bool { return have.table == v.Table }); i >= 0 {
		return nil, errcode.Errorf(errcode.InvalidConfig, "table: %d is that of the VRF %s", v.Table, all[i].name)
	}
	if v.Table == 0 {
		var err error
		if v.Table, err = freeTable(n, all, 1); err != nil {
			return nil, err
		}
	}
	undo.Push("VRF "+v.Name, func() error { return deleteUnusedVRF(n, v.Name) })
	_, err := n.do(request{Message: rtnl.NewVRF(v.Name, v.Table), explain: func(err error) error { return vrfError(v.Name, err) }})
	if err != nil {
		return nil, err
	}
	l, err := n.findLink(v.Name)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, errNoLink(Sandbox, v.Name)
	}
	return &vrf{v.Name, l.Index, v.Table}, nil
}

func vrfError(name string, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return errcode.Errorf(errcode.Kernel, "this kernel has no vrf (module vrf): %w", err)
	}
	return errcode.Errorf(errcode.Kernel, "create sandbox interface %s: %w", name, err)
}

// KnowsVRF is an error if the kernel knows no VRF. It asks for one without a table, which no kernel makes.
func KnowsVRF(n *Namespace) error {
	_, err := n.do(request{
		Message: rtnl.NewVRF("", 0), harmless: unix.EINVAL, explain: func(err error) error { return vrfError("vrf", err) },
	})
	return err
}

// both are the address families.
func both() []netip.Addr { return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} }

// freeTable is the lowest number from the first on of a routing table that no VRF, route or rule has. The kernel's own are in use by its rules.
func freeTable(n *Namespace, all []vrf, first uint32) (uint32, error) {
	used := map[uint32]bool{unix.RT_TABLE_COMPAT: true, unix.RT_TABLE_DEFAULT: true, unix.RT_TABLE_MAIN: true, unix.RT_TABLE_LOCAL: true}
	for _, v := range all {
		used[v.table] = true
	}
	for _, like := range both() {
		routes, err := n.list("routes", rtnl.GetRoutes(like))
		if err != nil {
			return 0, err
		}
		for _, b := range routes {
			for _, r := range rtnl.ParseRoute(b) {
				used[uint32(r.Table)] = true
			}
		}
		rules, err := n.list("rules", rtnl.GetRules(like))
		if err != nil {
			return 0, err
		}
		for _, b := range rules {
			used[rtnl.ParseRule(b).Table] = true
		}
	}
	table := first
	for used[table] {
		table++
	}
	return table, nil
}

// release has the link follow nobody, if it follows the VRF, and puts back what the kernel takes from it for that.
func release(n *Namespace, link string, v vrf) error {
	l, err := n.findLink(link)
	if l == nil || err != nil || l.Master != v.index {
		return err
	}
	has := &belongings{link: l}
	if err := has.collect(n); err != nil {
		return err
	}
	return errors.Join(has.follow(n, 0), has.putBack(n, v.table, unix.RT_TABLE_MAIN))
}

// LeaveVRF releases the link, whose routes go back into the main table, and removes the VRF if no other link follows it. It succeeds if either
// is gone. Without a name it is the VRF that the link follows, whatever it is called.
func LeaveVRF(n *Namespace, name, link string) error {
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	all, err := n.vrfs()
	if err != nil {
		return err
	}
	follows := 0
	if name == "" {
		l, err := FindLink(n, link)
		if err != nil || l == nil {
			return err
		}
		follows = l.Master
	}
	i := slices.IndexFunc(all, func(v vrf) bool { return v.name == name || v.index == follows })
	if i < 0 {
		return nil
	}
	err = release(n, link, all[i])
	return errors.Join(err, removeUnusedVRF(n, all[i]))
}

func deleteUnusedVRF(n *Namespace, name string) error { return LeaveVRF(n, name, name) }

func removeUnusedVRF(n *Namespace, v vrf) error {
	links, err := n.links()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(links, func(l *rtnl.Link) bool { return l.Master == v.index }) {
		return nil
	}
	_, err = DeleteLink(n, v.name)
	return err
}

// VerifyVRF compares the VRF with what it should be. That a link follows it is part of the link's plan.
func VerifyVRF(n *Namespace, v VRF) error {
	all, err := n.vrfs()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(have vrf) bool { return have.name == v.Name })
	switch {
	case i < 0:
		return differs("sandbox interface %s is gone, or no VRF", v.Name)
	case v.Table != 0 && v.Table != all[i].table:
		return differs("the VRF %s has the table %d, not %d", v.Name, all[i].table, v.Table)
	}
	return nil
}

// mainTable is the table in which a link's routes are that name none: that of the VRF which it follows, if any.
func (n *Namespace) mainTable(l *rtnl.Link) (int, error) {
	if l.Master == 0 {
		return unix.RT_TABLE_MAIN, nil
	}
	answers, err := n.do(request{Message: rtnl.GetLinkByIndex(l.Master), what: "master of interface " + l.Name})
	if err != nil {
		return 0, err
	}
	for _, b := range answers[0].Bodies {
		if table := rtnl.ParseVRF(b); table != 0 {
			return int(table), nil
		}
	}
	return unix.RT_TABLE_MAIN, nil
}
