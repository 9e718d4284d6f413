package netutil

import (
	"cmp"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/eintr"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Tap is what a tap device has beyond other links (linux/Documentation/networking/tuntap.rst): its other end is a program that opens it, such as
// a virtual machine. It is persistent.
type Tap struct {
	MultiQueue     bool
	Owner, Group   *uint32 // who may open it; nil: who has CAP_NET_ADMIN
	SELinuxContext string  // that it is made in; empty: the process's
	Device         string  // the character device that it is made by; empty: TunDevice
}

// TunDevice is the character device that tap devices are made by.
const TunDevice = "/dev/net/tun"

// OpenTun opens that device. It succeeds wherever the kernel can make tap devices.
func OpenTun(path string) (*os.File, error) {
	var fd int
	err := eintr.Retry(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, errcode.Errorf(errcode.Kernel, "this kernel has no tun (module tun): %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return os.NewFile(uintptr(fd), path), nil
}

// makeTap makes a tap device, for which there is no netlink request.
func (a *applier) makeTap(l *Link) error {
	n := a.kernel.at(l.Place)
	made := false
	a.undo.Push("interface "+l.Name, func() error {
		if !made {
			return nil
		}
		_, err := DeleteLink(n, l.Name)
		return err
	})
	if err := n.Do(func() error { return createTap(l, &made) }); err != nil {
		return err
	}
	if l.MTU == 0 && l.MAC == nil {
		return nil
	}
	link, err := a.link(l.Place, l.Name)
	if err != nil {
		return err
	}
	if err := a.change(l, link, rtnl.Change{MTU: l.MTU, MAC: l.MAC}); err != nil {
		return err
	}
	delete(a.links, linkKey{l.Place, l.Name}) // it is looked up again, as it is now
	return nil
}

// createTap makes the device in the namespace of the calling thread. Until it is told to stay, it goes when the file is closed.
func createTap(l *Link, made *bool) error {
	refused := func(err error) error {
		return errcode.Errorf(errcode.Kernel, "create %s interface %s: %w", l.Place, l.Name, err)
	}
	file, err := OpenTun(cmp.Or(l.Tap.Device, TunDevice))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if l.Tap.SELinuxContext != "" {
		if err := enterContext(l.Tap.SELinuxContext); err != nil {
			return err
		}
	}
	fd := int(file.Fd())
	req, err := unix.NewIfreq(l.Name)
	if err != nil {
		return refused(err)
	}
	// A program that opens the device chooses anew whether frames have headers. The reference plugin makes devices with the one
	// of virtio, and without the one of tun.
	flags := unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL
	if l.Tap.MultiQueue {
		flags |= unix.IFF_MULTI_QUEUE
	}
	req.SetUint16(uint16(flags))
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		if errors.Is(err, unix.EBUSY) {
			err = unix.EEXIST
		}
		return linkError(l, err)
	}
	for _, id := range []struct {
		key     string
		value   *uint32
		request uint
	}{{"owner", l.Tap.Owner, unix.TUNSETOWNER}, {"group", l.Tap.Group, unix.TUNSETGROUP}} {
		if id.value == nil {
			continue
		}
		if err := unix.IoctlSetInt(fd, id.request, int(*id.value)); err != nil {
			return errcode.Errorf(errcode.InvalidConfig, "%s: the kernel refuses %d: %w", id.key, *id.value, err)
		}
	}
	*made = true
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return refused(err)
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

// tap compares a tap device with what it should be, but for what all links have.
func (v *verifier) tap(l *Link, index int) error {
	answers, err := v.kernel.at(l.Place).do(request{Message: rtnl.GetLinkByIndex(index), what: l.Place.String() + " interface " + l.Name})
	if err != nil {
		return err
	}
	var got *rtnl.Tun
	for _, b := range answers[0].Bodies {
		got = rtnl.ParseTun(b)
	}
	switch {
	case got == nil || !got.Tap:
		return differs("%s interface %s is no tap device", l.Place, l.Name)
	case !got.Persistent:
		return differs("%s interface %s goes away with the program that has it open", l.Place, l.Name)
	case got.MultiQueue != l.Tap.MultiQueue:
		return differs("%s interface %s has multiQueue %t, not %t", l.Place, l.Name, got.MultiQueue, l.Tap.MultiQueue)
	case !sameID(got.Owner, l.Tap.Owner):
		return differs("%s interface %s has the owner %s, not %s", l.Place, l.Name, idText(got.Owner), idText(l.Tap.Owner))
	case !sameID(got.Group, l.Tap.Group):
		return differs("%s interface %s has the group %s, not %s", l.Place, l.Name, idText(got.Group), idText(l.Tap.Group))
	}
	return nil
}

func sameID(a, b *uint32) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }

func idText(id *uint32) string {
	if id == nil {
		return "nobody"
	}
	return strconv.FormatUint(uint64(*id), 10)
}
