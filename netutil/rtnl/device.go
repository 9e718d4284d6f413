package rtnl

import (
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// Device is a link with what tells one device from another.
type Device struct {
	Link
	AltNames    []string // further names, of up to 127 bytes (kernel 5.5)
	Bus, Parent string   // what it is the interface of: "pci" and "0000:03:00.0" (kernel 5.14); empty for software
	// PeerNamespace is the number, in the namespace of the socket, of the one that Peer is in; NoNamespace: the link's own.
	PeerNamespace int
}

// RunsUntold tells of a link whose driver does not keep its operational state (IF_OPER_UNKNOWN) that it carries traffic all the same
// (linux/Documentation/networking/operstates.rst).
func (l *Link) RunsUntold() bool { return l.OperState == 0 && l.Flags&unix.IFF_LOWER_UP != 0 }

// ParseDevice reads the answer to a request for a link; nil if it is none.
func ParseDevice(b []byte) *Device {
	l := ParseLink(b)
	if l == nil {
		return nil
	}
	d := &Device{Link: *l, PeerNamespace: NoNamespace}
	rawnl.Each(b[headerOfLink:], func(kind uint16, v []byte) {
		switch kind {
		case unix.IFLA_PROP_LIST:
			rawnl.Each(v, func(kind uint16, v []byte) {
				if kind == unix.IFLA_ALT_IFNAME {
					d.AltNames = append(d.AltNames, rawnl.String(v))
				}
			})
		case unix.IFLA_LINK_NETNSID:
			d.PeerNamespace = int(int32(number(v)))
		case unix.IFLA_PARENT_DEV_NAME:
			d.Parent = rawnl.String(v)
		case unix.IFLA_PARENT_DEV_BUS_NAME:
			d.Bus = rawnl.String(v)
		}
	})
	return d
}

// MoveLink moves a link into the namespace of the descriptor and gives it an alias there, which may be empty. A name other than "" is what
// it is called there; the kernel keeps the old name on the way where it is free there. The link goes down, and loses addresses and routes.
// The kernel answers unix.EEXIST if the name is taken, and has moved the link already if that was not the name it had before.
func MoveLink(index, namespace int, name, alias string) rawnl.Message {
	var a rawnl.Attrs
	a.Uint32(unix.IFLA_NET_NS_FD, uint32(namespace))
	if name != "" {
		a.Text(unix.IFLA_IFNAME, name)
	}
	a.Bytes(unix.IFLA_IFALIAS, []byte(alias))
	return rawnl.Message{Type: unix.RTM_NEWLINK, Body: body(index, 0, 0, a)}
}

// RenameLink gives a link another name. Kernels before 6.2 want it down.
func RenameLink(index int, name string) rawnl.Message {
	var a rawnl.Attrs
	a.Text(unix.IFLA_IFNAME, name)
	return rawnl.Message{Type: unix.RTM_NEWLINK, Body: body(index, 0, 0, a)}
}

// SetAlias gives a link an alias; an empty one takes it away.
func SetAlias(index int, alias string) rawnl.Message {
	var a rawnl.Attrs
	a.Bytes(unix.IFLA_IFALIAS, []byte(alias))
	return rawnl.Message{Type: unix.RTM_NEWLINK, Body: body(index, 0, 0, a)}
}

// SetAliasOf is SetAlias for a link of which only the name is known.
func SetAliasOf(name, alias string) rawnl.Message {
	var a rawnl.Attrs
	a.Text(unix.IFLA_IFNAME, name)
	a.Bytes(unix.IFLA_IFALIAS, []byte(alias))
	return rawnl.Message{Type: unix.RTM_NEWLINK, Body: body(0, 0, 0, a)}
}

// AddAltNames gives a link further names. Kernels before 5.5 answer unix.EOPNOTSUPP.
func AddAltNames(index int, names ...string) rawnl.Message {
	return altNames(unix.RTM_NEWLINKPROP, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_APPEND, index, names)
}

// DelAltNames takes further names away.
func DelAltNames(index int, names ...string) rawnl.Message {
	return altNames(unix.RTM_DELLINKPROP, 0, index, names)
}

func altNames(kind, flags uint16, index int, names []string) rawnl.Message {
	var a rawnl.Attrs
	a.Nested(unix.IFLA_PROP_LIST, func(a *rawnl.Attrs) {
		for _, name := range names {
			a.Text(unix.IFLA_ALT_IFNAME, name)
		}
	})
	return rawnl.Message{Type: kind, Flags: flags, Body: body(index, 0, 0, a)}
}
