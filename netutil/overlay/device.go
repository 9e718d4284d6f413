package overlay

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// device is an interface that an overlay has of its own.
type device struct {
	name, kind string
	key        string           // of the configuration, for errors
	mac        net.HardwareAddr // that it is to have
	mark       net.HardwareAddr // that it is made with, by which it is known until it has its alias
	mtu        int              // bytes
	keepsMAC   bool             // once it has another than mark
}

// halfMade tells that somebody here made the device and died before it got its alias, which the kernel takes only when there is one.
func (d *device) halfMade(l *rtnl.Link) bool {
	return l.Kind == d.kind && l.Alias == "" && l.MAC.String() == d.mark.String()
}

// tunnelDevice makes the tunnel's device, up. One of other properties, which cannot be changed, is made anew.
func (r *reconciler) tunnelDevice() error {
	l, answer, err := r.own(&r.tunnel)
	if err != nil {
		return err
	}
	if have, _ := rtnl.ParseVXLAN(answer); l != nil && have != r.vxlan {
		r.differs("interface %s is %s, not %s", r.tunnel.name, have, r.vxlan)
		if err := r.carryOut([]change{removal(r.tunnel.name)}); err != nil || !r.repair {
			return err
		}
		l = nil
	}
	end := rtnl.End{Name: r.tunnel.name, MTU: r.tunnel.mtu, MAC: r.tunnel.mark}
	r.link, err = r.stand(&r.tunnel, l, rtnl.NewVXLAN(end, r.vxlan))
	return err
}

// bridgeDevice makes the bridge, up. Its MTU is set later: the kernel would take one that the bridge is made with for its own choice, and have it
// follow the ports.
func (r *reconciler) bridgeDevice() error {
	l, _, err := r.own(r.bridge)
	if err == nil {
		end := rtnl.End{Name: r.bridge.name, MAC: r.bridge.mark}
		r.hub, err = r.stand(r.bridge, l, rtnl.NewBridge(end, rtnl.Bridge{MostLearned: mostLearned}, false))
	}
	return err
}

// own finds a device, and refuses one that is not this network's.
func (r *reconciler) own(d *device) (*rtnl.Link, []byte, error) {
	l, answer, err := r.find(d.name)
	switch {
	case err != nil || l == nil:
		return nil, nil, err
	case d.halfMade(l):
		r.differs("interface %s has no alias", d.name)
		err = r.carryOut([]change{{Message: rtnl.SetAlias(l.Index, r.alias), what: "name interface " + d.name}})
	case l.Alias != r.alias || l.Kind != d.kind:
		err = d.anothers(l)
	}
	return l, answer, err
}

func (d *device) anothers(l *rtnl.Link) error {
	return errcode.Errorf(errcode.AlreadyExists, "%s: interface %s is there already, and not this network's (its alias is %q)", d.key, d.name, l.Alias)
}

// judge refuses, before anything is changed, what others have that we would have to take from them.
func (r *reconciler) judge() (err error) {
	if r.all, err = netutil.List(r.n, "interfaces", rtnl.GetLinks()); err != nil {
		return err
	}
	for _, b := range r.all {
		l := rtnl.ParseLink(b)
		if l == nil || l.Alias == r.alias {
			continue
		}
		for _, d := range []*device{&r.tunnel, r.bridge} {
			if d != nil && d.name == l.Name && !d.halfMade(l) {
				return d.anothers(l)
			}
		}
		if v, ok := rtnl.ParseVXLAN(b); ok && l.Name != r.tunnel.name && v.VNI == r.vxlan.VNI && v.Port == r.vxlan.Port && v.Local.Is4() == r.vxlan.Local.Is4() {
			return r.inUse()
		}
	}
	return nil
}

func (r *reconciler) inUse() error {
	return errcode.Errorf(errcode.AlreadyExists, "vni: another VXLAN interface has VNI %d on port %d", r.vxlan.VNI, r.vxlan.Port)
}

// find asks for a link; nil if there is none of the name.
func (r *reconciler) find(name string) (*rtnl.Link, []byte, error) {
	answers, err := netutil.Ask(r.n, rtnl.GetLink(name))
	switch {
	case err != nil:
		return nil, nil, err
	case errors.Is(answers[0].Err, unix.ENODEV):
		return nil, nil, nil
	case answers[0].Err != nil || len(answers[0].Bodies) == 0:
		return nil, nil, errcode.Errorf(errcode.Kernel, "overlay: interface %s: %w", name, answers[0].Err)
	}
	return rtnl.ParseLink(answers[0].Bodies[0]), answers[0].Bodies[0], nil
}

// stand has a device be there and adjusted; l is what there is, or nil, and the result is nil if nothing is to be repaired.
func (r *reconciler) stand(d *device, l *rtnl.Link, creation rawnl.Message) (_ *rtnl.Link, err error) {
	fresh := l == nil
	if fresh {
		r.differs("no interface %s", d.name)
		if !r.repair {
			return nil, nil
		}
		if l, err = r.create(d, creation); err != nil {
			return nil, err
		}
	}
	return l, r.adjust(d, l, fresh)
}

func (r *reconciler) create(d *device, creation rawnl.Message) (*rtnl.Link, error) {
	answers, err := netutil.Ask(r.n, creation)
	if err != nil {
		return nil, err
	}
	switch err := answers[0].Err; {
	case errors.Is(err, unix.EEXIST) && d.kind == "vxlan":
		return nil, r.inUse()
	case errors.Is(err, unix.EOPNOTSUPP):
		return nil, errcode.Errorf(errcode.Kernel, "overlay: this kernel has no such interfaces (module %s): %w", d.kind, err)
	case err != nil:
		return nil, errcode.Errorf(errcode.Kernel, "overlay: make interface %s: %w", d.name, err)
	}
	l, _, err := r.find(d.name) // with the MAC address that marks it, until it is adjusted
	if err == nil && l == nil {
		err = errcode.Errorf(errcode.Kernel, "overlay: interface %s is gone again", d.name)
	}
	if err != nil {
		return nil, err
	}
	return l, r.carryOut([]change{{Message: rtnl.SetAlias(l.Index, r.alias), what: "name interface " + d.name}})
}

// adjust gives a device its MTU and MAC address, and takes it up. Of a fresh one it goes without saying that it is not so yet.
func (r *reconciler) adjust(d *device, l *rtnl.Link, fresh bool) (err error) {
	c := rtnl.Change{}
	if l.MTU != d.mtu {
		c.MTU = d.mtu
		if !fresh {
			r.differs("interface %s has the MTU %d, not %d", d.name, l.MTU, d.mtu)
		}
	}
	if have := l.MAC.String(); have != d.mac.String() && (!d.keepsMAC || have == d.mark.String()) {
		c.MAC = d.mac
		if !fresh {
			r.differs("interface %s has the MAC address %s, not %s", d.name, have, d.mac)
		}
	}
	if !l.Up() {
		c.Up = true
		if !fresh {
			r.differs("interface %s is down", d.name)
		}
	}
	if c.MTU == 0 && c.MAC == nil && !c.Up {
		return nil
	}
	var changes []change
	if c.Up {
		if changes, err = r.beforeUp(d, l); err != nil {
			return err
		}
	}
	return r.carryOut(append(changes, change{Message: rtnl.SetLink(l.Index, c), what: "set up interface " + d.name}))
}

// beforeUp readies a device for what the kernel does when it comes up. The node must not take a pod of another node for a router; a port sends nothing
// of its own, so it needs no address, and that of the bridge, with a MAC address that nobody else has, is good at once.
func (r *reconciler) beforeUp(d *device, l *rtnl.Link) ([]change, error) {
	if !r.repair {
		return nil, nil
	}
	settings := []string{"accept_ra"}
	if d.kind == "bridge" {
		settings = append(settings, "accept_dad")
	}
	for _, s := range settings {
		if err := r.n.SetIPv6(d.name, s, "0"); err != nil {
			return nil, err
		}
	}
	if r.bridge != nil && d.kind == "vxlan" {
		return []change{{rtnl.SetLink(l.Index, rtnl.Change{NoLinkLocal: true}), "set up interface " + d.name, unix.EAFNOSUPPORT}}, nil
	}
	return nil, nil
}
