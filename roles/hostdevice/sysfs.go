package hostdevice

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// sysfs is where sysfs(5) is mounted.
type sysfs string

// device is the folder of a device that a key names. PCI tells those of that bus.
type device struct {
	key, name, dir string
	pci            bool
}

// device finds the folder of the device that the configuration names; nil if that names an interface.
func (s sysfs) device(c *conf) (*device, error) {
	tries := s.candidates(c)
	for _, d := range tries {
		if _, err := os.Stat(d.dir); err == nil {
			return &d, nil
		}
	}
	if len(tries) > 0 {
		return nil, missing("%s: the host has no device %s", tries[0].key, tries[0].name)
	}
	return nil, nil
}

// candidates are the folders that may be meant: what the runtime names may be on one bus or another.
func (s sysfs) candidates(c *conf) []device {
	on := func(bus, name string) string { return filepath.Join(string(s), "bus", bus, "devices", name) }
	const idKey = "runtimeConfig.deviceID"
	switch id := c.RuntimeConfig.DeviceID; {
	case c.KernelPath != "":
		return []device{{"kernelpath", c.KernelPath, filepath.Join(string(s), strings.TrimPrefix(filepath.Clean(c.KernelPath), "/sys")), false}}
	case c.PCIBusID != "":
		return []device{{"pciBusID", c.PCIBusID, on("pci", c.PCIBusID), true}}
	case id != "":
		return []device{{idKey, id, on("pci", id), true}, {idKey, id, on("auxiliary", id), false}}
	}
	return nil
}

// missing is the error of what the host does not have, now at least.
func missing(format string, args ...any) error {
	return errcode.Errorf(errcode.InvalidConfig, format, args...)
}

// userspace tells whether a program drives the device, and not the kernel (DPDK): then it has no interface.
func (d *device) userspace() bool {
	if d == nil || !d.pci {
		return false
	}
	driver, err := os.Readlink(filepath.Join(d.dir, "driver"))
	return err == nil && slices.Contains([]string{"vfio-pci", "uio_pci_generic", "igb_uio"}, filepath.Base(driver))
}

// interfaceName is the name of the device's interface, the first of several in order of their names. One of virtio has it a step further
// down.
func (d *device) interfaceName() (string, error) {
	dirs := []string{filepath.Join(d.dir, "net")}
	below, err := filepath.Glob(filepath.Join(d.dir, "virtio*", "net"))
	if err != nil {
		return "", errcode.Errorf(errcode.Internal, "%s: %w", d.key, err)
	}
	for _, dir := range append(dirs, below...) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", errcode.Errorf(errcode.Kernel, "%s: %w", d.key, err)
		}
		if len(entries) > 0 {
			return entries[0].Name(), nil
		}
	}
	return "", missing("%s: the device %s has no interface on the host", d.key, d.name)
}

// find looks the interface up that the configuration names.
func (s sysfs) find(host *netutil.Namespace, c *conf, d *device) (*rtnl.Device, error) {
	key, name := "device", c.Device
	switch {
	case c.mac != nil:
		return byAddress(host, c)
	case d != nil:
		var err error
		if name, err = d.interfaceName(); err != nil {
			return nil, err
		}
		key = d.key
	}
	found, err := netutil.FindDevice(host, name)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, missing("%s: the host has no interface %s", key, name)
	}
	if found.Name != name {
		return nil, errcode.Errorf(errcode.InvalidConfig, "%s: %s is an alternative name of %s; it must be called by that", key, name, found.Name)
	}
	return found, nil
}

// byAddress finds the interface of a hardware address. VLANs, bridges and the like have that of the hardware below them, which is meant.
func byAddress(host *netutil.Namespace, c *conf) (*rtnl.Device, error) {
	all, err := netutil.Devices(host)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(d *rtnl.Device) bool { return !bytes.Equal(d.MAC, c.mac) })
	if slices.ContainsFunc(all, isHardware) {
		all = slices.DeleteFunc(all, func(d *rtnl.Device) bool { return !isHardware(d) })
	}
	switch len(all) {
	case 0:
		return nil, missing("hwaddr: the host has no interface with the address %s", c.mac)
	case 1:
		return all[0], nil
	}
	return nil, errcode.Errorf(errcode.InvalidConfig, "hwaddr: %s and %s both have the address %s", all[0].Name, all[1].Name, c.mac)
}

func isHardware(d *rtnl.Device) bool { return d.Kind == "" }

// pciID is the PCI address of an interface's device; empty if that is on another bus, or the kernel is too old to tell (before 5.14).
func (s sysfs) pciID(d *rtnl.Device) string {
	switch d.Bus {
	case "pci":
		return d.Parent
	case "virtio":
		dir, err := filepath.EvalSymlinks(filepath.Join(string(s), "bus", "virtio", "devices", d.Parent))
		if err != nil {
			return ""
		}
		above := filepath.Base(filepath.Dir(dir))
		if _, err := os.Stat(filepath.Join(string(s), "bus", "pci", "devices", above)); err == nil {
			return above
		}
	}
	return ""
}
