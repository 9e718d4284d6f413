package netutil

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Settings are what can be changed of any link; what is nil or 0 stays as it is.
type Settings struct {
	MAC               net.HardwareAddr
	MTU               int // bytes
	Promisc, AllMulti *bool
	TxQLen            *int // packets
}

// SettingsOf are a link's settings, all of them; nil if there is no such link.
func SettingsOf(n *Namespace, link string) (*Settings, error) {
	l, err := n.findLink(link)
	if l == nil || err != nil {
		return nil, err
	}
	promisc, allMulti := l.Flags&unix.IFF_PROMISC != 0, l.Flags&unix.IFF_ALLMULTI != 0
	return &Settings{MAC: l.MAC, MTU: l.MTU, Promisc: &promisc, AllMulti: &allMulti, TxQLen: &l.TxQLen}, nil
}

// Set changes a link's settings, each that it can, and joins the errors.
func (s *Settings) Set(n *Namespace, link string) error {
	l, err := n.findLink(link)
	if err == nil && l == nil {
		err = errNoLink(Sandbox, link)
	}
	if err != nil {
		return err
	}
	var requests []request
	change := func(what string, c rtnl.Change) {
		requests = append(requests, request{Message: rtnl.SetLink(l.Index, c), what: "interface " + link + ": set its " + what})
	}
	if s.MAC != nil {
		change("MAC address", rtnl.Change{MAC: s.MAC})
	}
	if s.MTU != 0 {
		change("mtu", rtnl.Change{MTU: s.MTU})
	}
	if s.TxQLen != nil {
		change("queue length", rtnl.Change{TxQLen: s.TxQLen})
	}
	for _, f := range []struct {
		what string
		flag uint32
		on   *bool
	}{{"promiscuous mode", unix.IFF_PROMISC, s.Promisc}, {"all-multicast mode", unix.IFF_ALLMULTI, s.AllMulti}} {
		if f.on == nil {
			continue
		}
		c := rtnl.Change{FlagsMask: f.flag}
		if *f.on {
			c.Flags = f.flag
		}
		change(f.what, c)
	}
	var errs []error
	for _, r := range requests {
		_, err := n.do(r)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Verify compares a link's settings with these. The first difference is an error with code errcode.Differs.
func (s *Settings) Verify(n *Namespace, link string) error {
	have, err := SettingsOf(n, link)
	switch {
	case err != nil:
		return err
	case have == nil:
		return differs("interface %s is gone", link)
	case s.MAC != nil && !bytes.Equal(s.MAC, have.MAC):
		return differs("interface %s has the MAC address %s, not %s", link, have.MAC, s.MAC)
	case s.MTU != 0 && s.MTU != have.MTU:
		return differs("interface %s has the mtu %d, not %d", link, have.MTU, s.MTU)
	case s.Promisc != nil && *s.Promisc != *have.Promisc:
		return differs("interface %s: promiscuous mode is %t, not %t", link, *have.Promisc, *s.Promisc)
	case s.AllMulti != nil && *s.AllMulti != *have.AllMulti:
		return differs("interface %s: all-multicast mode is %t, not %t", link, *have.AllMulti, *s.AllMulti)
	case s.TxQLen != nil && *s.TxQLen != *have.TxQLen:
		return differs("interface %s has a queue of %d, not %d", link, *have.TxQLen, *s.TxQLen)
	}
	return nil
}

// errNoSysctl says that the kernel does not take the value, or knows no sysctl of the name.
func errNoSysctl(s *Sysctl, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return errcode.Errorf(errcode.InvalidConfig, "sysctl: %s cannot be %q: %w", strings.Join(s.Path, "."), s.Value, err)
}

// Before are the values that the sandbox has of the sysctls, in their order: what is to be put back.
func Before(sandbox *Namespace, list []Sysctl) ([]Sysctl, error) {
	out := make([]Sysctl, len(list))
	for i := range list {
		value, err := sandbox.Sysctl(list[i].Path...)
		if err != nil {
			return nil, errNoSysctl(&list[i], err)
		}
		out[i] = Sysctl{Place: Sandbox, Path: list[i].Path, Value: value}
	}
	return out, nil
}

// SetSysctls writes values, each that it can, and joins the errors. A value that the kernel refuses is the configuration's fault.
func SetSysctls(sandbox *Namespace, list []Sysctl) error {
	var errs []error
	for i := range list {
		if _, err := sandbox.SetSysctl(list[i].Value, list[i].Path...); err != nil {
			errs = append(errs, errNoSysctl(&list[i], err))
		}
	}
	return errors.Join(errs...)
}

// RestoreSysctls is SetSysctls for values of before: a sysctl that is gone, with its interface or module, needs none.
func RestoreSysctls(sandbox *Namespace, list []Sysctl) error {
	var errs []error
	for i := range list {
		if _, err := sandbox.SetSysctl(list[i].Value, list[i].Path...); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
