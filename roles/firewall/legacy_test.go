package firewall_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nstest"
)

// legacySaved is what legacy iptables and ip6tables save of the table filter, without comments and counters.
func (n *node) legacySaved() string {
	n.t.Helper()
	var out []string
	for _, program := range []string{"iptables-legacy-save", "ip6tables-legacy-save"} {
		for line := range strings.Lines(n.Host.Run(program, "-t", "filter")) {
			if !strings.HasPrefix(line, "#") {
				line, _, _ = strings.Cut(line, " [")
				out = append(out, strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(out, "\n")
}

// On a host of legacy iptables a pod's traffic passes if that is asked for, and nothing is left behind the last pod.
func TestLegacyIPTables(t *testing.T) {
	t.Parallel()
	mains(t, func(t *testing.T, n *node) {
		const keys = `"backend": "iptables"`
		for _, program := range []string{"iptables-legacy-restore", "ip6tables-legacy-restore"} {
			feed(t, n.Host, nstest.DockerFilter, program)
		}
		before := n.legacySaved()
		a, b := n.pod("a", 1), n.pod("b", 2)
		if err := b.do("ADD", "firewall", ""); err != nil { // which does not ask for it
			t.Fatal(err)
		}
		if after := n.legacySaved(); after != before {
			t.Errorf("changed without being asked:\n%s", after)
		}
		a.getsOut(false)
		a.admit(keys)
		a.getsOut(true)
		a.fromOutside(false)
		if strings.Count(n.legacySaved(), "-A FORWARD -m comment --comment cnibox -j CNIBOX-FORWARD") != 2 {
			t.Errorf("saved is\n%s", n.legacySaved())
		}
		if err := a.do("ADD", "portmap", `"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}`); err != nil {
			t.Fatal(err)
		}
		n.WantSeen(n.outside, "tcp", "192.0.2.1:8080", "192.0.2.100")

		// What an administrator has in his chain comes first, and stays.
		n.Host.Run("iptables-legacy", "-A", "CNI-ADMIN", "-s", a.v4, "-p", "tcp", "--dport", "80", "-j", "DROP")
		n.WantSeen(a.NS, "tcp", "192.0.2.100:80", "")
		a.admitted(keys)
		n.Host.Run("iptables-legacy", "-F", "CNI-ADMIN")

		// Another program loads its own anew.
		for _, program := range []string{"iptables-legacy-restore", "ip6tables-legacy-restore"} {
			feed(t, n.Host, nstest.DockerFilter, program)
		}
		a.wantDiffers(keys, "legacy iptables")
		a.getsOut(false)
		if done := n.sync(); len(done) != 1 {
			t.Errorf("put back: %v", done)
		}
		a.admitted(keys)
		a.getsOut(true)

		a.dismiss()
		if after := n.legacySaved(); after != before {
			t.Errorf("after the last pod:\n%s\nbefore the first:\n%s", after, before)
		}
		a.dismiss() // once more
	})
}

// An ADD that fails leaves the legacy rules as they were.
func TestLegacyIsUndone(t *testing.T) {
	t.Parallel()
	n := newNode(t, "bridge")
	n.Host.Run("iptables-legacy", "-P", "FORWARD", "DROP")
	n.Host.Run("iptables-legacy", "-A", "FORWARD", "-j", "RETURN")
	n.Host.Run("iptables-legacy", "-N", "CNI-ADMIN")
	before := n.legacySaved()
	a := n.pod("a", 1).admit("")
	if err := a.do("ADD", "firewall", `"backend": "iptables"`); errcode.Of(err) != errcode.AlreadyExists {
		t.Errorf("got %v", err)
	}
	if after := n.legacySaved(); after != before {
		t.Errorf("changed:\n%s", after)
	}
	a.admitted("")
}

// Without rules of legacy iptables the backend is nftables, whatever programs are installed.
func TestIPTablesMeansNFTablesElsewhere(t *testing.T) {
	t.Parallel()
	n := newNode(t, "bridge")
	n.iptables(iptablesDrop)
	a := n.pod("a", 1).admit(`"backend": "iptables"`)
	a.getsOut(true)
	n.wantOneRule()
	a.dismiss()
	a.getsOut(false)
}

// Many pods that come and go at once end in the rules of those that are there.
func TestLegacyConcurrently(t *testing.T) {
	t.Parallel()
	const keys = `"backend": "iptables"`
	n := newNode(t, "bridge")
	for _, program := range []string{"iptables-legacy-restore", "ip6tables-legacy-restore"} {
		feed(t, n.Host, nstest.DockerFilter, program)
	}
	before := n.legacySaved()
	var pods []*pod
	for i := range 6 {
		pods = append(pods, n.pod(string(rune('a'+i)), i+1))
	}
	all := func(verb string) {
		t.Helper()
		errs := make([]error, len(pods))
		var wg sync.WaitGroup
		for i, p := range pods {
			wg.Go(func() { errs[i] = p.do(verb, "firewall", keys) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
	}
	all("ADD")
	all("CHECK")
	// Both families.
	if saved := n.legacySaved(); strings.Count(saved, "-A CNIBOX-FORWARD -s") != 2*len(pods) || strings.Count(saved, "-A FORWARD -m comment") != 2 {
		t.Errorf("saved is\n%s", saved)
	}
	all("DEL")
	if after := n.legacySaved(); after != before {
		t.Errorf("left:\n%s", after)
	}
}
