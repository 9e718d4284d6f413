package main

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nstest"
)

// migration is a list of plugins with which a node changes over.
type migration struct {
	name    string
	needs   []string
	prepare string // on the host before
	plugins string
	keeps   bool // GC alone does not see whose the reference's rules are
	fails   bool // the reference's CHECK wants rules of its own
}

const (
	dualStack  = `"ipam": {"type": "host-local", "dataDir": "DATA", "ranges": [[{"subnet": "10.91.0.0/24"}], [{"subnet": "fd91::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}`
	plainBr0   = `{"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "ipMasqBackend": "iptables", ` + dualStack + `}`
	limits     = `{"type": "bandwidth", "ingressRate": 80000000, "ingressBurst": 8000000, "egressRate": 80000000, "egressBurst": 8000000}`
	forwardOff = "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP"
)

func migrations() []migration {
	return []migration{
		{name: "bridge, iptables", plugins: plainBr0},
		{
			name:    "bridge, nftables",
			plugins: `{"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "ipMasqBackend": "nftables", ` + dualStack + `}`,
		},
		{
			name: "bridge with all keys", keeps: true,
			plugins: `{"type": "bridge", "bridge": "br0", "isGateway": true, "hairpinMode": true, "macspoofchk": true, "mtu": 1400, ` +
				`"ipMasq": true, "ipMasqBackend": "iptables", ` + dualStack + `}`,
		},
		{name: "ptp, iptables", plugins: `{"type": "ptp", "ipMasq": true, "ipMasqBackend": "iptables", ` + dualStack + `}`},
		{name: "ptp, nftables", plugins: `{"type": "ptp", "ipMasq": true, "ipMasqBackend": "nftables", ` + dualStack + `}`},
		{
			name: "portmap, iptables", fails: true,
			plugins: plainBr0 + `, {"type": "portmap", "backend": "iptables", "capabilities": {"portMappings": true}}`,
		},
		{
			name: "portmap, nftables", keeps: true, fails: true,
			plugins: plainBr0 + `, {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}`,
		},
		{name: "firewall", prepare: forwardOff, keeps: true, fails: true, plugins: plainBr0 + `, {"type": "firewall", "backend": "iptables"}`},
		{name: "bandwidth", needs: []string{"tbf", "ifb"}, keeps: true, fails: true, plugins: plainBr0 + `, ` + limits},
		{
			name: "all in a chain", needs: []string{"tbf", "ifb"}, keeps: true, fails: true,
			plugins: plainBr0 + `, {"type": "portmap", "backend": "iptables", "capabilities": {"portMappings": true}},
				{"type": "firewall", "backend": "iptables", "ingressPolicy": "same-bridge"}, ` + limits,
		},
	}
}

// eachMigration runs a test with each list, on a node of its own.
func eachMigration(t *testing.T, test func(t *testing.T, m *migrant, c migration)) {
	t.Helper()
	t.Parallel()
	for _, c := range migrations() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nstest.Need(t, c.needs...)
			m := newMigrant(t, c.plugins)
			if c.prepare != "" {
				m.Host.Run("sh", "-c", c.prepare)
			}
			test(t, m, c)
		})
	}
}

// A node with pods of the reference plugins gets cnibox: connections stay, CHECK is content, new pods join, and DEL and GC take all away that the
// reference plugins have made.
func TestMigrationFromReference(t *testing.T) {
	eachMigration(t, func(t *testing.T, m *migrant, c migration) {
		m.use(theirs)
		kept, other, deleted, cached, lost := m.add("podkept"), m.add("podother"), m.add("poddeleted"), m.add("podcached"), m.add("podlost")
		m.wantConnected()
		m.open(other, kept)
		m.open(deleted, kept)

		m.use(ours)
		m.mustCheck(m.pods...)
		fresh := m.add("podfresh")
		m.open(fresh, kept)
		m.wantConnected()
		m.mustCheck(m.pods...)

		m.del(deleted)
		m.wantGone(deleted)
		m.forget(cached)
		m.gc()
		m.wantGone(cached)
		if !c.keeps {
			m.forget(lost)
			lost.Run("ip", "link", "delete", "eth0") // as its namespace would
			m.withoutCache(m.gc)
			m.wantGone(lost)
		}
		m.mustCheck(m.pods...)
		m.wantConnected()
		for len(m.pods) > 0 {
			p := m.pods[len(m.pods)-1]
			m.del(p)
			m.wantGone(p)
		}
		if left := podChain.FindAllString(m.lists(), -1); left != nil {
			t.Errorf("left are the chains %q", left)
		}
		m.Host.Run("sh", "-c", cleaning(t))
		if left := regexp.MustCompile(`.*(CNI-[B-Z]|cni_).*`).FindAllString(m.lists(), -1); left != nil {
			t.Errorf("left after docs/migration.md: %q", left)
		}
	})
}

// cleaning is what docs/migration.md tells an operator to do at last.
func cleaning(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```sh\n")
	commands, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/migration.md has no commands")
	}
	return commands
}

// A node goes back with pods of cnibox running: new pods of the reference plugins join, and their DEL gives addresses back. What it leaves of
// cnibox's goes with cnibox's GC.
func TestMigrationToReference(t *testing.T) {
	eachMigration(t, func(t *testing.T, m *migrant, c migration) {
		m.use(ours)
		kept, other, deleted := m.add("podkept"), m.add("podother"), m.add("poddeleted")
		m.wantConnected()
		m.open(other, kept)
		m.open(deleted, kept)

		m.use(theirs)
		if err := m.check(kept); (err != nil) != c.fails {
			t.Errorf("CHECK by the reference plugins: %v", err)
		}
		fresh := m.add("podfresh")
		m.open(fresh, kept)
		m.wantConnected()
		m.del(deleted)
		m.wantGivenBack(deleted)
		m.wantConnected()

		m.use(ours)
		m.withoutCache(m.gc)
		m.wantGone(deleted)
		m.mustCheck(m.pods...)
		m.wantConnected()
		m.use(theirs)
		for len(m.pods) > 0 {
			p := m.pods[len(m.pods)-1]
			m.del(p)
			m.wantGivenBack(p)
		}
		m.use(ours)
		m.withoutCache(m.gc)
		for _, p := range []*migrantPod{kept, other, fresh} {
			m.wantGone(p)
		}
		if left := podChain.FindAllString(m.lists(), -1); left != nil {
			t.Errorf("left are the chains %q", left)
		}
	})
}

// CHECK is content with what the reference plugins have made as long as it is there.
func TestMigrationCheckNotices(t *testing.T) {
	t.Parallel()
	const (
		masqNFT = `{"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "ipMasqBackend": "nftables", "macspoofchk": true, ` + dualStack + `}`
		routed  = `{"type": "ptp", ` + dualStack + `}`
	)
	for _, c := range []struct{ plugins, damage string }{
		{plainBr0, "iptables -t nat -F POSTROUTING"},
		{plainBr0, "ip6tables -t nat -F POSTROUTING"},
		{plainBr0, "ip link set LINK nomaster"},
		{plainBr0, "ip link set LINK down"},
		{masqNFT, "nft flush chain inet cni_plugins_masquerade masq_checks"},
		{masqNFT, "nft flush chain bridge nat PREROUTING"},
		{routed, "ip route flush dev LINK"},
		{routed, "ip -6 address flush dev LINK"},
		{plainBr0 + `, {"type": "portmap", "backend": "iptables", "capabilities": {"portMappings": true}}`, "iptables -t nat -F CNI-HOSTPORT-DNAT"},
		{plainBr0 + `, {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}`, "nft flush chain ip6 cni_hostport hostports"},
		{plainBr0 + `, {"type": "firewall", "backend": "iptables"}`, "ip6tables -F CNI-FORWARD"},
		{plainBr0 + `, ` + limits, "tc qdisc del dev LINK root"},
		{plainBr0 + `, ` + limits, "tc qdisc del dev LINK ingress"},
	} {
		t.Run(c.damage, func(t *testing.T) {
			t.Parallel()
			nstest.Need(t, "tbf", "ifb")
			m := newMigrant(t, c.plugins)
			m.use(theirs)
			p := m.add("pod")
			m.use(ours)
			m.mustCheck(p)
			m.Host.Run("sh", "-c", strings.ReplaceAll(c.damage, "LINK", p.links[0]))
			err := m.check(p)
			var e *types.Error
			if !errors.As(err, &e) || e.Code != errcode.Differs {
				t.Errorf("CHECK: %v", err)
			}
		})
	}
}

// A runtime that knows less than at ADD has DEL take away what can be found: of the interface all, without it what bears the container's name.
func TestMigrationDelWithoutResult(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"iptables", "nftables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			const list = `{"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "ipMasqBackend": "BACKEND", ` + dualStack + `},
				{"type": "portmap", "backend": "BACKEND", "capabilities": {"portMappings": true}}`
			m := newMigrant(t, strings.ReplaceAll(list, "BACKEND", backend)+`, {"type": "firewall", "backend": "iptables"}`)
			m.use(theirs)
			seen, gone := m.add("podseen"), m.add("podgone")
			m.use(ours)
			m.withoutCache(func() { m.del(seen) })
			m.wantGone(seen)
			m.Host.Run("sh", "-c", "iptables -F CNI-FORWARD; ip6tables -F CNI-FORWARD") // whose rules only addresses tell
			gone.Run("ip", "link", "delete", "eth0")
			gone.netNS = ""
			m.withoutCache(func() { m.del(gone) })
			m.wantGone(gone)
		})
	}
}

// Two interfaces of a container have rules with the same comments: DEL of one leaves the other's.
func TestMigrationOfTwoInterfaces(t *testing.T) {
	t.Parallel()
	const (
		one  = `{"type": "ptp", "ipMasq": true, "ipMasqBackend": "iptables", ` + dualStack + `}, {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}`
		more = `{"type": "ptp", "ipMasq": true, "ipMasqBackend": "iptables", "ipam": {"type": "host-local", "dataDir": "DATA",
			"ranges": [[{"subnet": "10.92.0.0/24"}], [{"subnet": "fd92::/64"}]]}}, {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}`
	)
	m := newMigrant(t, one)
	m.use(theirs)
	p := m.add("pod")
	second := *m
	second.ifName, second.pods = "eth1", nil
	second.setList("othernet", more)
	q := *p
	q.number += 50 // other host ports
	second.attach(&q)
	m.use(ours)
	second.mustCheck(&q)
	second.del(&q)
	m.mustCheck(p)
	m.wantConnected()
	m.del(p)
	m.wantGone(p)
}
