package hostdevice_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/roles/hostdevice"
	"github.com/cnibox/cnibox/roles/roletest"
)

const (
	plain  = "0000:03:00.0" // with the interface ens1
	virtio = "0000:04:00.0" // whose interface ens1 is that of the virtio device
	dpdk   = "0000:05:00.0" // driven by a program
	bare   = "0000:06:00.0" // without a driver
	sf     = "mlx5_core.sf.4"
)

// newSysfs makes a sysfs(5) of some devices.
func newSysfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	const root = "devices/pci0000:00/"
	for _, folder := range []string{
		root + plain + "/net/ens1", root + virtio + "/virtio3/net/ens1", root + dpdk, root + bare, root + plain + "/" + sf + "/net/ens1",
		"bus/pci/devices", "bus/pci/drivers/vfio-pci", "bus/pci/drivers/ixgbe", "bus/auxiliary/devices", "bus/virtio/devices",
	} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"bus/pci/devices/" + plain:    root + plain,
		"bus/pci/devices/" + virtio:   root + virtio,
		"bus/pci/devices/" + dpdk:     root + dpdk,
		"bus/pci/devices/" + bare:     root + bare,
		"bus/auxiliary/devices/" + sf: root + plain + "/" + sf,
		"bus/virtio/devices/virtio3":  root + virtio + "/virtio3",
		root + plain + "/driver":      "bus/pci/drivers/ixgbe",
		root + dpdk + "/driver":       "bus/pci/drivers/vfio-pci",
	} {
		if err := os.Symlink(filepath.Join(dir, target), filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// newHardwareNode is newNode with the devices of newSysfs.
func newHardwareNode(t *testing.T) *roletest.Node {
	t.Helper()
	n, _ := newNodeOf(t, hostdevice.NewAt(newSysfs(t)))
	return n
}

func add(t *testing.T, n *roletest.Node, conf string) *types100.Interface {
	t.Helper()
	res := &types100.Result{}
	out := n.Must(roletest.Call{Verb: "ADD", Role: "host-device", Pod: n.Pod("a"), Conf: conf})
	if err := json.Unmarshal(out, res); err != nil || len(res.Interfaces) != 1 || len(res.IPs) != 2 {
		t.Fatalf("ADD answered %s (%v)", out, err)
	}
	return res.Interfaces[0]
}

func TestADeviceIsFoundThroughSysfs(t *testing.T) {
	for keys, pciID := range map[string]string{
		`"pciBusID": "` + plain + `"`:                                                    plain,
		`"pciBusID": "` + virtio + `"`:                                                   virtio,
		`"kernelpath": "/sys/devices/pci0000:00/` + plain + `"`:                          "",
		`"kernelpath": "/sys/devices/pci0000:00/` + virtio + `/virtio3"`:                 "",
		`"runtimeConfig": {"deviceID": "` + plain + `"}`:                                 plain,
		`"runtimeConfig": {"deviceID": "` + sf + `"}`:                                    "",
		`"pciBusID": "` + bare + `", "runtimeConfig": {"deviceID": "` + plain + `"}`:     plain, // the runtime's choice replaces it
		`"dpdkMode": false, "runtimeConfig": {"deviceID": "` + virtio + `", "other": 1}`: virtio,
	} {
		t.Run(keys, func(t *testing.T) {
			n := newHardwareNode(t)
			dir := t.TempDir()
			c := conf(dir, keys)
			iface := add(t, n, c)
			if iface.PciID != pciID || iface.Mac != mac || iface.Mtu != 1500 || iface.Name != "eth0" {
				t.Errorf("the result has %+v", iface)
			}
			if out := n.Pod("a").Run("ip", "link", "show", "eth0"); !strings.Contains(out, mac) {
				t.Errorf("in the pod: %s", out)
			}
			n.Del("host-device", "a", c)
			wantBack(t, n, down)
			wantNothingReserved(t, dir)
		})
	}
}

// A device that a program drives has no interface: the pod gets addresses and the device's PCI address, and nothing is moved.
func TestADeviceOfDPDKIsLeftAlone(t *testing.T) {
	for keys, pciID := range map[string]string{
		`"pciBusID": "` + dpdk + `"`:                    dpdk,
		`"runtimeConfig": {"deviceID": "` + dpdk + `"}`: dpdk,
		`"dpdkMode": true, "device": "ens1"`:            "",
	} {
		t.Run(keys, func(t *testing.T) {
			n := newHardwareNode(t)
			dir := t.TempDir()
			c := conf(dir, keys)
			a := n.Add("host-device", "a", c)
			if err := n.Check("host-device", "a", c); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			wantBack(t, n, up)
			if out := a.Run("ip", "-br", "link"); strings.Contains(out, "eth0") {
				t.Errorf("the pod has %s", out)
			}
			// An interface of the attachment's name that somebody else has made is none of the role's.
			a.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "x")
			a.Run("ip", "link", "set", "eth0", "alias", "ens9")
			n.Del("host-device", "a", c)
			a.Run("ip", "link", "del", "eth0")
			wantNothingReserved(t, dir)
			if iface := add(t, n, c); iface.PciID != pciID || iface.Mac != "" || iface.Name != "eth0" {
				t.Errorf("the result has %+v", iface)
			}
			if _, err := n.Do(roletest.Call{Verb: "STATUS", Role: "host-device", Conf: c}); err != nil {
				t.Errorf("STATUS: %v", err)
			}
		})
	}
}

func TestADeviceWithoutAnInterfaceIsAnError(t *testing.T) {
	n := newHardwareNode(t)
	c := conf(t.TempDir(), `"pciBusID": "`+bare+`"`)
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "host-device", Pod: n.Pod("a"), Conf: c})
	errtest.Want(t, err, errcode.InvalidConfig, "pciBusID: ", bare, "no interface")
	_, err = n.Do(roletest.Call{Verb: "STATUS", Role: "host-device", Conf: c})
	errtest.Want(t, err, errcode.NotAvailable, "pciBusID: ", bare)
	wantBack(t, n, up)
}
