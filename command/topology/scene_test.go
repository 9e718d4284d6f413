package topology

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// made is a node made up of networks, each with so many pods.
func made(pods int, dual bool) *node.Node {
	host := &node.Namespace{NSID: rtnl.NoNamespace}
	add := func(l node.Link) *node.Link {
		l.Index, l.Up, l.Running, l.MTU, l.PeerNSID = len(host.Links)+1, true, true, 1500, rtnl.NoNamespace
		host.Links = append(host.Links, &l)
		return &l
	}
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, p := range list {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	add(node.Link{Name: "lo", Addresses: prefixes("127.0.0.1/8")})
	add(node.Link{Name: "eth0", Addresses: prefixes("192.0.2.1/24", "2001:db8::1/64")})
	add(node.Link{Name: "eth1"}).Up = false
	bridge := add(node.Link{Name: "br0", Kind: "bridge", Addresses: prefixes("10.1.0.1/16")})
	add(node.Link{Name: "vxlan7", Kind: "vxlan", VXLAN: &node.VXLAN{VNI: 7, Port: 4789, Local: netip.MustParseAddr("192.0.2.1")}})
	add(node.Link{Name: "docker3", Kind: "veth", Master: bridge.Index})
	n := &node.Node{Host: host, Overlays: []*node.Overlay{{
		Network: "pods", VNI: 7, Port: 4789, Device: "vxlan7", Underlay: netip.MustParseAddr("192.0.2.1"), Subnets: prefixes("10.3.0.0/24"),
		Peers: []node.Peer{{Name: "self", Underlay: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, {
			Name: "node-b", Underlay: []netip.Addr{netip.MustParseAddr("192.0.2.12")}, Subnets: prefixes("10.3.1.0/24"),
		}},
	}}}
	for network, name := range []string{"lan", "edge", "pods"} {
		for i := range pods {
			a := &node.Attachment{
				Network: name, ContainerID: fmt.Sprintf("%d%03dc0ffeec0ffee", network, i), IfName: "eth0", Pod: fmt.Sprintf("shop/%s-%d", name, i), State: node.OK,
				Link: &node.Link{Name: "eth0"}, HostLink: add(node.Link{Name: fmt.Sprintf("veth%03d%08d", network, i), Kind: "veth"}),
				Addresses: prefixes(fmt.Sprintf("10.%d.%d.%d/24", network+1, i/200, 2+i%200)),
			}
			if dual {
				a.Addresses = append(a.Addresses, prefixes(fmt.Sprintf("2001:db8:aaaa:bbbb:cccc:dddd:%x:%x/64", network+0x1000, i+0x1000))...)
			}
			if name == "lan" {
				a.Bridge = "br0"
			}
			if i%4 == 0 {
				a.Ports = []*node.Port{{Protocol: "tcp", HostPort: uint16(8000 + i), Port: 80}, {Protocol: "udp", HostPort: uint16(5000 + i), Port: 53}}
			}
			n.Attachments = append(n.Attachments, a)
		}
	}
	return n
}

// spoil makes one attachment an orphan and another drift.
func spoil(n *node.Node) *node.Node {
	orphan, drift := n.Attachments[0], n.Attachments[len(n.Attachments)-1]
	orphan.State, orphan.Pod, orphan.Link = node.Orphan, "", nil
	orphan.Findings = []node.Finding{{Kind: node.Orphan, Text: "its sandbox is gone, and there is left: interface veth00000000000, reserved 10.1.0.2"}}
	drift.State, drift.Findings = node.Drift, []node.Finding{{Kind: node.Drift, Text: "packet filter: port mappings lacks tcp . 8080 in inet cnibox ports_ipv4"}}
	return n
}

func scenes() map[string]*node.Node {
	host := &node.Namespace{Links: []*node.Link{{Index: 1, Name: "lo", Up: true}}}
	beside := made(1, false)
	for i, a := range beside.Attachments {
		a.HostLink, a.Parent, a.Bridge = nil, "", ""
		if i == 0 {
			a.Parent = "eth0"
		}
	}
	hostile := made(1, false)
	hostile.Attachments[0].Pod = `<script>"&' ` + "\x00\x1b]]>" + `日本語`
	hostile.Attachments[1].Pod = "a-namespace-with-a-very-long-name/and-a-deployment-with-one-as-well-7d9f8b6c5d-x2x4z"
	hostile.Findings = []node.Finding{{Kind: node.Drift, Text: "overlay pods: no route to 10.3.1.0/24 by <vxlan7>"}}
	return map[string]*node.Node{
		"empty": {Host: host}, "one": made(1, false), "ten": spoil(made(10, false)), "dual": spoil(made(10, true)), "many": spoil(made(67, false)),
		"beside": beside, "hostile": hostile,
	}
}

func drawn(n *node.Node) string { return newScene("node-a", n).svg() }

func TestScreens(t *testing.T) {
	dir := os.Getenv("CNIBOX_SCREENS")
	if dir == "" {
		t.Skip("CNIBOX_SCREENS names no folder")
	}
	for name, n := range scenes() {
		if err := os.WriteFile(filepath.Join(dir, name+".svg"), []byte(drawn(n)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What has ports need be no bridge, as with Open vSwitch.
func TestPortsOfOthers(t *testing.T) {
	t.Parallel()
	n := made(2, false)
	n.Host.Named("br0").Kind = "openvswitch"
	s := newScene("node-a", n)
	text := s.text(false, ui.Colours{})
	if !strings.Contains(text, "br0  openvswitch, 10.1.0.1/16, network lan") || strings.Count(text, "br0") != 1 {
		t.Error(text)
	}
	if s.dot() == "" || s.svg() == "" {
		t.Error("no picture")
	}
}
