package main

import (
	"testing"

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
		m.gc(false)
		m.wantGone(cached)
		if !c.keeps {
			m.forget(lost)
			lost.Run("ip", "link", "delete", "eth0") // as its namespace would
			m.gc(true)
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
	})
}
