package firewall_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/bridge"
	"github.com/cnibox/cnibox/roles/firewall"
	"github.com/cnibox/cnibox/roles/portmap"
	"github.com/cnibox/cnibox/roles/ptp"
	"github.com/cnibox/cnibox/roles/roletest"
)

// node is a host with pods, and a machine outside that can reach them through the host. Addresses:
//
//	outside         192.0.2.100  2001:db8::100
//	host            192.0.2.1    2001:db8::1
//	pods of net 1   10.9.1.2     fd00:9:1::2    and so on, behind the bridge br1 or by ptp
//	pods of net 2   10.9.2.2     fd00:9:2::2    likewise
type node struct {
	*roletest.Node
	t       *testing.T
	outside *nstest.NS
	main    string // the plugin that makes the pods' interfaces
	conf    string // its configuration; empty: as mainConf has it
	dataDir string
}

func newNode(t *testing.T, main string) *node {
	t.Helper()
	table := roles.Table{
		"bridge": bridge.New(), "firewall": firewall.New(), "host-local": hostlocal.New(), "portmap": portmap.New(), "ptp": ptp.New(),
	}
	n := &node{Node: roletest.NewNode(t, table), t: t, main: main, dataDir: t.TempDir()}
	n.Host.Run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0") // the gateway's link is usable at once
	n.filterBridged("0")
	n.outside = n.Outside()
	n.outside.Run("ip", "route", "add", "10.9.0.0/16", "via", "192.0.2.1")
	n.outside.Run("ip", "route", "add", "fd00:9::/32", "via", "2001:db8::1")
	n.NamedServer("", n.outside, 80)
	return n
}

// filterBridged has bridged frames pass the packet filter (1) or not (0); the setting is the namespace's own.
func (n *node) filterBridged(value string) {
	n.t.Helper()
	for _, key := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		n.Host.Run("sysctl", "-qw", "net.bridge."+key+"="+value)
	}
}

// pod is a container with an interface eth0 in one of the networks.
type pod struct {
	*roletest.Pod
	node   *node
	net    int
	prev   json.RawMessage // what the main plugin answered
	v4, v6 string
}

// pod makes a container, and in it a server at port 80 that answers with the address of who asks.
func (n *node) pod(name string, net int) *pod {
	n.t.Helper()
	p := &pod{Pod: n.Pod(name), node: n, net: net}
	p.prev = n.Must(roletest.Call{Verb: "ADD", Role: n.main, Pod: p.Pod, Conf: n.mainConf(net)})
	var res struct {
		IPs []struct{ Address netip.Prefix }
	}
	if err := json.Unmarshal(p.prev, &res); err != nil {
		n.t.Fatal(err)
	}
	p.v4, p.v6 = res.IPs[0].Address.Addr().String(), res.IPs[1].Address.Addr().String()
	n.Server(p.NS, 80)
	return p
}

func (n *node) mainConf(net int) string {
	if n.conf != "" {
		return n.conf
	}
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net%d", "type": %q, "bridge": "br%[1]d", "isDefaultGateway": true,
		"ipam": {"type": "host-local", "dataDir": %[3]q, "ranges": [[{"subnet": "10.9.%[1]d.0/24"}], [{"subnet": "fd00:9:%[1]d::/64"}]],
		"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`, net, n.main, n.dataDir)
}

// do calls a chained role for the pod. keys are those of its configuration.
func (p *pod) do(verb, role, keys string) error {
	p.node.t.Helper()
	if keys != "" {
		keys = ", " + keys
	}
	conf := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net%d", "type": %q, "prevResult": %s%s}`, p.net, role, p.prev, keys)
	_, err := p.node.Do(roletest.Call{Verb: verb, Role: role, Pod: p.Pod, Conf: conf})
	return err
}

// admit adds the role firewall to the pod, and has CHECK agree.
func (p *pod) admit(keys string) *pod {
	p.node.t.Helper()
	for _, verb := range []string{"ADD", "CHECK"} {
		if err := p.do(verb, "firewall", keys); err != nil {
			p.node.t.Fatalf("firewall %s of %s: %v", verb, p.Name, err)
		}
	}
	return p
}

// dismiss takes it away as a runtime does that knows little: without prevResult, namespace and keys.
func (p *pod) dismiss() {
	p.node.t.Helper()
	conf := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net%d", "type": "firewall"}`, p.net)
	p.node.Must(roletest.Call{Verb: "DEL", Role: "firewall", Pod: p.Pod, Conf: conf, NoSandbox: true})
}

// wantCheck wants CHECK to find a difference that it tells with these words.
func (p *pod) wantDiffers(keys, words string) {
	p.node.t.Helper()
	err := p.do("CHECK", "firewall", keys)
	if errcode.Of(err) != errcode.Differs || !strings.Contains(err.Error(), words) {
		p.node.t.Errorf("CHECK answers %v, want code %d and %q", err, errcode.Differs, words)
	}
}

// reaches wants both addresses of a pod to answer the asker.
func (p *pod) reaches(to *pod) { p.node.t.Helper(); p.wantReach(to, true) }

// misses wants neither to.
func (p *pod) misses(to *pod) { p.node.t.Helper(); p.wantReach(to, false) }

func (p *pod) wantReach(to *pod, yes bool) {
	p.node.t.Helper()
	v4, v6 := p.v4, p.v6
	if !yes {
		v4, v6 = "", ""
	}
	p.node.WantSeen(p.NS, "tcp", to.v4+":80", v4)
	p.node.WantSeen(p.NS, "tcp", "["+to.v6+"]:80", v6)
}

// getsOut wants the machine outside to answer the pod, or not to.
func (p *pod) getsOut(yes bool) {
	p.node.t.Helper()
	v4, v6 := p.v4, p.v6
	if !yes {
		v4, v6 = "", ""
	}
	p.node.WantSeen(p.NS, "tcp", "192.0.2.100:80", v4)
	p.node.WantSeen(p.NS, "udp", "[2001:db8::100]:80", v6)
}

// fromOutside wants a pod's address to answer the machine outside, or not to.
func (p *pod) fromOutside(yes bool) {
	p.node.t.Helper()
	v4, v6 := "192.0.2.100", "2001:db8::100"
	if !yes {
		v4, v6 = "", ""
	}
	p.node.WantSeen(p.node.outside, "tcp", p.v4+":80", v4)
	p.node.WantSeen(p.node.outside, "tcp", "["+p.v6+"]:80", v6)
}

// mains runs the test with pods on bridges and with routed pods.
func mains(t *testing.T, test func(t *testing.T, n *node)) {
	for _, main := range []string{"bridge", "ptp"} {
		t.Run(main, func(t *testing.T) {
			t.Parallel()
			test(t, newNode(t, main))
		})
	}
}
