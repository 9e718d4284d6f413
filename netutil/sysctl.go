package netutil

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

func (a *applier) writeSysctls(context.Context) error {
	for i := range a.plan.Sysctls {
		s := &a.plan.Sysctls[i]
		n := a.kernel.at(s.Place)
		if s.Place == Host && forwards(n, s) {
			continue
		}
		if _, err := n.SetSysctl(s.Value, s.Path...); err != nil {
			return err
		}
	}
	return nil
}

// forwards tells whether a sysctl is the one that has the host route, and on already: each ADD wants that, and to ask is cheaper by netlink.
func forwards(n *Namespace, s *Sysctl) bool {
	var like netip.Addr
	switch path.Join(s.Path...) {
	case "net/ipv4/ip_forward":
		like = netip.IPv4Unspecified()
	case "net/ipv6/conf/all/forwarding":
		like = netip.IPv6Unspecified()
	default:
		return false
	}
	answers, err := n.ask(rtnl.GetForwarding(like))
	return err == nil && s.Value == "1" && len(answers[0].Bodies) > 0 && rtnl.ParseForwarding(answers[0].Bodies[0])
}

// sysctlPath turns a name as sysctl(8) knows it into a path. Both separators are taken, since interface names may hold dots.
func sysctlPath(parts ...string) string {
	path := "/proc/sys"
	for _, p := range parts {
		path += "/" + p
	}
	return path
}

// Sysctl reads a value under /proc/sys; the parts are path elements: "net", "ipv4", "conf", "eth0", "route_localnet".
func (n *Namespace) Sysctl(parts ...string) (value string, err error) {
	err = n.Do(func() error {
		value, err = readSysctl(sysctlPath(parts...))
		return err
	})
	return value, err
}

// SetSysctl writes a value under /proc/sys unless it is there already, and returns the value before.
func (n *Namespace) SetSysctl(value string, parts ...string) (before string, err error) {
	err = n.Do(func() error {
		path := sysctlPath(parts...)
		if before, err = readSysctl(path); err != nil || before == value {
			return err
		}
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return errcode.Errorf(errcode.Kernel, "sysctl: %w", err)
		}
		return nil
	})
	return before, err
}

// SetIPv6 writes a value of net.ipv6.conf for a link. Without IPv6 in the kernel there is nothing to write.
func (n *Namespace) SetIPv6(link, key, value string) error {
	_, err := n.SetSysctl(value, "net", "ipv6", "conf", link, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func readSysctl(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", errcode.Errorf(errcode.Kernel, "sysctl: %w", err)
	}
	for len(raw) > 0 && raw[len(raw)-1] == '\n' {
		raw = raw[:len(raw)-1]
	}
	return string(raw), nil
}
