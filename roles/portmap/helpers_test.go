package portmap_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/bridge"
	"github.com/cnibox/cnibox/roles/portmap"
	"github.com/cnibox/cnibox/roles/ptp"
	"github.com/cnibox/cnibox/roles/roletest"
)

// node is a host with pods, and a machine outside that reaches them through the host. Addresses:
//
//	outside    192.0.2.100  2001:db8::100
//	host       192.0.2.1    2001:db8::1    and 192.0.2.2
//	gateway    10.9.0.1     fd00:9::1      of the pods, on the host
//	first pod  10.9.0.2     fd00:9::2      and so on
type node struct {
	*roletest.Node
	t       *testing.T
	outside *nstest.NS
	main    string // the plugin that makes the pods' interfaces
	dataDir string
}

func newNode(t *testing.T, main string) *node {
	t.Helper()
	table := roles.Table{"bridge": bridge.New(), "host-local": hostlocal.New(), "portmap": portmap.New(), "ptp": ptp.New()}
	n := &node{Node: roletest.NewNode(t, table), t: t, main: main, dataDir: t.TempDir()}
	n.Host.Run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0") // the gateway's link is usable at once
	n.outside = n.Outside()
	n.Host.Run("ip", "addr", "add", "192.0.2.2/24", "dev", "uplink")
	n.outside.Run("ip", "route", "add", "10.9.0.0/16", "via", "192.0.2.1")
	n.outside.Run("ip", "route", "add", "fd00:9::/64", "via", "2001:db8::1")
	return n
}

// filterBridged has bridged frames pass the packet filter (1) or not (0); the setting is the namespace's own.
func (n *node) filterBridged(value string) {
	n.t.Helper()
	for _, key := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		n.Host.Run("sysctl", "-qw", "net.bridge."+key+"="+value)
	}
}

// tables are what the packet filter holds, as nft(8) lists it, without counters.
func (n *node) tables() string {
	n.t.Helper()
	return n.Host.Run("nft", "-s", "list", "ruleset")
}

// pod is a container with one or several interfaces.
type pod struct {
	*roletest.Pod
	node *node
	prev map[string]json.RawMessage // what the main plugin answered, by interface
	gone bool                       // the runtime no longer knows the namespace
}

// pod makes a container with the interface eth0, without port mappings, and a server at port 80 that answers "<name> saw <address>".
func (n *node) pod(name string) *pod {
	n.t.Helper()
	p := &pod{Pod: n.Pod(name), node: n, prev: map[string]json.RawMessage{}}
	p.join("eth0")
	n.NamedServer(name+" saw ", p.NS, 80)
	return p
}

// join adds an interface to the container.
func (p *pod) join(ifName string) {
	p.node.t.Helper()
	conf := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net", "type": %q, "bridge": "br0", "isDefaultGateway": true, "ipMasq": true,
		"ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.9.0.0/16"}], [{"subnet": "fd00:9::/64"}]],
		"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`, p.node.main, p.node.dataDir)
	p.prev[ifName] = p.node.Must(roletest.Call{Verb: "ADD", Role: p.node.main, Pod: p.Pod, IfName: ifName, Conf: conf})
}

// portmap calls the role for an interface. keys is a JSON object of its keys; prevResult need not be among them.
func (p *pod) portmap(verb, ifName, keys string) error {
	p.node.t.Helper()
	conf := map[string]any{"cniVersion": "1.1.0", "name": "net", "type": "portmap", "prevResult": p.prev[ifName]}
	own := map[string]any{}
	if err := json.Unmarshal([]byte(keys), &own); err != nil {
		p.node.t.Fatalf("%s: %v", keys, err)
	}
	maps.Copy(conf, own)
	raw, err := json.Marshal(conf)
	if err != nil {
		p.node.t.Fatal(err)
	}
	_, err = p.node.Do(roletest.Call{Verb: verb, Role: "portmap", Pod: p.Pod, IfName: ifName, Conf: string(raw), NoSandbox: p.gone})
	return err
}

// expose maps ports of the host to the container, and has CHECK agree.
func (p *pod) expose(keys string) {
	p.node.t.Helper()
	for _, verb := range []string{"ADD", "CHECK"} {
		if err := p.portmap(verb, "eth0", keys); err != nil {
			p.node.t.Fatalf("portmap %s of %s: %v", verb, p.Name, err)
		}
	}
}

// unexpose takes them away again.
func (p *pod) unexpose(keys string) {
	p.node.t.Helper()
	if err := p.portmap("DEL", "eth0", keys); err != nil {
		p.node.t.Fatalf("portmap DEL of %s: %v", p.Name, err)
	}
}

// mapping are the role's keys: these port mappings, and others.
func mapping(list string, keys ...string) string {
	return `{` + strings.Join(append(keys, `"runtimeConfig": {"portMappings": [`+list+`]}`), ", ") + `}`
}

const (
	busy    = errcode.PortBusy
	differs = errcode.Differs
	invalid = errcode.InvalidConfig
)
