package roletest

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
)

// This file is about address families: with IPv4, with IPv6 and with both, a role has to do the same, in all versions of the specification.

// Family is what a network's containers have addresses of.
type Family struct{ V4, V6 bool }

// Families runs the test with each family alone, and with both.
func Families(t *testing.T, test func(t *testing.T, f Family)) {
	t.Helper()
	for name, f := range map[string]Family{"IPv4": {V4: true}, "IPv6": {V6: true}, "dual": {V4: true, V6: true}} {
		t.Run(name, func(t *testing.T) { test(t, f) })
	}
}

// Of are those of a pair that belong to the families, IPv4's first.
func (f Family) Of(v4, v6 string) (out []string) {
	if f.V4 {
		out = append(out, v4)
	}
	if f.V6 {
		out = append(out, v6)
	}
	return out
}

// IPAM is the key ipam of a configuration: host-local, with a range of each family and its default route. dir is where it keeps addresses,
// a range is written as `{"subnet": "10.1.0.0/24"}`.
func (f Family) IPAM(dir, v4, v6 string) string {
	return fmt.Sprintf(`"ipam": {"type": "host-local", "dataDir": %q, "ranges": [[%s]], "routes": [%s]}`, dir,
		strings.Join(f.Of(v4, v6), "], ["), strings.Join(f.Of(`{"dst": "0.0.0.0/0"}`, `{"dst": "::/0"}`), ", "))
}

// Plugin is one of a network's list.
type Plugin struct {
	Role string
	Keys string // of its configuration, as JSON, beside cniVersion, name and type
}

// Network is a list of plugins to attach a pod with.
type Network struct {
	Family  Family
	Plugins []Plugin // in their order; the test is about the last
	DataDir string   // where host-local keeps addresses
	Links   []string // of the host that stay, such as a bridge

	// Reach wants packets to come and go.
	Reach func(p *Pod)
	// Damage undoes what the last plugin has done for an address, and returns what its CHECK must say then. Nil takes the address away.
	Damage func(p *Pod, addr netip.Addr) (says string)
}

// WantAllVersions attaches a pod to the network in each version of the specification, calls each verb that this knows, and wants nothing to
// be left by DEL, nor by GC.
func (n *Node) WantAllVersions(x Network) {
	n.t.Helper()
	pod := n.Pod("families")
	before := append(n.leaks(n.Host, x.Links), n.leaks(pod.NS, nil)...)
	for i, version := range roles.Versions() {
		a := &attachment{Network: x, node: n, version: version, pod: pod, before: before}
		a.add()
		x.Reach(a.pod)
		if a.since("0.4.0") {
			a.check(i)
		}
		a.del()
		if a.since("1.1.0") {
			a.collect()
		}
		if n.t.Failed() {
			n.t.Fatalf("in version %s", version)
		}
	}
}

// attachment is a pod's to a network, in one version.
type attachment struct {
	Network
	node    *Node
	version string
	pod     *Pod
	before  []string // what host and pod had beforehand
}

func (a *attachment) since(version string) bool {
	return slices.Index(roles.Versions(), a.version) >= slices.Index(roles.Versions(), version)
}

// conf is a plugin's configuration. prevResult is the pod's last result, if it is wanted.
func (a *attachment) conf(p Plugin, prev bool, keys string) string {
	conf := fmt.Sprintf(`{"cniVersion": %q, "name": "families", "type": %q`, a.version, p.Role)
	for _, more := range []string{p.Keys, keys} {
		if more != "" {
			conf += ", " + more
		}
	}
	if prev {
		conf += `, "prevResult": ` + string(a.pod.result)
	}
	return conf + "}"
}

func (a *attachment) last() Plugin { return a.Plugins[len(a.Plugins)-1] }

// add is ADD of all plugins, whose result must have the form of the version, and an address of each family.
func (a *attachment) add() {
	a.node.t.Helper()
	for i, p := range a.Plugins {
		a.pod.result = a.node.Must(Call{Verb: "ADD", Role: p.Role, Pod: a.pod, Conf: a.conf(p, i > 0, "")})
	}
	addrs, err := ReadResult(a.version, a.pod.result)
	if err != nil {
		a.node.t.Fatal(err)
	}
	a.pod.Addrs = nil
	var got Family
	for _, p := range addrs {
		a.pod.Addrs = append(a.pod.Addrs, p.Addr())
		got.V4, got.V6 = got.V4 || p.Addr().Is4(), got.V6 || p.Addr().Is6()
	}
	if got != a.Family || len(addrs) != len(a.Family.Of("", "")) {
		a.node.t.Fatalf("addresses %v", addrs)
	}
}

// check wants CHECK of all plugins to be content, and that of the last not to be when something is damaged. Of two addresses the number says
// which.
func (a *attachment) check(number int) {
	a.node.t.Helper()
	for _, p := range a.Plugins {
		if _, err := a.node.Do(Call{Verb: "CHECK", Role: p.Role, Pod: a.pod, Conf: a.conf(p, true, "")}); err != nil {
			a.node.t.Errorf("%s CHECK: %v", p.Role, err)
		}
	}
	damage := a.Damage
	if damage == nil {
		damage = dropAddress
	}
	says := damage(a.pod, a.pod.Addrs[number%len(a.pod.Addrs)])
	_, err := a.node.Do(Call{Verb: "CHECK", Role: a.last().Role, Pod: a.pod, Conf: a.conf(a.last(), true, "")})
	errtest.Want(a.node.t, err, errcode.Differs, says)
}

func dropAddress(p *Pod, addr netip.Addr) string {
	p.Run("ip", "addr", "flush", "dev", "eth0", "to", addr.String())
	return addr.String()
}

// del is DEL of all plugins, in reverse, and twice. Since version 0.4.0 they are handed prevResult.
func (a *attachment) del() {
	a.node.t.Helper()
	for range 2 {
		for _, p := range slices.Backward(a.Plugins) {
			a.node.Must(Call{Verb: "DEL", Role: p.Role, Pod: a.pod, Conf: a.conf(p, a.since("0.4.0"), "")})
		}
	}
	a.wantNothing("DEL", a.node.Host, a.pod.NS)
}

// collect attaches the pod once more, and calls the verbs that are about no attachment. What is in the pod goes with it, as with DEL.
func (a *attachment) collect() {
	a.node.t.Helper()
	a.add()
	for _, p := range a.Plugins {
		if p.Role != "host-device" { // whose device is the pod's now
			a.node.Must(Call{Verb: "STATUS", Role: p.Role, Conf: a.conf(p, false, "")})
		}
		a.node.Must(Call{Verb: "GC", Role: p.Role, Conf: a.conf(p, false, `"cni.dev/valid-attachments": []`)})
	}
	a.wantNothing("GC", a.node.Host)
	a.del()
}

func (a *attachment) wantNothing(verb string, in ...*nstest.NS) {
	a.node.t.Helper()
	for _, ns := range in {
		for _, leak := range a.node.leaks(ns, a.Links) {
			if !slices.Contains(a.before, leak) {
				a.node.t.Errorf("%s left in %s: %s", verb, ns.Path, leak)
			}
		}
	}
	if left := Reserved(a.node.t, a.DataDir); left != nil {
		a.node.t.Errorf("%s left the addresses %v", verb, left)
	}
}

func (n *Node) leaks(ns *nstest.NS, links []string) []string {
	n.t.Helper()
	leaks, err := ns.Leaks(links...)
	if err != nil {
		n.t.Fatal(err)
	}
	return leaks
}

// WantMasqueraded has the pod ask the Server at port 80 of the machine outside, which must see the host.
func (n *Node) WantMasqueraded(p *Pod) {
	n.t.Helper()
	for _, own := range p.Addrs {
		to, host := "192.0.2.100:80", "192.0.2.1"
		if own.Is6() {
			to, host = "[2001:db8::100]:80", "2001:db8::1"
		}
		n.WantSeen(p.NS, "tcp", to, host)
	}
}

// WantReach has the pod ask the Server at port 80 of the address that is of the same family, from each of its own, by TCP and UDP.
func (n *Node) WantReach(p *Pod, v4, v6 string) {
	n.t.Helper()
	for _, own := range p.Addrs {
		to := v4
		if own.Is6() {
			to = v6
		}
		for _, network := range []string{"tcp", "udp"} {
			n.WantSeen(p.NS, network, net.JoinHostPort(to, "80"), own.String())
		}
	}
}
