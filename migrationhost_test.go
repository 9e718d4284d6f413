package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles/roletest"
	"github.com/cnibox/cnibox/scripts/reference"
	"github.com/cnibox/cnibox/scripts/traffic"
)

// referenceFarm is a folder with the reference plugins, built once for all tests. TestMain removes it.
var referenceFarm = sync.OnceValues(func() (string, error) {
	if _, err := buildOnce(); err != nil {
		return "", err
	}
	dir := filepath.Join(buildDir, "reference")
	return dir, reference.Build(dir)
})

// The two farms that a node changes over between.
const (
	ours   = "cnibox"
	theirs = "reference"
)

// migrant is a node whose plugins are exchanged while pods run, and a runtime that keeps its cache. The world outside knows no route to any pod.
type migrant struct {
	*roletest.Node
	t       *testing.T
	outside *nstest.NS
	data    string // host-local's
	farm    string // CNI_PATH, with the reference plugins to begin with
	cni     *libcni.CNIConfig
	list    *libcni.NetworkConfigList
	ports   bool   // pods have host ports
	ifName  string // of pods
	pods    []*migrantPod
	made    int // pods so far
}

// migrantPod is a pod with its open connections.
type migrantPod struct {
	*nstest.NS
	id     string // what it is called here
	netNS  string // CNI_NETNS
	number int    // of which its host ports are made
	addrs  []netip.Addr
	links  []string // of the host
	flows  []*flow
}

// newMigrant makes the node for a list, in which DATA stands for the folder of addresses.
func newMigrant(t *testing.T, plugins string) *migrant {
	t.Helper()
	node := roletest.NewNode(t, roleTable())
	m := &migrant{Node: node, t: t, outside: node.Outside(), data: t.TempDir(), farm: t.TempDir(), ifName: "eth0"}
	m.NamedServer("outside saw ", m.outside, 80)
	m.cni = m.newCNI()
	dir, err := referenceFarm()
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range names {
		symlink(t, filepath.Join(dir, p.Name()), filepath.Join(m.farm, p.Name()))
	}
	m.setList("network-of-pods", plugins)
	return m
}

// newCNI is a runtime with an empty cache. What plugins complain of on stderr is not shown: the reference's DEL misses rules that cnibox made as elements.
func (m *migrant) newCNI() *libcni.CNIConfig {
	m.t.Helper()
	quiet := &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: io.Discard}}
	return libcni.NewCNIConfigWithCacheDir([]string{m.farm}, m.t.TempDir(), quiet)
}

// setList makes these the plugins of the network that pods are attached to.
func (m *migrant) setList(network, plugins string) {
	m.t.Helper()
	text := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %q, "plugins": [%s]}`, network, strings.ReplaceAll(plugins, "DATA", m.data))
	list, err := libcni.NetworkConfFromBytes([]byte(text))
	if err != nil {
		m.t.Fatal(err)
	}
	m.list, m.ports = list, strings.Contains(plugins, "portMappings")
}

// use exchanges the plugins, as docs/migration.md tells.
func (m *migrant) use(farm string) {
	m.t.Helper()
	executable, err := buildOnce()
	if err != nil {
		m.t.Fatal(err)
	}
	args := []string{"install", "--force", "--dir", m.farm}
	if farm == theirs {
		args = []string{"uninstall", "--dir", m.farm}
	}
	if out, err := exec.Command(executable, args...).CombinedOutput(); err != nil {
		m.t.Fatalf("cnibox %s: %v\n%s", args[0], err, out)
	}
}

// containerID is as long as those of runtimes, so that comments in the packet filter have no room for all of it.
func (p *migrantPod) containerID() string { return p.id + strings.Repeat("0", 64-len(p.id)) }

// Ports of a pod. The host's begin with its number.
const (
	namedPort = 80 // of a NamedServer
	flowPort  = 7
)

func (p *migrantPod) hostPort(port int) int { return 10000 + 100*p.number + port }

func (m *migrant) runtime(p *migrantPod) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{ContainerID: p.containerID(), NetNS: p.netNS, IfName: m.ifName, CapabilityArgs: map[string]any{}}
	if m.ports {
		var list []map[string]any
		for _, port := range []int{namedPort, flowPort} {
			list = append(list, map[string]any{"hostPort": p.hostPort(port), "containerPort": port, "protocol": "tcp"})
		}
		rt.CapabilityArgs["portMappings"] = list
	}
	return rt
}

// add attaches a new pod. Nobody has its addresses.
func (m *migrant) add(id string) *migrantPod {
	m.t.Helper()
	m.made++
	p := &migrantPod{NS: nstest.New(m.t, id), id: id, number: m.made}
	p.netNS = p.Path
	m.attach(p)
	m.pods = append(m.pods, p)
	m.NamedServer(id+" saw ", p.NS, namedPort)
	m.wantFlowing("ADD of " + id)
	return p
}

// attach attaches a pod.
func (m *migrant) attach(p *migrantPod) {
	m.t.Helper()
	var got types.Result
	err := m.Host.Do(func() (err error) {
		got, err = m.cni.AddNetworkList(context.Background(), m.list, m.runtime(p))
		return err
	})
	if err != nil {
		m.t.Fatalf("ADD of %s: %v", p.id, err)
	}
	res, err := types100.GetResult(got)
	if err != nil {
		m.t.Fatal(err)
	}
	p.addrs, p.links = nil, nil
	for _, ip := range res.IPs {
		a, _ := netip.AddrFromSlice(ip.Address.IP)
		p.addrs = append(p.addrs, a.Unmap())
	}
	for _, i := range res.Interfaces {
		if i.Sandbox == "" && i.Name != "br0" {
			p.links = append(p.links, i.Name)
		}
	}
	for _, other := range m.pods {
		if slices.ContainsFunc(p.addrs, func(a netip.Addr) bool { return slices.Contains(other.addrs, a) }) {
			m.t.Errorf("%s has the addresses %v, and %s %v", p.id, p.addrs, other.id, other.addrs)
		}
	}
	if len(p.addrs) != 2 {
		m.t.Fatalf("%s has the addresses %v", p.id, p.addrs)
	}
}

// check is CHECK of a pod.
func (m *migrant) check(p *migrantPod) error {
	m.t.Helper()
	err := m.Host.Do(func() error { return m.cni.CheckNetworkList(context.Background(), m.list, m.runtime(p)) })
	m.wantFlowing("CHECK of " + p.id)
	return err
}

func (m *migrant) mustCheck(pods ...*migrantPod) {
	m.t.Helper()
	for _, p := range pods {
		if err := m.check(p); err != nil {
			m.t.Errorf("CHECK of %s: %v", p.id, err)
		}
	}
}

// del detaches a pod, whose connections end before.
func (m *migrant) del(p *migrantPod) {
	m.t.Helper()
	m.forget(p)
	if err := m.Host.Do(func() error { return m.cni.DelNetworkList(context.Background(), m.list, m.runtime(p)) }); err != nil {
		m.t.Errorf("DEL of %s: %v", p.id, err)
	}
	m.wantFlowing("DEL of " + p.id)
}

func (m *migrant) forget(p *migrantPod) {
	for _, f := range p.flows {
		f.end()
	}
	p.flows = nil
	m.pods = slices.DeleteFunc(m.pods, func(other *migrantPod) bool { return other == p })
}

// gc has the runtime collect all but the pods that are there. Of those that it has in its cache it calls DEL before.
func (m *migrant) gc() {
	m.t.Helper()
	args := &libcni.GCArgs{}
	for _, p := range m.pods {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: p.containerID(), IfName: m.ifName})
	}
	list := *m.list // whose GC came with this version
	list.CNIVersion = "1.1.0"
	if err := m.Host.Do(func() error { return m.cni.GCNetworkList(context.Background(), &list, args) }); err != nil {
		m.t.Errorf("GC: %v", err)
	}
	m.wantFlowing("GC")
}

// withoutCache does something while the runtime has lost its cache: it knows of no result.
func (m *migrant) withoutCache(do func()) {
	m.t.Helper()
	cni := m.cni
	m.cni = m.newCNI()
	do()
	m.cni = cni
}

// wantGivenBack fails the test if an address of the pod is reserved.
func (m *migrant) wantGivenBack(p *migrantPod) {
	m.t.Helper()
	for _, a := range p.addrs {
		if _, err := os.Stat(filepath.Join(m.data, m.list.Name, a.String())); err == nil {
			m.t.Errorf("%s still has the address %s", p.id, a)
		}
	}
}

// flow is a TCP connection over which bytes go there and back all the time.
type flow struct {
	name  string
	pair  *traffic.Pair
	bytes atomic.Int64
	ended atomic.Bool
	done  chan struct{}
	err   error // once it is done
}

// connect opens a connection that ends before the pod goes.
func (m *migrant) connect(p *migrantPod, name string, from, to *nstest.NS, at netip.AddrPort, by string) {
	m.t.Helper()
	pair, err := traffic.ConnectBy(from.Path, to.Path, at, by)
	if err != nil {
		m.t.Fatalf("%s: %v", name, err)
	}
	f := &flow{name: name, pair: pair, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		f.err = pair.PingPong(func(time.Duration) bool {
			f.bytes.Add(1)
			time.Sleep(time.Millisecond)
			return !f.ended.Load()
		})
	}()
	p.flows = append(p.flows, f)
	m.t.Cleanup(func() {
		f.end()
		if f.err != nil {
			m.t.Errorf("the connection %s: %v", name, f.err)
		}
		_ = pair.Close()
	})
}

func (f *flow) end() {
	f.ended.Store(true)
	<-f.done
}

// wantFlowing fails the test unless all open connections go on.
func (m *migrant) wantFlowing(after string) {
	m.t.Helper()
	for _, p := range m.pods {
		for _, f := range p.flows {
			before := f.bytes.Load()
			for end := time.Now().Add(traffic.Patience); f.bytes.Load() < before+5; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					m.t.Fatalf("after %s: the connection %s has stopped after %d bytes", after, f.name, f.bytes.Load())
				}
			}
		}
	}
}

// Addresses outside, and the host's there (roletest.Node.Outside).
func outsideAddr(like netip.Addr) (outside, host netip.Addr) {
	if like.Is6() {
		return netip.MustParseAddr("2001:db8::100"), netip.MustParseAddr("2001:db8::1")
	}
	return netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("192.0.2.1")
}

// open opens all kinds of connections that the pod can have: to another, to the world, and from there.
func (m *migrant) open(p, other *migrantPod) {
	m.t.Helper()
	for i, a := range p.addrs {
		world, host := outsideAddr(a)
		m.connect(p, fmt.Sprint(p.id, " to ", other.id, " ", other.addrs[i]), p.NS, other.NS, netip.AddrPortFrom(other.addrs[i], 0), "")
		m.connect(p, fmt.Sprint(p.id, " to the world ", world), p.NS, m.outside, netip.AddrPortFrom(world, 0), "")
		if m.ports {
			by := netip.AddrPortFrom(host, uint16(p.hostPort(flowPort))).String()
			m.connect(p, "the world to "+p.id+" by "+by, m.outside, p.NS, netip.AddrPortFrom(a, flowPort), by)
		}
	}
}

// wantConnected fails the test unless new connections of the pods reach each other, the world as the host, and the world them by their host ports.
func (m *migrant) wantConnected() {
	m.t.Helper()
	for _, p := range m.pods {
		for i, a := range p.addrs {
			world, host := outsideAddr(a)
			for _, other := range m.pods {
				if other != p {
					m.WantSeen(p.NS, "tcp", netip.AddrPortFrom(other.addrs[i], namedPort).String(), other.id+" saw "+a.String())
				}
			}
			m.WantSeen(p.NS, "tcp", netip.AddrPortFrom(world, namedPort).String(), "outside saw "+host.String())
			if m.ports {
				m.WantSeen(m.outside, "tcp", netip.AddrPortFrom(host, uint16(p.hostPort(namedPort))).String(), p.id+" saw "+world.String())
			}
		}
	}
}

// lists are what an operator sees of pods on the host.
func (m *migrant) lists() string {
	m.t.Helper()
	var out []string
	for _, command := range []string{"nft list ruleset 2>&1", "iptables-save 2>&1", "ip6tables-save 2>&1", "ip -d link", "tc qdisc", "ip route", "ip -6 route"} {
		out = append(out, "# "+command, m.Host.Run("sh", "-c", command))
	}
	return strings.Join(append(out, slices.Concat(fileState(m.t, m.data), fileState(m.t, m.Host.RunDir))...), "\n")
}

// wantGone fails the test if anything of a pod can be seen on the host.
func (m *migrant) wantGone(p *migrantPod) {
	m.t.Helper()
	words := append([]string{p.id + "0*"}, p.links...)
	if m.ports {
		words = append(words, fmt.Sprint(p.hostPort(namedPort)), fmt.Sprint(p.hostPort(flowPort)))
	}
	for _, a := range p.addrs {
		words = append(words, regexp.QuoteMeta(a.String()))
	}
	word := regexp.MustCompile(`(^|[^\w.:])(` + strings.Join(words, "|") + `)($|[^\w.:]|:\d+$)`)
	for line := range strings.Lines(counters.ReplaceAllString(m.lists(), "")) {
		if word.MatchString(line) {
			m.t.Errorf("of %s there is left: %s", p.id, strings.TrimSpace(line))
		}
	}
}

// podChain is a chain of iptables that the reference plugins make for one pod, or as nft(8) lists it.
var podChain = regexp.MustCompile(`CNI-(DN-|SN-)?[0-9a-f]{16,}|cni-br-iface-`)
