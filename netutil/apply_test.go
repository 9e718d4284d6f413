package netutil_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/owner"
)

// node is a host and one pod, opened as the runner would.
type node struct {
	host, pod *nstest.NS
	netutil.Kernel
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{host: nstest.New(t, "host"), pod: nstest.New(t, "pod")}
	n.Host, n.Sandbox = open(t, n.host), open(t, n.pod)
	return n
}

func open(t *testing.T, ns *nstest.NS) *netutil.Namespace {
	t.Helper()
	n, err := netutil.Open(ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// state is all that a plan without filter entries can change, as ip(8) lists it. Indexes are left out, since they only count up, and
// so are link-local addresses and the operational state, which come and go on their own: a bridge that has lost its last port is down, one that never had a port is unknown.
func (n *node) state() string {
	var s []string
	for _, ns := range []*nstest.NS{n.host, n.pod} {
		for _, what := range []string{"link", "addr"} {
			for line := range strings.Lines(ns.Run("ip", "-br", what)) {
				for i, field := range strings.Fields(carrier.Replace(line)) {
					name, _, _ := strings.Cut(field, "@")
					if i != 1 && !strings.HasPrefix(field, "fe80:") {
						s = append(s, name)
					}
				}
			}
		}
		for line := range strings.Lines(ns.Run("ip", "route", "show", "table", "all")) {
			if !strings.Contains(line, "multicast") && !strings.Contains(line, "fe80::") {
				s = append(s, strings.TrimSpace(strings.ReplaceAll(line, "linkdown", "")))
			}
		}
	}
	return strings.Join(s, "\n")
}

var carrier = strings.NewReplacer("NO-CARRIER,", "", ",LOWER_UP", "")

var pod1 = owner.Owner{Network: "net", ContainerID: "pod1", IfName: "eth0"}

// bridged is an attachment to a bridge with a gateway, as the bridge role plans it.
func bridged(o owner.Owner, addr string) *netutil.Plan {
	prefix := netip.MustParsePrefix(addr)
	gateway := prefix.Masked().Addr().Next()
	return &netutil.Plan{
		Owner: o,
		Links: []netutil.Link{
			{Name: "br0", Kind: netutil.Bridge, Shared: true, Up: true},
			{
				Name: o.LinkName(), Kind: netutil.Veth, MTU: 1400, MAC: o.MAC(), Up: true, Carrier: true, OwnerTag: true,
				Master: "br0", Port: netutil.Port{Hairpin: true, Isolated: true},
				Peer: &netutil.Link{Place: netutil.Sandbox, Name: o.IfName, MTU: 1400, MAC: o.PodMAC(prefix.Addr()), Up: true},
			},
		},
		Addrs: []netutil.Addr{
			{Place: netutil.Sandbox, Link: o.IfName, Prefix: prefix},
			{Link: "br0", Prefix: netip.PrefixFrom(gateway, prefix.Bits()), Shared: true, Exclusive: true},
		},
		Routes: []netutil.Route{{
			Place: netutil.Sandbox, Link: o.IfName, Dst: netip.PrefixFrom(zero(gateway), 0), Gateway: gateway, MTU: 1300, Priority: 7,
		}},
	}
}

func zero(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func apply(t *testing.T, n *node, p *netutil.Plan) *netutil.Undo {
	t.Helper()
	undo := &netutil.Undo{}
	if _, err := netutil.Apply(context.Background(), p, n.Kernel, undo); err != nil {
		t.Fatalf("apply: %v", err)
	}
	return undo
}

func TestApplyConnectsAndUndoLeavesNothing(t *testing.T) {
	for _, addr := range []string{"10.9.0.5/24", "fd09::5/64"} {
		t.Run(addr, func(t *testing.T) {
			n := newNode(t)
			before := n.state()
			p := bridged(pod1, addr)
			undo := apply(t, n, p)
			if err := netutil.Verify(context.Background(), p, n.Kernel); err != nil {
				t.Errorf("verify: %v", err)
			}
			gateway := p.Routes[0].Gateway.String()
			n.pod.Run("ping", "-c1", "-W2", gateway)
			n.host.Run("ping", "-c1", "-W2", p.Addrs[0].Prefix.Addr().String())
			if err := undo.Run(); err != nil {
				t.Errorf("undo: %v", err)
			}
			if after := n.state(); after != before {
				t.Errorf("undo left something behind:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

func TestUndoKeepsWhatOthersUse(t *testing.T) {
	n := newNode(t)
	undo1 := apply(t, n, bridged(pod1, "10.9.0.5/24"))
	second := *n
	second.pod = nstest.New(t, "pod2")
	second.Sandbox = open(t, second.pod)
	o2 := owner.Owner{Network: "net", ContainerID: "pod2", IfName: "eth0"}
	apply(t, &second, bridged(o2, "10.9.0.6/24"))
	if err := undo1.Run(); err != nil {
		t.Fatal(err)
	}
	second.pod.Run("ping", "-c1", "-W2", "10.9.0.1")
	if out, err := n.host.Try("ip", "link", "show", pod1.LinkName()); err == nil {
		t.Errorf("the first pod's link is still there:\n%s", out)
	}
}

func TestUndoKeepsBridgeThatStoodBefore(t *testing.T) {
	n := newNode(t)
	n.host.Run("ip", "link", "add", "br0", "type", "bridge")
	n.host.Run("ip", "link", "set", "br0", "up")
	before := n.state()
	undo := apply(t, n, bridged(pod1, "10.9.0.5/24"))
	if err := undo.Run(); err != nil {
		t.Fatal(err)
	}
	if after := n.state(); after != before {
		t.Errorf("after undo:\n%s\nbefore:\n%s", after, before)
	}
}

func TestBridgeKeepsItsMAC(t *testing.T) {
	n := newNode(t)
	apply(t, n, bridged(pod1, "10.9.0.5/24"))
	mac := func() string { return strings.Fields(n.host.Run("ip", "-br", "link", "show", "br0"))[2] }
	before := mac()
	// A port with the lowest address there is: an address that the kernel chose for the bridge would follow it.
	n.host.Run("ip", "link", "add", "low", "address", "00:00:00:00:00:01", "type", "veth", "peer", "name", "low-peer")
	n.host.Run("ip", "link", "set", "low", "master", "br0", "up")
	if after := mac(); after != before {
		t.Errorf("the bridge's address went from %s to %s", before, after)
	}
}

func TestVerifyNamesWhatDiffers(t *testing.T) {
	host := pod1.LinkName()
	tests := []struct {
		name, want string
		spoil      func(n *node)
	}{
		{"link gone", host, func(n *node) { n.host.Run("ip", "link", "del", host) }},
		{"mtu", "mtu 1200", func(n *node) { n.pod.Run("ip", "link", "set", "eth0", "mtu", "1200") }},
		{"mac", "MAC address", func(n *node) { n.pod.Run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:09") }},
		{"down", "eth0 is down", func(n *node) { n.pod.Run("ip", "link", "set", "eth0", "down") }},
		{"no port", "no port of br0", func(n *node) { n.host.Run("ip", "link", "set", host, "nomaster") }},
		{"hairpin", "hairpin", func(n *node) { n.host.Run("ip", "link", "set", host, "type", "bridge_slave", "hairpin", "off") }},
		{"isolation", "isolated", func(n *node) { n.host.Run("ip", "link", "set", host, "type", "bridge_slave", "isolated", "off") }},
		{"address", "10.9.0.5/24", func(n *node) { n.pod.Run("ip", "addr", "del", "10.9.0.5/24", "dev", "eth0") }},
		{"gateway", "10.9.0.1/24", func(n *node) { n.host.Run("ip", "addr", "del", "10.9.0.1/24", "dev", "br0") }},
		{"route", "0.0.0.0/0 via 10.9.0.1", func(n *node) { n.pod.Run("ip", "route", "del", "default") }},
		{"route mtu", "0.0.0.0/0", func(n *node) {
			n.pod.Run("ip", "route", "replace", "default", "via", "10.9.0.1", "metric", "7", "mtu", "1111")
		}},
		{"replaced pair", "not the peer", func(n *node) {
			n.pod.Run("ip", "link", "set", "eth0", "name", "old")
			n.pod.Run("ip", "link", "add", "eth0", "mtu", "1400", "address", pod1.PodMAC(netip.MustParseAddr("10.9.0.5")).String(),
				"type", "veth", "peer", "name", "x")
			n.pod.Run("ip", "link", "set", "eth0", "up")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t)
			p := bridged(pod1, "10.9.0.5/24")
			apply(t, n, p)
			tt.spoil(n)
			err := netutil.Verify(context.Background(), p, n.Kernel)
			if err == nil || errcode.Of(err) != errcode.Differs || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with code %d that says %q", err, errcode.Differs, tt.want)
			}
		})
	}
}

func TestApplyRefusesAndChangesNothing(t *testing.T) {
	tests := []struct {
		name, want string
		prepare    func(n *node)
	}{
		{"no bridge", "is of kind veth, not bridge", func(n *node) { n.host.Run("ip", "link", "add", "br0", "type", "veth", "peer", "name", "x") }},
		{"interface in the sandbox", "sandbox interface eth0 exists", func(n *node) {
			n.pod.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "x")
		}},
		{"attachment exists", "host interface " + pod1.LinkName() + " exists", func(n *node) {
			n.host.Run("ip", "link", "add", pod1.LinkName(), "type", "veth", "peer", "name", "x")
		}},
		{"another gateway", "forceAddress", func(n *node) {
			n.host.Run("ip", "link", "add", "br0", "type", "bridge")
			n.host.Run("ip", "link", "set", "br0", "up")
			n.host.Run("ip", "addr", "add", "10.8.0.1/24", "dev", "br0")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t)
			tt.prepare(n)
			before := n.state()
			undo := &netutil.Undo{}
			_, err := netutil.Apply(context.Background(), bridged(pod1, "10.9.0.5/24"), n.Kernel, undo)
			if err == nil || !strings.Contains(err.Error(), tt.want) || errcode.Of(err) != errcode.AlreadyExists {
				t.Errorf("got %v, want code %d and %q", err, errcode.AlreadyExists, tt.want)
			}
			if err := undo.Run(); err != nil {
				t.Errorf("undo: %v", err)
			}
			if after := n.state(); after != before {
				t.Errorf("after:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

func TestForceReplacesTheGateway(t *testing.T) {
	n := newNode(t)
	n.host.Run("ip", "link", "add", "br0", "type", "bridge")
	n.host.Run("ip", "addr", "add", "10.8.0.1/24", "dev", "br0")
	p := bridged(pod1, "10.9.0.5/24")
	p.Addrs[1].Force = true
	undo := apply(t, n, p)
	if out := n.host.Run("ip", "-br", "addr", "show", "br0"); strings.Contains(out, "10.8.0.1") || !strings.Contains(out, "10.9.0.1/24") {
		t.Errorf("addresses of the bridge: %s", out)
	}
	if err := undo.Run(); err != nil {
		t.Fatal(err)
	}
	if out := n.host.Run("ip", "-br", "addr", "show", "br0"); !strings.Contains(out, "10.8.0.1/24") {
		t.Errorf("undo did not bring the former address back: %s", out)
	}
}

func TestDuplicateAddressIsFound(t *testing.T) {
	n := newNode(t)
	n.host.Run("ip", "link", "add", "br0", "type", "bridge")
	n.host.Run("ip", "link", "set", "br0", "up")
	n.host.Run("ip", "addr", "add", "fd09::5/64", "dev", "br0", "nodad")
	p := bridged(pod1, "fd09::5/64")
	p.Addrs = p.Addrs[:1]
	p.Addrs[0].DAD = true
	p.Links[1].Port = netutil.Port{} // a hairpin port would hear its own probes
	_, err := netutil.Apply(context.Background(), p, n.Kernel, &netutil.Undo{})
	if errcode.Of(err) != errcode.AddressTaken {
		t.Errorf("got %v, want code %d", err, errcode.AddressTaken)
	}
}

func TestDADWaitsUntilTheAddressIsUsable(t *testing.T) {
	n := newNode(t)
	p := bridged(pod1, "fd09::5/64")
	p.Addrs[0].DAD = true
	p.Links[1].Port = netutil.Port{}
	apply(t, n, p)
	if out := n.pod.Run("ip", "-6", "addr", "show", "eth0"); strings.Contains(out, "tentative") && strings.Contains(out, "fd09::5/64 scope global tentative") {
		t.Errorf("the address is still tentative:\n%s", out)
	}
}

func TestOpenTellsWhatIsNoNamespace(t *testing.T) {
	n := nstest.New(t, "gone")
	n.Remove()
	for path, gone := range map[string]bool{n.Path: true, "/nonexistent/ns": true, "/proc/self/ns/mnt": false} {
		ns, err := netutil.Open(path)
		if err == nil {
			ns.Close()
			t.Errorf("%s: opened", path)
			continue
		}
		if got := strings.Contains(err.Error(), "another kind"); got == gone || errcode.Of(err) != errcode.InvalidNetNS {
			t.Errorf("%s: %v (code %d)", path, err, errcode.Of(err))
		}
	}
}
