package hostdevice

import (
	"net"
	"path"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	Device        string `json:"device" doc:"the interface's name on the host"`
	HWAddr        string `json:"hwaddr" doc:"its hardware address. Of several interfaces with one address (VLANs have that of the card below) the one of hardware is meant"`
	KernelPath    string `json:"kernelpath" doc:"the device's folder in sysfs, such as '/sys/devices/pci0000:00/0000:00:1f.6'"`
	PCIBusID      string `json:"pciBusID" doc:"the device's PCI address, such as '0000:00:1f.6'; that of a virtio device will do"`
	RuntimeConfig struct {
		DeviceID string `json:"deviceID" doc:"the device that the runtime has chosen (capability 'deviceID'): a PCI address, or the name of an auxiliary device, such as 'mlx5_core.sf.4'. It replaces 'pciBusID'"`
	} `json:"runtimeConfig"`
	DPDKMode bool          `json:"dpdkMode" default:"false" doc:"leave the device alone, as if its driver were one of DPDK's (below)"`
	DNS      types.DNS     `json:"dns" doc:"replaces what ipam says"`
	IPAM     roles.IPAMKey `json:"ipam" plugin:"ipam" doc:"any ipam plugin; without, the interface has no address. 'dhcp' is asked when the sandbox has the interface, and told before the host has it back"`

	mac net.HardwareAddr // of hwaddr
}

// load reads and checks the configuration.
func load(r *roles.Request) (*conf, error) {
	c, err := read(r)
	if err == nil && len(c.keys()) == 0 {
		err = errcode.Errorf(errcode.InvalidConfig, "device: missing; one of device, hwaddr, kernelpath, pciBusID and runtimeConfig.deviceID must be given")
	}
	return c, err
}

// read is load for a configuration that need not name a device: that may be the runtime's part, which comes with ADD only.
func read(r *roles.Request) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	if c.RuntimeConfig.DeviceID != "" {
		c.PCIBusID = "" // what the runtime has chosen replaces it, as with the reference plugin
	}
	keys := c.keys()
	if len(keys) > 1 {
		return nil, errcode.Errorf(errcode.InvalidConfig, "%s: only one of them may be given", strings.Join(keys, ", "))
	}
	return c, c.check()
}

// keys are the keys by which a device is named.
func (c *conf) keys() (out []string) {
	for _, k := range []struct{ key, value string }{
		{"device", c.Device},
		{"hwaddr", c.HWAddr},
		{"kernelpath", c.KernelPath},
		{"pciBusID", c.PCIBusID},
		{"runtimeConfig.deviceID", c.RuntimeConfig.DeviceID},
	} {
		if k.value != "" {
			out = append(out, k.key)
		}
	}
	return out
}

func (c *conf) check() (err error) {
	switch {
	case c.Device != "":
		return roles.CheckLinkName("device", c.Device)
	case c.HWAddr != "":
		if c.mac, err = net.ParseMAC(c.HWAddr); err != nil {
			return errcode.Errorf(errcode.InvalidConfig, "hwaddr: %q is no hardware address", c.HWAddr)
		}
	case c.KernelPath != "":
		if clean := path.Clean(c.KernelPath); !strings.HasPrefix(clean, "/sys/devices/") {
			return errcode.Errorf(errcode.InvalidConfig, "kernelpath: %q is no path below /sys/devices/", c.KernelPath)
		}
	case c.PCIBusID != "":
		return checkElement("pciBusID", c.PCIBusID)
	case c.RuntimeConfig.DeviceID != "":
		return checkElement("runtimeConfig.deviceID", c.RuntimeConfig.DeviceID)
	}
	return nil
}

// checkElement refuses what would lead to another folder of sysfs.
func checkElement(key, name string) error {
	if name != filepath.Base(name) || name == "/" || name == "." || name == ".." || strings.ContainsRune(name, 0) {
		return errcode.Errorf(errcode.InvalidConfig, "%s: %q is no name of a device, such as 0000:03:00.0 or mlx5_core.sf.4", key, name)
	}
	return nil
}
