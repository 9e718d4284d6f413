package vxlan_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles/roletest"
)

// This file is about pods of all nodes on one link that must not notice what becomes of the configuration, or of other pods.

// pair is two nodes with a pod each.
func pair(t *testing.T, keys ...string) (*cluster, []*roletest.Pod) {
	t.Helper()
	c := newCluster(t, 2, false)
	return c, []*roletest.Pod{c.bridgedPod(c.nodes[0], "a", keys...), c.bridgedPod(c.nodes[1], "b", keys...)}
}

// What is refused leaves the pods that are there as they are.
func TestARefusedChangeChangesNothing(t *testing.T) {
	t.Parallel()
	c, pods := pair(t)
	n := c.nodes[0]
	n.Host.Run("ip", "link", "add", "name", "theirs", "type", "bridge")
	n.Host.Run("ip", "link", "add", "vx99", "type", "vxlan", "id", "99", "dstport", "4789", "local", "192.0.2.1")
	for _, tt := range []struct{ from, to, want string }{
		{`"mode": "bridged"`, `"mode": "bridged", "bridge": "theirs"`, "bridge: interface theirs is there already"},
		{`"vni": 42`, `"vni": 99`, "vni: another VXLAN interface has VNI 99 on port 4789"},
	} {
		_, err := n.Do(roletest.Call{Verb: "ADD", Role: "vxlan", Pod: n.Pod("x"), Conf: strings.Replace(c.bridged(n), tt.from, tt.to, 1)})
		errtest.WantKey(t, err, errcode.AlreadyExists, tt.want)
		wantPairs(n, pods)
		if err := n.Check("vxlan", "a", c.bridged(n)); err != nil {
			t.Errorf("%s: CHECK: %v", tt.to, err)
		}
	}
	c.bridgedPod(n, "y")
	wantPairs(n, pods)
}

func TestPodsKeepTheirMTUTogether(t *testing.T) {
	t.Parallel()
	c, pods := pair(t)
	n := c.nodes[0]
	for _, h := range []*nstest.NS{n.Host, c.nodes[1].Host} {
		h.Run("ip", "link", "set", "eth0", "mtu", "1400")
	}
	next := c.bridgedPod(n, "next")
	for _, p := range []*roletest.Pod{pods[0], next} {
		if out := p.Run("ip", "link", "show", "eth0"); !strings.Contains(out, "mtu 1450") {
			t.Errorf("%s: %s", p.Name, out)
		}
		p.Run("ping", "-c", "3", "-i", "0.2", "-W", "2", "-s", "1422", pods[1].Addrs[0].String()) // the first may tell of the narrower path
	}
	for _, p := range []string{"a", "next"} {
		if err := n.Check("vxlan", p, c.bridged(n)); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		n.Del("vxlan", p, c.bridged(n))
	}
	// With the last pod all that goes, and the next is the first.
	if out := c.bridgedPod(n, "first").Run("ip", "link", "show", "eth0"); !strings.Contains(out, "mtu 1350") {
		t.Errorf("the first pod on a narrower underlay: %s", out)
	}
}

// The bridge's MAC address is what pods know their gateway by.
func TestTheBridgeStaysTheSame(t *testing.T) {
	t.Parallel()
	c, pods := pair(t)
	n := c.nodes[0]
	mac := func() string { return strings.Fields(n.Host.Run("ip", "-br", "link", "show", "br-podnet"))[2] }
	before := mac()
	other := strings.NewReplacer(`"vni": 42`, `"vni": 43`).Replace
	n.Host.Run("ip", "link", "del", "br-podnet")
	for _, node := range c.nodes {
		node.Add("vxlan", "next", other(c.bridged(node)))
	}
	if mac() != before {
		t.Errorf("the bridge's MAC address was %s and is %s", before, mac())
	}
	if mac() == strings.Fields(c.nodes[1].Host.Run("ip", "-br", "link", "show", "br-podnet"))[2] {
		t.Error("two nodes' bridges have one MAC address")
	}
	wantPairs(n, pods)
	// Another gateway for those that come; those that are there keep theirs.
	moved := strings.NewReplacer("10.244.1.254", "10.244.1.253", "fd00::1:fe", "fd00::1:fd").Replace
	p := n.Add("vxlan", "moved", other(moved(c.bridged(n))))
	n.Server(c.nodes[1].Host, 81)
	for _, from := range []*roletest.Pod{p, pods[0]} {
		n.WantSeen(from.NS, "tcp", "192.0.2.2:81", "192.0.2.1")
	}
	out := n.Host.Run("sysctl", "-n", "net.ipv6.conf.br-podnet.accept_ra", "net.ipv6.conf.vxlan43.accept_ra")
	if strings.TrimSpace(out) != "0\n0" {
		t.Errorf("the node takes pods for routers: %s", out)
	}
}

func TestTwoLinksWithOneSubnet(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, false)
	n := c.nodes[0]
	twin := strings.NewReplacer(`"name": "podnet"`, `"name": "twin"`, `"vni": 42`, `"vni": 44`).Replace
	alone := `"isGateway": false`
	one, two := c.bridgedPod(n, "a", alone), n.Add("vxlan", "b", twin(c.bridged(n, alone)))
	far := c.bridgedPod(c.nodes[1], "c", alone)
	wantPairs(n, []*roletest.Pod{one, far})
	if _, err := two.Try("ping", "-c", "1", "-W", "1", far.Addrs[0].String()); err == nil {
		t.Error("the pods of two links reach each other")
	}
	for pod, conf := range map[string]string{"a": c.bridged(n, alone), "b": twin(c.bridged(n, alone))} {
		if err := n.Check("vxlan", pod, conf); err != nil {
			t.Errorf("CHECK: %v", err)
		}
	}
	// With the node on both, it could not tell them apart.
	third := strings.NewReplacer(`"name": "podnet"`, `"name": "third"`, `"vni": 42`, `"vni": 45`).Replace(c.bridged(n))
	n.Add("vxlan", "d", third)
	fourth := strings.NewReplacer("third", "fourth", "45", "46").Replace(third)
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "vxlan", Pod: n.Pod("e"), Conf: fourth})
	errtest.WantKey(t, err, errcode.AlreadyExists, "nodeSubnets: 10.244.0.0/16 overlaps 10.244.0.0/16 of the network third")
}

// Whoever asks for it has all nodes hear of an address that moves.
func TestWithoutSuppression(t *testing.T) {
	t.Parallel()
	c, pods := pair(t, `"neighSuppress": false`)
	n := c.nodes[0]
	if out := n.Host.Run("bridge", "-d", "link", "show", "dev", "vxlan42"); !strings.Contains(out, "neigh_suppress off") {
		t.Errorf("the port is %s", out)
	}
	wantPairs(n, pods)
	if err := n.Check("vxlan", "a", c.bridged(n)); err == nil {
		t.Error("CHECK passes with suppression in the configuration")
	}
	c.bridgedPod(n, "next")
	if err := n.Check("vxlan", "a", c.bridged(n)); err != nil {
		t.Errorf("CHECK: %v", err)
	}
}

// A flood entry with a port or VNI of its own leads elsewhere, whatever host it names.
func TestAStrangeFloodEntryGoes(t *testing.T) {
	t.Parallel()
	c, pods := pair(t)
	n := c.nodes[0]
	n.Host.Run("bridge", "fdb", "del", "00:00:00:00:00:00", "dev", "vxlan42", "dst", "192.0.2.2")
	n.Host.Run("bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "vxlan42", "dst", "192.0.2.2", "port", "9999")
	n.Host.Run("bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "vxlan42", "dst", "192.0.2.77", "vni", "7")
	if err := n.Check("vxlan", "a", c.bridged(n)); err == nil {
		t.Error("CHECK passes")
	}
	n.Host.Run("ip", "link", "set", "vxlan42", "down") // which the next pod notices
	c.bridgedPod(n, "next")
	if err := n.Check("vxlan", "a", c.bridged(n)); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	wantPairs(n, pods)
}

// What a pod sends to all on its link arrives from its own address, also where the bridge asks the packet filter.
func TestBroadcastKeepsItsSource(t *testing.T) {
	t.Parallel()
	_, pods := pair(t)
	var l *net.UDPConn
	if err := pods[1].Do(func() (err error) {
		l, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 99})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	sendTo(t, pods[0].NS, netip.MustParseAddrPort("255.255.255.255:99"), []byte("hello"))
	if err := l.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, from, err := l.ReadFromUDPAddrPort(make([]byte, 100))
	if err != nil || from.Addr() != pods[0].Addrs[0] {
		t.Errorf("it is from %v, %v", from, err)
	}
}

func sendTo(t *testing.T, ns *nstest.NS, to netip.AddrPort, data []byte) {
	t.Helper()
	err := ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
			return err
		}
		return unix.Sendto(fd, data, 0, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A pod's packet to another node's tunnel would arrive there as from its own node.
func TestAPodSendsIntoNoTunnel(t *testing.T) {
	t.Parallel()
	c, pods := pair(t)
	// VXLAN, and in it a frame from 02:00:00:00:66:66 to all.
	packet := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, 42<<8)
	packet = append(packet, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0x66, 0x66, 0x88, 0xb5)
	packet = append(packet, make([]byte, 46)...)
	learnt := func() bool {
		return strings.Contains(c.nodes[1].Host.Run("bridge", "fdb", "show", "dev", "vxlan42"), "02:00:00:00:66:66")
	}
	send := func() {
		for range 5 {
			sendTo(t, pods[0].NS, netip.MustParseAddrPort("192.0.2.2:4789"), packet)
			time.Sleep(20 * time.Millisecond)
		}
	}
	send()
	if learnt() {
		t.Error("a pod sends into another node's tunnel")
	}
	// That it could, shows that the test is worth something.
	for _, n := range c.nodes {
		n.Host.Run("sh", "-c", "nft flush chain inet cnibox tunnels")
	}
	send()
	if !learnt() {
		t.Error("it does not arrive without the rule either")
	}
}
