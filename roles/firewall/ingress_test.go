package firewall_test

import (
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nstest"
)

const (
	sameBridge = `"ingressPolicy": "same-bridge"`
	isolated   = `"ingressPolicy": "isolated"`
)

// Only pods of the same bridge connect to a pod, whether or not bridged frames pass the packet filter. It connects to whom it likes, and
// whoever is no pod connects to it.
func TestSameBridge(t *testing.T) {
	t.Parallel()
	for _, filtered := range []string{"0", "1"} {
		n := newNode(t, "bridge")
		n.filterBridged(filtered)
		a, b, other := n.pod("a", 1).admit(sameBridge), n.pod("b", 1).admit(sameBridge), n.pod("other", 2).admit("")
		b.reaches(a)
		a.reaches(b)
		other.misses(a)
		a.reaches(other)
		a.fromOutside(true)
		a.getsOut(true)

		a.dismiss()
		other.reaches(a)
		other.misses(b)
	}
}

// Two networks that keep others out keep out each other's pods.
func TestSameBridgeOfTwoNetworks(t *testing.T) {
	t.Parallel()
	n := newNode(t, "bridge")
	a, other := n.pod("a", 1).admit(sameBridge), n.pod("other", 2).admit(sameBridge)
	a.misses(other)
	other.misses(a)
}

// No pod connects to an isolated one. It connects to those that are not.
func TestIsolated(t *testing.T) {
	t.Parallel()
	for _, filtered := range []string{"0", "1"} {
		t.Run("filtered "+filtered, func(t *testing.T) {
			t.Parallel()
			if filtered == "0" {
				nstest.Need(t, "conntrack_bridge")
			}
			n := newNode(t, "bridge")
			n.filterBridged(filtered)
			a, b, other := n.pod("a", 1).admit(isolated), n.pod("b", 1).admit(""), n.pod("other", 2).admit("")
			b.misses(a)
			other.misses(a)
			n.WantSeen(b.NS, "tcp", a.local(), "")
			for _, p := range []*pod{a, b} { // which must be found again
				p.Run("ip", "neigh", "flush", "dev", "eth0")
			}
			a.reaches(b)
			n.WantSeen(a.NS, "udp", b.local(), strings.TrimPrefix(strings.TrimSuffix(a.local(), "%eth0]:80"), "["))
			a.reaches(other)
			a.fromOutside(true)
			a.getsOut(true)
			b.reaches(other)

			a.dismiss()
			b.reaches(a)
			n.wantNothing()
		})
	}
}

// local is the server at the pod's link-local address, as a neighbour dials it.
func (p *pod) local() string {
	p.node.t.Helper()
	fields := strings.Fields(p.Run("ip", "-6", "-br", "addr", "show", "dev", "eth0", "scope", "link"))
	addr, _, _ := strings.Cut(fields[len(fields)-1], "/")
	return "[" + addr + "%eth0]:80"
}

// Pods that each have a link of their own are kept apart by it.
func TestIsolatedRouted(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ptp")
	a, b := n.pod("a", 1).admit(isolated), n.pod("b", 1).admit("")
	b.misses(a)
	a.reaches(b)
	a.fromOutside(true)
	a.dismiss()
	b.reaches(a)
}

// Where frames between ports cannot be told apart the policy is refused, and nothing is changed.
func TestIsolatedNeedsTheKernel(t *testing.T) {
	t.Parallel()
	n := newNode(t, "bridge")
	a := n.pod("a", 1)
	err := a.do("ADD", "firewall", isolated)
	if nstest.Has(t, "conntrack_bridge") {
		if err != nil {
			t.Errorf("got %v", err)
		}
		return
	}
	if errcode.Of(err) != errcode.Kernel || !strings.Contains(err.Error(), "nf_conntrack_bridge") {
		t.Errorf("got %v", err)
	}
	n.wantNothing()
}

func TestSameBridgeNeedsABridge(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ptp")
	a := n.pod("a", 1)
	err := a.do("ADD", "firewall", sameBridge)
	if errcode.Of(err) != errcode.InvalidConfig || !strings.HasPrefix(err.Error(), "ingressPolicy: ") {
		t.Errorf("got %v", err)
	}
	n.wantNothing()
}

// wantNothing wants no element of isolated pods to be left.
func (n *node) wantNothing() {
	n.t.Helper()
	rules, err := n.Host.Try("nft", "list", "ruleset")
	if err != nil {
		n.t.Fatal(err)
	}
	for _, set := range []string{"guarded_ipv4", "guarded_ipv6", "near_ipv4", "isolated"} {
		_, after, _ := strings.Cut(rules, "set "+set+" {")
		if body, _, _ := strings.Cut(after, "}\n"); strings.Contains(body, "elements") {
			n.t.Errorf("the set %s is not empty:\n%s", set, body)
		}
	}
	if strings.Contains(rules, "isolated ports") {
		n.t.Errorf("the rule of isolated ports is left:\n%s", rules)
	}
}
