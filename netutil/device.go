package netutil

import (
	"cmp"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// This file hands an interface of the host over to a container as a whole, and takes it back.
//
// In the container its alias is the name that it has on the host: the reference plugin keeps it there too, so either's DEL can take back what
// the other's ADD has handed over. An alternative name, made of the owner, is the mark by which the interface is found whatever the
// container has called it, also in the host when the namespace has died. An alias that it had before stands behind the mark, in another.

// Devices are all interfaces of the namespace.
func Devices(n *Namespace) ([]*rtnl.Device, error) {
	bodies, err := n.list("interfaces", rtnl.GetLinks())
	var out []*rtnl.Device
	for _, b := range bodies {
		if d := rtnl.ParseDevice(b); d != nil {
			out = append(out, d)
		}
	}
	return out, err
}

// FindDevice is the interface of a name, which may be an alternative one of up to 15 bytes; nil if there is none.
func FindDevice(n *Namespace, name string) (*rtnl.Device, error) {
	answers, err := n.do(request{Message: rtnl.GetLink(name), what: "interface " + name, harmless: unix.ENODEV})
	if err != nil || len(answers[0].Bodies) == 0 {
		return nil, err
	}
	return rtnl.ParseDevice(answers[0].Bodies[0]), nil
}

// HandOver moves a device of the host into the sandbox, where it has the owner's interface name, and is down.
func HandOver(k Kernel, o owner.Owner, d *rtnl.Device, undo *Undo) error {
	// Whoever finds a marked device in the host while holding the lock knows that it is on its way back.
	unlock, err := k.Host.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	undo.Push("move of interface "+d.Name, func() error { return undoHandOver(k, o, d) })
	marks := []string{o.LinkName()}
	if long := o.LinkName() + "/" + d.Alias; d.Alias != "" && len(long) < longestAltName {
		marks = append(marks, long)
	}
	requests := unmark(d)
	for _, m := range marks {
		requests = append(requests, request{Message: rtnl.AddAltNames(d.Index, m), optional: true})
	}
	requests = append(requests, request{
		Message: rtnl.MoveLink(d.Index, k.Sandbox.FD(), o.IfName, d.Name),
		explain: func(err error) error {
			switch {
			case errors.Is(err, unix.EEXIST):
				return errcode.Errorf(errcode.AlreadyExists, "%s interface %s exists already", Sandbox, o.IfName)
			case errors.Is(err, unix.EINVAL):
				return errcode.Errorf(errcode.Kernel, "interface %s is of a kind that stays in its namespace: %w", d.Name, err)
			}
			return errcode.Errorf(errcode.Kernel, "move interface %s to the sandbox: %w", d.Name, err)
		},
	})
	_, err = k.Host.do(requests...)
	return err
}

// longestAltName is ALTIFNAMSIZ.
const longestAltName = 128

// undoHandOver puts a device back as it was, wherever it has got to.
func undoHandOver(k Kernel, o owner.Owner, was *rtnl.Device) error {
	back, err := FindDevice(k.Host, was.Name)
	if err != nil {
		return err
	}
	if back == nil || back.Index != was.Index { // it was moved
		d, err := handedOver(k.Sandbox, o, was)
		if d == nil {
			return err
		}
		if err := TakeBack(k, o, d, was.Name); err != nil {
			return err
		}
		if back, err = FindDevice(k.Host, was.Name); back == nil {
			return err
		}
	}
	requests := unmark(back)
	if back.Alias != was.Alias {
		requests = append(requests, request{Message: rtnl.SetAlias(back.Index, was.Alias), what: "restore the alias of interface " + was.Name})
	}
	if was.Up() && !back.Up() {
		requests = append(requests, request{Message: rtnl.SetLink(back.Index, rtnl.Change{Up: true}), what: "take up interface " + was.Name})
	}
	_, err = k.Host.do(requests...)
	return err
}

// handedOver finds the device in the sandbox: by its mark, under the new name, or under the old one where a move was cut short.
func handedOver(sandbox *Namespace, o owner.Owner, was *rtnl.Device) (*rtnl.Device, error) {
	for _, name := range []string{o.LinkName(), o.IfName, was.Name} {
		d, err := FindDevice(sandbox, name)
		if err != nil {
			return nil, err
		}
		if d != nil && (name == o.LinkName() || d.Alias == was.Name || name == was.Name && string(d.MAC) == string(was.MAC)) {
			return d, nil
		}
	}
	return nil, nil
}

// TakeBack moves a device from the sandbox to the host and gives it the name and the alias that it had there. If the name is empty or taken
// on the host, it comes all the same, and the error, with code errcode.AlreadyExists, tells the name that it has got. The device is down.
func TakeBack(k Kernel, o owner.Owner, d *rtnl.Device, name string) error {
	unlock, err := k.Host.Lock() // GC must not take it for one that came back by itself
	if err != nil {
		return err
	}
	defer unlock()
	// It gets its name before the move, so that nobody on the host ever sees it under another. Where that fails, because there is an interface
	// of that name in the sandbox or because it is no name, it has to wait.
	requests := []request{{Message: rtnl.SetLink(d.Index, rtnl.Change{Down: true}), what: "take down interface " + d.Name}}
	if name != "" && name != d.Name {
		requests = append(requests, request{Message: rtnl.RenameLink(d.Index, name), optional: true})
	}
	if _, err := k.Sandbox.do(requests...); err != nil {
		return err
	}
	spare := spareName(o)
	move := func(to string) error {
		_, err := k.Sandbox.do(request{
			Message: rtnl.MoveLink(d.Index, k.Host.FD(), to, name), what: "move interface " + d.Name + " to the host",
		})
		return err
	}
	now, err := k.Sandbox.byIndex(d.Index)
	if err != nil {
		return errcode.Errorf(errcode.Kernel, "sandbox interface %s: %w", d.Name, err)
	}
	arrived := name
	if now.Name == name {
		err = move("")
	}
	if now.Name != name || errors.Is(err, unix.EEXIST) {
		arrived, err = spare, move(spare)
	}
	if err != nil {
		return err
	}
	back, err := FindDevice(k.Host, arrived)
	if err != nil || back == nil { // a device that somebody on the host has renamed at once
		return err
	}
	return settle(k.Host, back, name)
}

// spareName is what a device is called whose own name is taken.
func spareName(o owner.Owner) string {
	return "dev" + strings.TrimPrefix(o.LinkName(), owner.LinkPrefix)
}

// Reclaim gives a device its name and alias again that has come back to the host by itself, as those of hardware do when their namespace
// dies. The name may be empty: then it is the one that the device's alias tells. It succeeds if there is none.
func Reclaim(host *Namespace, o owner.Owner, name string) error {
	return reclaim(host, name, func() ([]*rtnl.Device, error) {
		d, err := FindDevice(host, o.LinkName())
		if d == nil {
			return nil, err
		}
		return []*rtnl.Device{d}, err
	})
}

// ReclaimAll is Reclaim for all devices, whoever has had them.
func ReclaimAll(host *Namespace) error {
	return reclaim(host, "", func() ([]*rtnl.Device, error) { return Devices(host) })
}

func reclaim(host *Namespace, name string, list func() ([]*rtnl.Device, error)) error {
	unlock, err := host.Lock() // an ADD may be about to move a marked device away
	if err != nil {
		return err
	}
	defer unlock()
	found, err := list()
	errs := []error{err}
	for _, d := range found {
		if IsMarked(d) {
			errs = append(errs, settle(host, d, cmp.Or(name, d.Alias, d.Name))) // without an alias the reference plugin has taken it back
		}
	}
	return errors.Join(errs...)
}

// settle gives a device of the host its name and alias. The marks go before the alias does, for with them it tells the name.
func settle(host *Namespace, d *rtnl.Device, name string) error {
	renamed := rename(host, d, name)
	_, err := host.do(append(unmark(d), request{
		Message: rtnl.SetAlias(d.Index, formerAlias(d)), what: "restore the alias of interface " + d.Name,
	})...)
	return errors.Join(renamed, err)
}

// rename gives a device that is back its name.
func rename(host *Namespace, d *rtnl.Device, name string) error {
	if name == d.Name {
		return nil
	}
	if name == "" {
		return errcode.Errorf(errcode.AlreadyExists, "the interface is back on the host as %s: its name is not known any more", d.Name)
	}
	_, err := host.do(
		request{Message: rtnl.SetLink(d.Index, rtnl.Change{Down: true}), what: "take down interface " + d.Name},
		request{Message: rtnl.RenameLink(d.Index, name), explain: func(err error) error {
			if errors.Is(err, unix.EEXIST) {
				return errcode.Errorf(errcode.AlreadyExists, "the interface is back on the host as %s: there is another %s", d.Name, name)
			}
			return errcode.Errorf(errcode.Kernel, "the interface is back on the host as %s: rename it to %s: %w", d.Name, name, err)
		}},
	)
	return err
}

// IsMarked tells of a device on the host that it is on its way to a container or, more likely, has come back from one by itself.
func IsMarked(d *rtnl.Device) bool { return len(marksOf(d)) > 0 }

// marksOf are the marks that a device bears, whoever was its owner.
func marksOf(d *rtnl.Device) (out []string) {
	size := len(owner.Owner{}.LinkName())
	for _, name := range d.AltNames {
		if strings.HasPrefix(name, owner.LinkPrefix) && (len(name) == size || len(name) > size && name[size] == '/') {
			out = append(out, name)
		}
	}
	return out
}

// formerAlias is the alias that a device had on the host.
func formerAlias(d *rtnl.Device) string {
	for _, m := range marksOf(d) {
		if _, alias, ok := strings.Cut(m, "/"); ok {
			return alias
		}
	}
	return ""
}

// unmark takes the marks away.
func unmark(d *rtnl.Device) (out []request) {
	for _, m := range marksOf(d) {
		out = append(out, request{Message: rtnl.DelAltNames(d.Index, m), optional: true})
	}
	return out
}
