package firewall_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// iptablesDrop is what administrators have who forward nothing by default.
const iptablesDrop = `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
`

// rejectLast is what Red Hat's hosts had: the policy accepts, and the last rule does not.
const rejectLast = `*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -m comment --comment "nothing else" -j REJECT
COMMIT
`

// nftables is a table of an administrator's own.
const nftables = `table inet filter {
	chain forward {
		type filter hook forward priority filter; policy drop;
		tcp dport 22 accept
	}
}
`

// feed runs a program on the host with that on its standard input.
func feed(t *testing.T, ns *nstest.NS, input, name string, args ...string) {
	t.Helper()
	err := ns.Do(func() error {
		c := exec.Command(name, args...)
		c.Stdin = strings.NewReader(input)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("%s", out)
		}
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// iptables has the rules read by iptables and by ip6tables.
func (n *node) iptables(rules string) {
	n.t.Helper()
	for _, program := range []string{"iptables-nft-restore", "ip6tables-nft-restore"} {
		feed(n.t, n.Host, rules, program)
	}
}

// saved is what iptables and ip6tables save, without comments and counters.
func (n *node) saved() string {
	n.t.Helper()
	var out []string
	for _, program := range []string{"iptables-nft-save", "ip6tables-nft-save"} {
		for line := range strings.Lines(n.Host.Run(program)) {
			if strings.Contains(line, "incompatible") {
				n.t.Errorf("%s: %s", program, line)
			}
			if !strings.HasPrefix(line, "#") {
				line, _, _ = strings.Cut(line, " [")
				out = append(out, strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(out, "\n")
}

// Where another program drops what is forwarded, a pod's traffic passes, no other does, the program's own tools read all of it, and nothing
// is left behind the last pod.
func TestBesideOtherPrograms(t *testing.T) {
	t.Parallel()
	for name, setUp := range map[string]func(*node){
		"iptables with FORWARD DROP":  func(n *node) { n.iptables(iptablesDrop) },
		"Docker":                      func(n *node) { n.iptables(nstest.DockerFilter) },
		"iptables with a last REJECT": func(n *node) { n.iptables(rejectLast) },
		"nftables":                    func(n *node) { feed(n.t, n.Host, nftables, "nft", "-f", "-") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mains(t, func(t *testing.T, n *node) {
				setUp(n)
				before, rules := n.saved(), n.foreignRules()
				a, b := n.pod("a", 1), n.pod("b", 1)
				a.getsOut(false)
				a.admit("")
				a.getsOut(true)
				a.fromOutside(false)
				b.admit("")
				if n.main == "ptp" {
					a.reaches(b)
				}
				other := n.pod("other", 2).admit("")
				a.reaches(other)
				n.wantOneRule()

				// A port of the host is open, as it was asked for.
				ports := `"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}`
				if err := a.do("ADD", "portmap", ports); err != nil {
					t.Fatal(err)
				}
				n.WantSeen(n.outside, "tcp", "192.0.2.1:8080", "192.0.2.100")
				n.WantSeen(n.outside, "tcp", "[2001:db8::1]:8080", "2001:db8::100")

				n.wantReadByIPTables(a)

				for _, p := range []*pod{other, a, b} {
					p.dismiss()
				}
				if after := n.saved(); after != before {
					t.Errorf("after the last pod:\n%s\nbefore the first:\n%s", after, before)
				}
				if after := n.foreignRules(); after != rules {
					t.Errorf("after the last pod:\n%s\nbefore the first:\n%s", after, rules)
				}
				b.getsOut(false)
			})
		})
	}
}

// foreignRules are all tables but ours.
func (n *node) foreignRules() string {
	n.t.Helper()
	var out []string
	skip := false
	for line := range strings.Lines(n.Host.Run("nft", "-s", "list", "ruleset")) {
		if strings.HasPrefix(line, "table ") {
			skip = strings.Contains(line, " cnibox ")
		}
		if !skip && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// wantOneRule wants each chain of another program's to have one rule of ours at most.
func (n *node) wantOneRule() {
	n.t.Helper()
	for table := range strings.SplitSeq(n.foreignRules(), "table ") {
		if got := strings.Count(table, "jump CNIBOX-FORWARD"); table != "" && got != 1 {
			n.t.Errorf("%d rules lead to our chain:\n%s", got, table)
		}
	}
}

// wantReadByIPTables wants iptables to list and save what is there, and all to work the same after it has restored that.
func (n *node) wantReadByIPTables(p *pod) {
	n.t.Helper()
	before := n.saved()
	if !strings.Contains(before, "filter") {
		return // it has no part in it
	}
	for _, want := range []string{
		"-j CNIBOX-FORWARD", "-s 10.9.1.0/24", "-d 10.9.1.0/24", "-s fd00:9:1::/64", "-m conntrack --ctstate RELATED,ESTABLISHED,DNAT", "-j CNI-ADMIN",
	} {
		if !strings.Contains(before, want) {
			n.t.Errorf("saved is no %q:\n%s", want, before)
		}
	}
	for _, program := range []string{"iptables-nft", "ip6tables-nft"} {
		if list := n.Host.Run(program, "-nL"); !strings.Contains(list, "cnibox 10.9.1.0/24") && !strings.Contains(list, "cnibox fd00:9:1::/64") {
			n.t.Errorf("%s -L prints\n%s", program, list)
		}
		feed(n.t, n.Host, n.Host.Run(program+"-save"), program+"-restore")
	}
	if after := n.saved(); after != before {
		n.t.Errorf("after iptables-restore:\n%s\nbefore:\n%s", after, before)
	}
	p.admitted("")
	p.getsOut(true)
}

// admitted wants CHECK to be content.
func (p *pod) admitted(keys string) {
	p.node.t.Helper()
	if err := p.do("CHECK", "firewall", keys); err != nil {
		p.node.t.Errorf("CHECK: %v", err)
	}
}

// A table that only its owner may change is an error that says what to do, and keeps nothing from being deleted.
func TestOwnedTable(t *testing.T) {
	t.Parallel()
	n := newNode(t, "bridge")
	a, b := n.pod("a", 1).admit(""), n.pod("b", 2).admit("")
	own := exec.Command("nft", "-i")
	in, err := own.StdinPipe()
	if err == nil {
		err = n.Host.Do(own.Start)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = in.Close(), own.Wait() })
	const table = "table inet firewalld { flags owner; chain f { type filter hook forward priority 10; policy drop; }; }\n"
	if _, err := in.Write([]byte(table)); err != nil {
		t.Fatal(err)
	}
	n.await("the table", func() bool { return strings.Contains(n.Host.Run("nft", "list", "tables"), "firewalld") })

	c := n.pod("c", 1)
	if err := c.do("ADD", "firewall", ""); err == nil || !strings.Contains(err.Error(), `"backend": "firewalld"`) {
		t.Errorf("got %v", err)
	}
	a.wantFails("owner")
	a.dismiss()
	b.dismiss()
	if rules := n.Host.Run("nft", "list", "table", "inet", "cnibox"); strings.Contains(rules, "elements") {
		t.Errorf("left:\n%s", rules)
	}
}

// wantFails wants CHECK to say that.
func (p *pod) wantFails(words string) {
	p.node.t.Helper()
	if err := p.do("CHECK", "firewall", ""); err == nil || !strings.Contains(err.Error(), words) {
		p.node.t.Errorf("CHECK answers %v, want %q", err, words)
	}
}

// A chain that an administrator has led to from elsewhere cannot be taken away. The pod can.
func TestChainThatIsInUse(t *testing.T) {
	t.Parallel()
	n := newNode(t, "bridge")
	n.iptables(nstest.DockerFilter)
	a := n.pod("a", 1).admit("")
	n.Host.Run("iptables-nft", "-I", "DOCKER-USER", "-j", "CNIBOX-FORWARD")
	a.dismiss()
	if rules := n.Host.Run("nft", "list", "table", "inet", "cnibox"); strings.Contains(rules, "elements") {
		t.Errorf("left:\n%s", rules)
	}
	n.Host.Run("iptables-nft", "-D", "DOCKER-USER", "-j", "CNIBOX-FORWARD")
	n.pod("b", 1).admit("").dismiss() // and all is well again
	if saved := n.saved(); strings.Contains(saved, "CNIBOX") {
		t.Errorf("left:\n%s", saved)
	}
}
