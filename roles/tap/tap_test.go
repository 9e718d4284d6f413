package tap_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/roletest"
	"github.com/cnibox/cnibox/roles/tap"
)

func newNode(t *testing.T) *roletest.Node {
	t.Helper()
	nstest.Need(t, "tun")
	return roletest.NewNode(t, roles.Table{"tap": tap.New(), "host-local": hostlocal.New()})
}

func conf(dir, keys string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "vm", "type": "tap", %s, "ipam": {"type": "host-local", "dataDir": %q,
		"ranges": [[%s], [%s]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "fd00::/8"}]}}`, keys, dir, range4, range6)
}

const (
	range4 = `{"subnet": "10.6.0.0/24"}`
	range6 = `{"subnet": "fd06::/64"}`
)

// open opens a queue of the namespace's device, as a virtual machine does.
func open(t *testing.T, ns *nstest.NS, flags uint16) *os.File {
	t.Helper()
	var fd int
	err := ns.Do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		req, err := unix.NewIfreq("eth0")
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | flags)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	})
	if err != nil {
		t.Fatalf("open the device: %v", err)
	}
	file := os.NewFile(uintptr(fd), "tap")
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// ask sends an ARP request (RFC 826) into the device and returns the MAC address that answers for the address.
func ask(t *testing.T, file *os.File, who netip.Addr) net.HardwareAddr {
	t.Helper()
	own := []byte{2, 0, 0, 0, 0, 0x99}
	frame := append(bytes.Repeat([]byte{0xff}, 6), own...)
	frame = append(frame, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1)
	frame = append(frame, own...)
	frame = append(frame, 10, 6, 0, 99, 0, 0, 0, 0, 0, 0)
	frame = append(frame, who.AsSlice()...)
	if err := file.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	for {
		// The kernel takes frames once it has noticed that the device has an other end.
		if _, err := file.Write(frame); err != nil {
			t.Fatal(err)
		}
		n, err := file.Read(buf)
		if err != nil {
			t.Fatalf("no answer from %s: %v", who, err)
		}
		if n >= 42 && binary.BigEndian.Uint16(buf[12:]) == 0x0806 && buf[21] == 2 && bytes.Equal(buf[28:32], who.AsSlice()) {
			return net.HardwareAddr(bytes.Clone(buf[22:28]))
		}
	}
}

func TestAProgramThatOpensTheDeviceReachesTheContainer(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	c := conf(dir, `"mtu": 1400, "owner": 107, "group": 108, "mac": "02:00:00:00:00:07"`)
	a := n.Add("tap", "a", c)
	if got := ask(t, open(t, a.NS, 0), a.Addrs[0]); got.String() != "02:00:00:00:00:07" {
		t.Errorf("%s answers", got)
	}
	out := a.Run("ip", "-details", "addr", "show", "eth0")
	for _, want := range []string{"mtu 1400", "02:00:00:00:00:07", "10.6.0.2/24", "fd06::2/64", "type tap", "persist on", "vnet_hdr", "user 107", "group 108", ",UP"} {
		if !strings.Contains(out, want) {
			t.Errorf("without %q: %s", want, out)
		}
	}
	if err := n.Check("tap", "a", c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	n.Del("tap", "a", c)
	n.Del("tap", "a", c)
	if out := a.Run("ip", "-br", "link"); strings.Contains(out, "eth0") {
		t.Errorf("left: %s", out)
	}
	n.Clean()
	if left := roletest.Reserved(t, dir); left != nil {
		t.Errorf("addresses left: %v", left)
	}
}

func TestSeveralQueuesAndNoAddress(t *testing.T) {
	n := newNode(t)
	const c = `{"cniVersion": "1.1.0", "name": "vm", "type": "tap", "multiQueue": true}`
	a := n.Add("tap", "a", c)
	open(t, a.NS, unix.IFF_MULTI_QUEUE)
	open(t, a.NS, unix.IFF_MULTI_QUEUE)
	if err := n.Check("tap", "a", c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	errtest.Want(t, n.Check("tap", "a", strings.Replace(c, "true", "false", 1)), errcode.Differs, "multiQueue")
	n.Del("tap", "a", c)
}

// The bridge is the container's: a machine behind the device reaches what else is on it.
func TestTheDeviceIsAPortOfABridgeInTheContainer(t *testing.T) {
	n := newNode(t)
	c := strings.Replace(conf(t.TempDir(), `"bridge": "br0"`), `"ipam"`, `"x"`, 1)
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "tap", Pod: n.Pod("a"), Conf: c})
	errtest.Want(t, err, errcode.InvalidConfig, "bridge: ", "br0")
	a := n.Pod("a")
	a.Run("ip", "link", "add", "br0", "type", "bridge")
	a.Run("ip", "addr", "add", "10.6.0.1/24", "dev", "br0")
	a.Run("ip", "link", "set", "br0", "up")
	n.Add("tap", "a", c)
	ask(t, open(t, a.NS, 0), netip.MustParseAddr("10.6.0.1"))
	if err := n.Check("tap", "a", c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	a.Run("ip", "link", "set", "eth0", "nomaster")
	errtest.Want(t, n.Check("tap", "a", c), errcode.Differs, "br0")
	n.Del("tap", "a", c)
	a.Run("ip", "link", "show", "br0")
}

// The reference plugin makes its device in the host if CNI_NETNS is the plugin's own namespace, leaves it there, and then answers code 8.
func TestTheHostsOwnNamespaceIsRefusedBeforeADeviceIsMade(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	host := &roletest.Pod{NS: n.Host, Name: "a"}
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "tap", Pod: host, Conf: conf(dir, `"mtu": 1400`)})
	errtest.Want(t, err, errcode.InvalidNetNS, "CNI_NETNS")
	n.Clean()
	if left := roletest.Reserved(t, dir); left != nil {
		t.Errorf("addresses left: %v", left)
	}
}

func TestAnAddThatFailsLeavesNoDevice(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	c := strings.Replace(conf(dir, `"mtu": 1400`), `{"dst": "fd00::/8"}`, `{"dst": "fd00::/8", "gw": "fe77::1"}`, 1)
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "tap", Pod: n.Pod("a"), Conf: c})
	errtest.Want(t, err, errcode.Kernel, "add route fd00::/8")
	if out := n.Pod("a").Run("ip", "-br", "link"); strings.Contains(out, "eth0") {
		t.Errorf("left: %s", out)
	}
	if left := roletest.Reserved(t, dir); left != nil {
		t.Errorf("addresses left: %v", left)
	}
}

// An interface of the attachment's name that another has made stays, whichever verb is called.
func TestAnInterfaceOfAnotherKindIsLeftAlone(t *testing.T) {
	n, dir := newNode(t), t.TempDir()
	c := conf(dir, `"mtu": 1400`)
	a := n.Pod("a")
	a.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "x")
	for _, c := range []string{c, `{"cniVersion": "1.1.0", "name": "vm", "type": "tap"}`} {
		_, err := n.Do(roletest.Call{Verb: "ADD", Role: "tap", Pod: a, Conf: c})
		errtest.Want(t, err, errcode.AlreadyExists, "eth0")
	}
	n.Del("tap", "a", c)
	a.Run("ip", "link", "show", "eth0")
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct{ pod, words string }{
		"gone":    {"ip link del eth0", "eth0 is gone"},
		"down":    {"ip link set eth0 down", "eth0 is down"},
		"address": {"ip addr del 10.6.0.2/24 dev eth0", "10.6.0.2/24"},
		"route":   {"ip -6 route del fd00::/8", "fd00::/8"},
		"mtu":     {"ip link set eth0 mtu 1500", "mtu 1500"},
		"MAC":     {"ip link set eth0 address 02:00:00:00:00:08", "02:00:00:00:00:08"},
		"kind":    {"ip link del eth0; ip link add eth0 type veth peer x; ip link set eth0 up", "of kind veth, not tun"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			conf := conf(t.TempDir(), `"mtu": 1400, "owner": 107`)
			a := n.Add("tap", "a", conf)
			if err := n.Check("tap", "a", conf); err != nil {
				t.Fatalf("before: %v", err)
			}
			a.Run("sh", "-c", c.pod)
			errtest.Want(t, n.Check("tap", "a", conf), errcode.Differs, c.words)
		})
	}
	t.Run("owner", func(t *testing.T) {
		n, dir := newNode(t), t.TempDir()
		n.Add("tap", "a", conf(dir, `"owner": 107`))
		errtest.Want(t, n.Check("tap", "a", conf(dir, `"owner": 108`)), errcode.Differs, "owner 107", "108")
		errtest.Want(t, n.Check("tap", "a", conf(dir, `"group": 1, "owner": 107`)), errcode.Differs, "group nobody", "1")
	})
}

// Without the character device nothing can be made, and both ADD and STATUS say why.
func TestWithoutTheCharacterDevice(t *testing.T) {
	dir := t.TempDir()
	n := roletest.NewNode(t, roles.Table{"tap": tap.NewAt("/dev/net/none"), "host-local": hostlocal.New()})
	c := conf(dir, `"mtu": 1400`)
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "tap", Pod: n.Pod("a"), Conf: c})
	errtest.Want(t, err, errcode.Kernel, "module tun", "/dev/net/none")
	if left := roletest.Reserved(t, dir); left != nil {
		t.Errorf("addresses left: %v", left)
	}
	_, err = n.Do(roletest.Call{Verb: "STATUS", Role: "tap", Conf: c})
	errtest.Want(t, err, errcode.NotAvailable, "module tun")
}

func TestStatus(t *testing.T) {
	n := newNode(t)
	if _, err := n.Do(roletest.Call{Verb: "STATUS", Role: "tap", Conf: conf(t.TempDir(), `"bridge": "br0"`)}); err != nil {
		t.Errorf("STATUS: %v", err)
	}
}

func TestBadInputChangesNothing(t *testing.T) {
	const ipam = `{"type": "host-local", "dataDir": "/nonexistent", "ranges": [[{"subnet": "fd06::/64"}]]}`
	refusals := []roletest.Refusal{
		{Keys: `"multiQueue": 1`, Want: "multiQueue: "},
		{Keys: `"mtu": 67`, Want: "mtu: "},
		{Keys: `"mtu": 65536`, Want: "mtu: "},
		{Keys: `"mtu": "x"`, Want: "mtu: "},
		{Keys: `"mac": "x"`, Want: "mac: "},
		{Keys: `"mac": 1`, Want: "mac: "},
		{Keys: `"owner": -1`, Want: "owner: "},
		{Keys: `"owner": 4294967295`, Want: "owner: "},
		{Keys: `"owner": "root"`, Want: "owner: "},
		{Keys: `"group": 4294967296`, Want: "group: "},
		{Keys: `"group": 4294967295`, Want: "group: "},
		{Keys: `"bridge": "a/b"`, Want: "bridge: "},
		{Keys: `"bridge": "lo"`, Want: "bridge: "},
		{Keys: `"bridge": "br0"`, Want: "bridge: "},
		{Keys: `"bridge": []`, Want: "bridge: "},
		{Keys: `"selinuxContext": 1`, Want: "selinuxContext: "},
		{Keys: `"selinuxContext": "\u0000"`, Want: "selinuxContext: "},
		{Keys: `"runtimeConfig": {"mac": "ff:ff:ff:ff:ff:ff"}`, Want: "runtimeConfig.mac: "},
		{Keys: `"args": {"cni": {"mac": "x"}}`, Want: "args.cni.mac: "},
		{Keys: `"mtu": 1400`, Args: "MAC=x", Code: errcode.InvalidEnvironment, Want: "CNI_ARGS MAC: "},
	}
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		refusals = append(refusals, roletest.Refusal{
			Keys: `"selinuxContext": "system_u:object_r:x_t:s0"`, Code: errcode.UnsupportedField, Want: "selinuxContext: ",
		})
	}
	n, dir := newNode(t), t.TempDir()
	n.WantRefused("tap", ipam, refusals...)
	n.WantRefused("tap", strings.Replace(ipam, "/nonexistent", dir, 1), roletest.Refusal{Keys: `"mtu": 1000`, Want: "mtu: "}) // too small for IPv6
	if left := roletest.Reserved(t, dir); left != nil {
		t.Errorf("addresses left: %v", left)
	}
}

func TestWhoAsksForAMACAddress(t *testing.T) {
	for _, c := range []struct{ keys, args, want string }{
		{`"mac": "02:00:00:00:00:01"`, "", "02:00:00:00:00:01"},
		{`"mac": "02:00:00:00:00:01"`, "MAC=02:00:00:00:00:02", "02:00:00:00:00:02"},
		{`"mac": "02:00:00:00:00:01", "args": {"cni": {"mac": "02:00:00:00:00:03"}}`, "MAC=02:00:00:00:00:02", "02:00:00:00:00:03"},
		{
			`"args": {"cni": {"mac": "02:00:00:00:00:03"}}, "runtimeConfig": {"mac": "02:00:00:00:00:04"}`, "MAC=02:00:00:00:00:02",
			"02:00:00:00:00:04",
		},
	} {
		n := newNode(t)
		n.Must(roletest.Call{Verb: "ADD", Role: "tap", Pod: n.Pod("a"), Conf: conf(t.TempDir(), c.keys), Args: c.args})
		if out := n.Pod("a").Run("ip", "link", "show", "eth0"); !strings.Contains(out, c.want) {
			t.Errorf("%s %s: %s", c.keys, c.args, out)
		}
	}
}

func TestReadmeExamples(t *testing.T) {
	newNode(t).WantReadmeExamples("tap", 1)
}

func TestBehindAnotherPlugin(t *testing.T) {
	newNode(t).WantChained("tap", conf(t.TempDir(), `"mtu": 1400`))
}

func TestNothingIsLeftWithoutASandbox(t *testing.T) {
	dir := t.TempDir()
	newNode(t).WantNothingLeft("tap", conf(dir, `"mtu": 1400`), dir)
}

// plugIn makes a namespace that stands for a virtual machine behind the pod's device: 10.6.0.99 and fd06::99, with a server.
func plugIn(t *testing.T, n *roletest.Node, p *roletest.Pod) {
	t.Helper()
	vm := nstest.New(t, "guest")
	vm.Run("sh", "-ec", `ip tuntap add eth0 mode tap; ip addr add 10.6.0.99/24 dev eth0; ip addr add fd06::99/64 dev eth0 nodad; ip link set eth0 up`)
	n.Server(vm, 80)
	card, device := open(t, vm, 0), open(t, p.NS, 0)
	roletest.WaitUp(vm, "eth0")
	roletest.WaitUp(p.NS, "eth0")
	go forward(card, device)
	go forward(device, card)
}

// forward copies frames until one side is closed. A device that is gone takes none.
func forward(from, to *os.File) {
	frame := make([]byte, 2000)
	for {
		n, err := from.Read(frame)
		if err != nil {
			return
		}
		_, _ = to.Write(frame[:n])
	}
}

func TestFamilies(t *testing.T) {
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		n, dir := newNode(t), t.TempDir()
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir,
			Plugins: []roletest.Plugin{{Role: "tap", Keys: f.IPAM(dir, range4, range6)}},
			Reach: func(p *roletest.Pod) {
				plugIn(t, n, p)
				n.WantReach(p, "10.6.0.99", "fd06::99")
			},
		})
	})
}
