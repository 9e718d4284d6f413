package netutil

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Tap is a tap device (linux/Documentation/networking/tuntap.rst): a link whose other end is a program that opens it, such as a virtual
// machine. It is persistent.
type Tap struct {
	Name           string
	MTU            int // bytes; 0: the kernel's default
	MAC            net.HardwareAddr
	MultiQueue     bool
	Owner, Group   *uint32 // who may open it; nil: who has CAP_NET_ADMIN
	SELinuxContext string  // that it is made in; empty: the process's
}

// TunDevice is the character device that tap devices are made by.
const TunDevice = "/dev/net/tun"

// OpenTun opens that device. It succeeds wherever the kernel can make tap devices.
func OpenTun(path string) (*os.File, error) {
	// A descriptor that package os does not poll: the kernel takes a read for one of frames.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errcode.Errorf(errcode.Kernel, "this kernel has no tun (module tun): %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return os.NewFile(uintptr(fd), path), nil
}

// MakeTap makes a tap device in the namespace; tun is the path of TunDevice. It is down.
func MakeTap(n *Namespace, tun string, t *Tap, undo *Undo) error {
	made := false
	undo.Push("interface "+t.Name, func() error {
		if !made {
			return nil
		}
		_, err := DeleteLink(n, t.Name)
		return err
	})
	err := n.Do(func() error { return t.create(tun, &made) })
	if err != nil || t.MTU == 0 && t.MAC == nil {
		return err
	}
	l, err := n.findLink(t.Name)
	if err != nil {
		return err
	}
	if l == nil {
		return errNoLink(Sandbox, t.Name)
	}
	_, err = n.do(request{Message: rtnl.SetLink(l.Index, rtnl.Change{MTU: t.MTU, MAC: t.MAC}), what: "set up sandbox interface " + t.Name})
	return err
}

// create makes the device in the namespace of the calling thread. Until it is told to stay, it goes when the file is closed.
func (t *Tap) create(tun string, made *bool) error {
	file, err := OpenTun(tun)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if t.SELinuxContext != "" {
		if err := enterContext(t.SELinuxContext); err != nil {
			return err
		}
	}
	fd := int(file.Fd())
	req, err := unix.NewIfreq(t.Name)
	if err != nil {
		return errcode.Errorf(errcode.Kernel, "create sandbox interface %s: %w", t.Name, err)
	}
	// A program that opens the device chooses anew whether frames have headers. The reference plugin makes devices with the one
	// of virtio(7), and without the one of tun.
	flags := unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL
	if t.MultiQueue {
		flags |= unix.IFF_MULTI_QUEUE
	}
	req.SetUint16(uint16(flags))
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		if errors.Is(err, unix.EBUSY) {
			return errcode.Errorf(errcode.AlreadyExists, "sandbox interface %s exists already", t.Name)
		}
		return errcode.Errorf(errcode.Kernel, "create sandbox interface %s: %w", t.Name, err)
	}
	for _, id := range []struct {
		key     string
		value   *uint32
		request uint
	}{{"owner", t.Owner, unix.TUNSETOWNER}, {"group", t.Group, unix.TUNSETGROUP}} {
		if id.value == nil {
			continue
		}
		if err := unix.IoctlSetInt(fd, id.request, int(*id.value)); err != nil {
			return errcode.Errorf(errcode.InvalidConfig, "%s: the kernel refuses %d: %w", id.key, *id.value, err)
		}
	}
	*made = true
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return errcode.Errorf(errcode.Kernel, "create sandbox interface %s: %w", t.Name, err)
	}
	return nil
}

// enterContext has the calling thread go on in an SELinux context, which the kernel gives to the devices that it makes. It does not look at the
// one for new sockets (/proc/thread-self/attr/sockcreate) there: selinux_tun_dev_create in linux/security/selinux/hooks.c says why. The
// thread must not be used for anything else.
func enterContext(context string) error {
	file, err := os.OpenFile("/proc/thread-self/attr/current", os.O_WRONLY, 0)
	if err != nil {
		return errcode.Errorf(errcode.UnsupportedField, "selinuxContext: this host has no SELinux: %w", err)
	}
	_, err = file.WriteString(context)
	if err := errors.Join(err, file.Close()); err != nil {
		return errcode.Errorf(errcode.UnsupportedField, "selinuxContext: the kernel refuses %q: %w", context, err)
	}
	return nil
}

// HasSELinux tells whether the kernel knows SELinux contexts.
func HasSELinux() bool {
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err == nil
}

// VerifyTap compares a tap device with what it should be, but for what all links have.
func VerifyTap(n *Namespace, t *Tap) error {
	answers, err := n.do(request{Message: rtnl.GetLink(t.Name), what: "sandbox interface " + t.Name})
	if err != nil {
		return err
	}
	var got *rtnl.Tun
	for _, b := range answers[0].Bodies {
		got = rtnl.ParseTun(b)
	}
	switch {
	case got == nil || !got.Tap:
		return differs("sandbox interface %s is no tap device", t.Name)
	case !got.Persistent:
		return differs("sandbox interface %s goes away with the program that has it open", t.Name)
	case got.MultiQueue != t.MultiQueue:
		return differs("sandbox interface %s has multiQueue %t, not %t", t.Name, got.MultiQueue, t.MultiQueue)
	case !sameID(got.Owner, t.Owner):
		return differs("sandbox interface %s has the owner %s, not %s", t.Name, idText(got.Owner), idText(t.Owner))
	case !sameID(got.Group, t.Group):
		return differs("sandbox interface %s has the group %s, not %s", t.Name, idText(got.Group), idText(t.Group))
	}
	return nil
}

func sameID(a, b *uint32) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }

func idText(id *uint32) string {
	if id == nil {
		return "nobody"
	}
	return fmt.Sprint(*id)
}

// DeleteTap removes a tap device. It succeeds if there is none, and leaves a link of another kind alone.
func DeleteTap(n *Namespace, name string) error {
	l, err := n.findLink(name)
	if l == nil || err != nil || l.Kind != "tun" {
		return err
	}
	_, err = DeleteLink(n, name)
	return err
}
