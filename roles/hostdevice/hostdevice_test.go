package hostdevice_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/hostdevice"
	"github.com/cnibox/cnibox/roles/roletest"
)

const mac = "02:00:00:00:00:07"

// newNode makes a host with the interface ens1, which is up and has an alias, and behind it a network in which 10.9.0.1 and fd09::1 answer.
func newNode(t *testing.T) (n *roletest.Node, lan *nstest.NS) {
	t.Helper()
	return newNodeOf(t, hostdevice.New())
}

func newNodeOf(t *testing.T, role roles.Role) (n *roletest.Node, lan *nstest.NS) {
	t.Helper()
	n = roletest.NewNode(t, roles.Table{"host-device": role, "host-local": hostlocal.New()})
	lan = nstest.New(t, "lan")
	n.Host.Run("ip", "link", "add", "ens1", "address", mac, "type", "veth", "peer", "name", "eth0", "netns", lan.Path)
	n.Host.Run("ip", "link", "set", "ens1", "up", "alias", alias)
	lan.Run("ip", "addr", "add", "10.9.0.1/24", "dev", "eth0")
	lan.Run("ip", "addr", "add", "fd09::1/64", "dev", "eth0", "nodad")
	lan.Run("ip", "link", "set", "eth0", "up")
	return n, lan
}

const alias = "rack 7 / port 3"

func conf(dir, keys string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "lan", "type": "host-device", %s, "ipam": {"type": "host-local", "dataDir": %q,
		"ranges": [[%s], [%s]],
		"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`, keys, dir, range4, range6)
}

const (
	range4 = `{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.5"}`
	range6 = `{"subnet": "fd09::/64", "rangeStart": "fd09::5"}`
)

// wantBack fails the test unless the interface is on the host as it was.
func wantBack(t *testing.T, n *roletest.Node, flags string) {
	t.Helper()
	out := n.Host.Run("ip", "-details", "link", "show", "dev", "ens1")
	for _, want := range []string{mac, "alias " + alias, flags} {
		if !strings.Contains(out, want) {
			t.Errorf("on the host, without %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "altname") {
		t.Errorf("a mark is left:\n%s", out)
	}
}

func wantNothingReserved(t *testing.T, dir string) {
	t.Helper()
	if left := roletest.Reserved(t, dir); left != nil {
		t.Errorf("addresses left: %v", left)
	}
}

const (
	up   = "<BROADCAST,MULTICAST,UP"
	down = "<BROADCAST,MULTICAST>"
)

func TestThePodHasTheDeviceAndTheHostGetsItBack(t *testing.T) {
	n, lan := newNode(t)
	dir := t.TempDir()
	c := conf(dir, `"device": "ens1"`)
	a := n.Add("host-device", "a", c)
	n.Server(lan, 80)
	n.WantSeen(a.NS, "tcp", "[fd09::1]:80", "fd09::5")
	n.WantSeen(a.NS, "tcp", "10.9.0.1:80", "10.9.0.5")
	if out := n.Host.Run("ip", "-br", "link"); strings.Contains(out, "ens1") {
		t.Errorf("still on the host: %s", out)
	}
	out := a.Run("ip", "link", "show", "eth0")
	for _, want := range []string{mac, "alias ens1\n", up} {
		if !strings.Contains(out, want) {
			t.Errorf("in the pod, without %q:\n%s", want, out)
		}
	}
	if err := n.Check("host-device", "a", c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	n.Del("host-device", "a", c)
	wantBack(t, n, down)
	wantNothingReserved(t, dir)
	n.Del("host-device", "a", c)
	wantBack(t, n, down)
	n.Add("host-device", "b", c)
}

// What a pod may do to the device does not keep it from the host.
func TestDelBringsBackWhatThePodHasRenamed(t *testing.T) {
	for name, change := range map[string]string{
		"name":                 "ip link set eth0 down name pod0",
		"alias":                "ip link set eth0 alias lo",
		"no alias":             "ip link set eth0 down name pod0 alias ''",
		"no mark":              "ip link property del dev eth0 altname " + linkName("a"),
		"no mark, other name":  "ip link set eth0 down name pod0; ip link property del dev pod0 altname " + linkName("a"),
		"its name on the host": "ip link set eth0 down name ens1",
		"another has the name": "ip link add ens1 type veth peer name ens2",
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := newNode(t)
			dir := t.TempDir()
			c := conf(dir, `"device": "ens1"`)
			a := n.Add("host-device", "a", c)
			a.Run("sh", "-c", change)
			n.Del("host-device", "a", c)
			wantBack(t, n, down)
			wantNothingReserved(t, dir)
		})
	}
}

func linkName(pod string) string {
	return owner.Owner{Network: "lan", ContainerID: pod, IfName: "eth0"}.LinkName()
}

// The name is the alias's where the configuration does not tell it; one that is none is not taken from the pod.
func TestADeviceWithoutAKnownNameComesBackAllTheSame(t *testing.T) {
	n, _ := newNode(t)
	dir := t.TempDir()
	c := conf(dir, `"hwaddr": "`+mac+`"`)
	n.Add("host-device", "a", c)
	n.Del("host-device", "a", c)
	wantBack(t, n, down)
	a := n.Add("host-device", "a", c)
	a.Run("ip", "link", "set", "eth0", "alias", "../../x")
	_, err := n.Do(roletest.Call{Verb: "DEL", Role: "host-device", Pod: a, Conf: c})
	spare := "dev" + strings.TrimPrefix(linkName("a"), "veth")
	errtest.Want(t, err, errcode.AlreadyExists, spare)
	if out := n.Host.Run("ip", "link", "show", spare); !strings.Contains(out, mac) {
		t.Errorf("%s is another: %s", spare, out)
	}
	wantNothingReserved(t, dir)
}

func TestADeviceWhoseNameIsTakenComesBackUnderAnother(t *testing.T) {
	for name, also := range map[string]string{"": "eth1", "the pod's name is taken too": "eth0"} {
		t.Run(name, func(t *testing.T) {
			n, _ := newNode(t)
			dir := t.TempDir()
			c := conf(dir, `"device": "ens1"`)
			a := n.Add("host-device", "a", c)
			n.Host.Run("ip", "link", "add", "ens1", "type", "veth", "peer", "name", also)
			_, err := n.Do(roletest.Call{Verb: "DEL", Role: "host-device", Pod: a, Conf: c})
			spare := "dev" + strings.TrimPrefix(linkName("a"), "veth")
			errtest.Want(t, err, errcode.AlreadyExists, spare, "another ens1")
			if out := n.Host.Run("ip", "link", "show", spare); !strings.Contains(out, mac) || !strings.Contains(out, "alias "+alias) {
				t.Errorf("%s is another: %s", spare, out)
			}
			wantNothingReserved(t, dir)
			n.Must(roletest.Call{Verb: "DEL", Role: "host-device", Pod: a, Conf: c})
		})
	}
}

// The reference plugin's DEL fails when the namespace or the device is gone.
func TestDelSucceedsWhenTheNamespaceOrTheDeviceIsGone(t *testing.T) {
	for name, gone := range map[string]func(p *roletest.Pod){
		"namespace": func(p *roletest.Pod) { p.Remove() },
		"device":    func(p *roletest.Pod) { p.Run("ip", "link", "del", "eth0") },
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := newNode(t)
			dir := t.TempDir()
			c := conf(dir, `"device": "ens1"`)
			gone(n.Add("host-device", "a", c))
			n.Del("host-device", "a", c)
			n.Must(roletest.Call{Verb: "DEL", Role: "host-device", Pod: n.Pod("a"), Conf: c, NoSandbox: true})
			n.Clean()
			wantNothingReserved(t, dir)
		})
	}
}

// A device of hardware comes back to the host by itself when its namespace dies, under the pod's name or another. What was not used in
// the meantime (DEL, GC, the next ADD) gives it its own.
func TestADeviceThatCameBackByItselfGetsItsName(t *testing.T) {
	c := conf(t.TempDir(), `"device": "ens1"`)
	for name, call := range map[string]roletest.Call{
		"DEL": {Verb: "DEL", Conf: c},
		"GC":  {Verb: "GC", Conf: `{"cni.dev/valid-attachments": [],` + c[1:]},
		"ADD": {Verb: "ADD", Conf: strings.Replace(c, `"device": "ens1"`, `"hwaddr": "`+mac+`"`, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := newNode(t)
			comeBack(t, n)
			call.Role = "host-device"
			if call.Verb != "GC" {
				call.Pod = n.Pod("a")
			}
			call.NoSandbox = call.Verb == "DEL"
			n.Must(call)
			if call.Verb == "ADD" {
				n.Must(roletest.Call{Verb: "DEL", Role: "host-device", Pod: n.Pod("a"), Conf: call.Conf})
			}
			wantBack(t, n, down)
		})
	}
}

// comeBack leaves ens1 as the kernel does when a pod's namespace dies. Hardware cannot be had here, and a veth would die too.
func comeBack(t *testing.T, n *roletest.Node) {
	t.Helper()
	host, err := netutil.Open(n.Host.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	sandbox, err := netutil.Open(n.Pod("a").Path)
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close()
	d, err := netutil.FindDevice(host, "ens1")
	if err != nil {
		t.Fatal(err)
	}
	o := owner.Owner{Network: "lan", ContainerID: "a", IfName: "eth0"}
	if err := netutil.HandOver(netutil.Kernel{Host: host, Sandbox: sandbox}, o, d, &netutil.Undo{}); err != nil {
		t.Fatal(err)
	}
	n.Pod("a").Run("ip", "link", "set", "eth0", "netns", n.Host.Path)
}

// A card without a cable is handed over all the same, its addresses included.
func TestADeviceWithoutACarrier(t *testing.T) {
	n, lan := newNode(t)
	lan.Run("ip", "link", "set", "eth0", "down")
	c := conf(t.TempDir(), `"device": "ens1"`)
	n.Add("host-device", "a", c)
	if err := n.Check("host-device", "a", c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	n.Del("host-device", "a", c)
}

// ADD is all or nothing: here the kernel refuses a route when the device has been moved.
func TestAnAddThatFailsPutsTheDeviceBack(t *testing.T) {
	for name, wrong := range map[string]struct {
		keys, pod, words string
	}{
		"route": {keys: `"device": "ens1"`, words: "add route"},
		"name":  {keys: `"device": "ens1"`, pod: "ip link add eth0 type veth peer name x", words: "eth0 exists already"},
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := newNode(t)
			dir := t.TempDir()
			c := strings.Replace(conf(dir, wrong.keys), `{"dst": "::/0"}`, `{"dst": "::/0", "gw": "fd77::1"}`, 1)
			if wrong.pod != "" {
				n.Pod("a").Run("sh", "-c", wrong.pod)
			}
			_, err := n.Do(roletest.Call{Verb: "ADD", Role: "host-device", Pod: n.Pod("a"), Conf: c})
			if err == nil || !strings.Contains(err.Error(), wrong.words) {
				t.Errorf("got %v, want %q", err, wrong.words)
			}
			wantBack(t, n, up)
			wantNothingReserved(t, dir)
		})
	}
}

// CHECK names what is not as ADD made it.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct{ pod, words string }{
		"down":    {"ip link set eth0 down", "eth0 is down"},
		"address": {"ip addr del 10.9.0.5/24 dev eth0", "10.9.0.5/24"},
		"route":   {"ip -6 route del default", "::/0"},
		"MAC":     {"ip link set eth0 address 02:00:00:00:00:08", "02:00:00:00:00:08"},
		"mtu":     {"ip link set eth0 mtu 1400", "1400"},
		"alias":   {"ip link set eth0 alias mine", "mine"},
		"name":    {"ip link set eth0 down name pod0", "eth0 is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := newNode(t)
			conf := conf(t.TempDir(), `"device": "ens1"`)
			a := n.Add("host-device", "a", conf)
			a.Run("sh", "-c", c.pod)
			errtest.Want(t, n.Check("host-device", "a", conf), errcode.Differs, c.words)
		})
	}
}

// A device without ipam has its interface and no address; several with one address need to be told apart.
func TestWithoutAddressesAndByHardwareAddress(t *testing.T) {
	n, _ := newNode(t)
	n.Host.Run("ip", "link", "add", "br0", "address", mac, "type", "bridge")
	c := `{"cniVersion": "1.1.0", "name": "lan", "type": "host-device", "hwaddr": "` + mac + `"}`
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "host-device", Pod: n.Pod("a"), Conf: c})
	errtest.Want(t, err, errcode.InvalidConfig, "hwaddr: ", "br0", "ens1")
	n.Host.Run("ip", "link", "del", "br0")
	n.Add("host-device", "a", c)
	if err := n.Check("host-device", "a", c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	n.Del("host-device", "a", c)
	wantBack(t, n, down)
}

func TestStatus(t *testing.T) {
	n, _ := newNode(t)
	dir := t.TempDir()
	status := func(keys string) error {
		_, err := n.Do(roletest.Call{Verb: "STATUS", Role: "host-device", Conf: conf(dir, keys)})
		return err
	}
	if err := status(`"device": "ens1"`); err != nil {
		t.Errorf("STATUS: %v", err)
	}
	if err := status(`"capabilities": {"deviceID": true}`); err != nil { // which comes with ADD only
		t.Errorf("STATUS: %v", err)
	}
	errtest.Want(t, status(`"device": "ens2"`), errcode.NotAvailable, "device: ", "ens2")
	errtest.Want(t, status(`"hwaddr": "02:00:00:00:00:99"`), errcode.NotAvailable, "hwaddr: ", "02:00:00:00:00:99")
	errtest.Want(t, status(`"pciBusID": "ffff:00:00.0"`), errcode.NotAvailable, "pciBusID: ", "ffff:00:00.0")
}

func TestBadInputMovesNothing(t *testing.T) {
	n, _ := newNode(t)
	n.Host.Run("ip", "link", "set", "ens1", "addrgenmode", "none") // its link-local address would come while the state is compared
	n.Host.Run("ip", "-6", "addr", "flush", "dev", "ens1")
	n.WantRefused("host-device", `{"type": "host-local", "dataDir": "/nonexistent", "ranges": [[{"subnet": "fd06::/64"}]]}`,
		roletest.Refusal{Keys: `"x": 1`, Want: "device: missing"},
		roletest.Refusal{Keys: `"device": 7`, Want: "device: "},
		roletest.Refusal{Keys: `"device": "a/b"`, Want: "device: "},
		roletest.Refusal{Keys: `"device": "ens2"`, Want: "device: "},
		roletest.Refusal{Keys: `"hwaddr": "x"`, Want: "hwaddr: "},
		roletest.Refusal{Keys: `"hwaddr": []`, Want: "hwaddr: "},
		roletest.Refusal{Keys: `"hwaddr": "02:00:00:00:00:99"`, Want: "hwaddr: "},
		roletest.Refusal{Keys: `"kernelpath": "/etc/net"`, Want: "kernelpath: "},
		roletest.Refusal{Keys: `"kernelpath": "/sys/devices/../x"`, Want: "kernelpath: "},
		roletest.Refusal{Keys: `"kernelpath": "/sys/devices/none"`, Want: "kernelpath: "},
		roletest.Refusal{Keys: `"kernelpath": 1`, Want: "kernelpath: "},
		roletest.Refusal{Keys: `"pciBusID": "../virtio"`, Want: "pciBusID: "},
		roletest.Refusal{Keys: `"pciBusID": "/"`, Want: `pciBusID: "/" is no name of a device`},
		roletest.Refusal{Keys: `"pciBusID": "ffff:00:00.0"`, Want: "pciBusID: "},
		roletest.Refusal{Keys: `"pciBusID": {}`, Want: "pciBusID: "},
		roletest.Refusal{Keys: `"dpdkMode": "yes", "device": "x"`, Want: "dpdkMode: "},
		roletest.Refusal{Keys: `"runtimeConfig": {"deviceID": ".."}`, Want: "runtimeConfig.deviceID: "},
		roletest.Refusal{Keys: `"runtimeConfig": {"deviceID": "x.sf.1"}`, Want: "runtimeConfig.deviceID: "},
		roletest.Refusal{Keys: `"runtimeConfig": {"deviceID": "ffff:00:00.0"}`, Want: "runtimeConfig.deviceID: "},
		roletest.Refusal{Keys: `"device": "ens1", "hwaddr": "` + mac + `"`, Want: "device, hwaddr: only one"},
		roletest.Refusal{Keys: `"device": "ens1", "pciBusID": "0000:00:00.0"`, Want: "device, pciBusID: only one"},
		roletest.Refusal{Keys: `"device": "ens1", "runtimeConfig": {"deviceID": "x"}`, Want: "device, runtimeConfig.deviceID: only one"},
	)
	dir := t.TempDir()
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "host-device", Pod: n.Pod("a"), Conf: conf(dir, `"device": "lo"`)})
	errtest.Want(t, err, errcode.Kernel, "lo is of a kind that stays")
	n.Host.Run("ip", "link", "set", "ens1", "mtu", "1000")
	_, err = n.Do(roletest.Call{Verb: "ADD", Role: "host-device", Pod: n.Pod("a"), Conf: conf(dir, `"device": "ens1"`)})
	errtest.Want(t, err, errcode.InvalidConfig, "ens1: mtu: 1000", "IPv6")
	wantNothingReserved(t, dir)
	wantBack(t, n, up)
}

// Who knew the address's former holder learns at once that the device has it.
func TestTheAddressIsAnnounced(t *testing.T) {
	n, lan := newNode(t)
	for range 300 { // until the network hears multicast
		if strings.Contains(lan.Run("ip", "-6", "route", "show", "table", "local", "dev", "eth0"), "multicast") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	// The kernel forgets neighbours where a link has no carrier, as this one for the moment in which its other end moves.
	lan.Run("sysctl", "-qw", "net.ipv4.conf.eth0.arp_evict_nocarrier=0", "net.ipv6.conf.eth0.ndisc_evict_nocarrier=0")
	lan.Run("ip", "neigh", "add", "10.9.0.5", "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale")
	lan.Run("ip", "neigh", "add", "fd09::5", "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale")
	n.Add("host-device", "a", conf(t.TempDir(), `"device": "ens1"`))
	var out string
	for range 100 {
		if out = lan.Run("ip", "neigh"); strings.Count(out, mac) == 2 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("the network still knows %s", out)
}

func TestReadmeExamples(t *testing.T) {
	n, _ := newNode(t)
	n.WantReadmeExamples("host-device", 1)
}

func TestFamilies(t *testing.T) {
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		n, lan := newNode(t)
		dir := t.TempDir()
		n.Server(lan, 80)
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir,
			Plugins: []roletest.Plugin{{Role: "host-device", Keys: `"device": "ens1", ` + f.IPAM(dir, range4, range6)}},
			Reach:   func(p *roletest.Pod) { n.WantReach(p, "10.9.0.1", "fd09::1") },
		})
		wantBack(t, n, down)
	})
}
