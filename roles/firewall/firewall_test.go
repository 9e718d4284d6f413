package firewall_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles/roletest"
)

// CHECK notices whatever is gone.
func TestCheckFindsWhatDiffers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil []string
		words string
	}{
		"element":            {[]string{"nft", "delete element inet cnibox pods_ipv4-10.9.1.0/24-br1 { 10.9.1.2 }"}, "10.9.1.2"},
		"policy":             {[]string{"nft", "delete element inet cnibox guarded_ipv6 { fd00:9:1::2 }"}, "fd00:9:1::2"},
		"group's rule":       {[]string{"nft", "flush chain inet cnibox from_pods"}, "from_pods"},
		"static rule":        {[]string{"nft", "flush chain inet cnibox forward"}, "chains of table"},
		"admin chain's rule": {[]string{"nft", "flush chain inet cnibox admin"}, "admin"},
		"iptables' rule":     {[]string{"iptables-nft", "-F", "FORWARD"}, "drops what is forwarded"},
		"rules behind it":    {[]string{"ip6tables-nft", "-F", "CNIBOX-FORWARD"}, "drops what is forwarded"},
		"table of iptables":  {[]string{"sh", "-c", "nft delete table ip filter; iptables-nft -P FORWARD DROP"}, "drops what is forwarded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, "bridge")
			n.iptables(iptablesDrop)
			a := n.pod("a", 1).admit(sameBridge)
			n.Host.Run(c.spoil[0], c.spoil[1:]...)
			a.wantDiffers(sameBridge, c.words)
			n.pod("b", 2).admit(sameBridge) // mends what is shared
			a.dismiss()
		})
	}
}

// The next pod brings back what another program has thrown out of its tables.
func TestNextPodBringsRulesBack(t *testing.T) {
	t.Parallel()
	n := newNode(t, "bridge")
	a := n.pod("a", 1).admit("")
	n.iptables(iptablesDrop) // it came later
	a.getsOut(false)
	a.wantDiffers("", "drops what is forwarded")
	n.pod("b", 2).admit("")
	a.admitted("")
	a.getsOut(true)
}

// An administrator's rules come before ours, in our table and in that of iptables, and stay when the pods are gone.
func TestAdminChain(t *testing.T) {
	t.Parallel()
	n := newNode(t, "bridge")
	n.iptables(iptablesDrop)
	a := n.pod("a", 1).admit("")
	n.Host.Run("nft", "add rule inet cnibox CNI-ADMIN ip saddr 10.9.1.2 tcp dport 80 drop")
	n.WantSeen(a.NS, "tcp", "192.0.2.100:80", "")
	n.WantSeen(a.NS, "udp", "192.0.2.100:80", "10.9.1.2")
	n.Host.Run("nft", "flush chain inet cnibox CNI-ADMIN")
	n.Host.Run("iptables-nft", "-A", "CNI-ADMIN", "-d", "10.9.1.0/24", "-p", "tcp", "--dport", "80", "-j", "ACCEPT")
	n.WantSeen(n.outside, "tcp", "10.9.1.2:80", "192.0.2.100") // which FORWARD would drop
	n.WantSeen(n.outside, "udp", "10.9.1.2:80", "")
	a.admitted("")

	const other = `"iptablesAdminChainName": "my-rules"`
	b := n.pod("b", 1).admit(other)
	n.Host.Run("iptables-nft", "-A", "my-rules", "-s", b.v4, "-j", "DROP")
	n.WantSeen(b.NS, "tcp", "192.0.2.100:80", "")

	a.dismiss()
	b.dismiss()
	saved := n.saved()
	for _, want := range []string{"-A CNI-ADMIN -d 10.9.1.0/24", "-A my-rules"} {
		if !strings.Contains(saved, want) {
			t.Errorf("an administrator's rule is gone; saved is\n%s", saved)
		}
	}
	for _, gone := range []string{"CNIBOX-FORWARD", "-j CNI-ADMIN"} {
		if strings.Contains(saved, gone) {
			t.Errorf("%s is left:\n%s", gone, saved)
		}
	}
	if rules := n.Host.Run("nft", "list", "table", "inet", "cnibox"); strings.Contains(rules, "CNI-ADMIN") || strings.Contains(rules, "my-rules") {
		t.Errorf("an empty chain is left:\n%s", rules)
	}
}

// The reference deletes nothing without prevResult, and has no GC.
func TestRulesLeftWithoutPrevResult(t *testing.T) {
	t.Parallel()
	n := newNode(t, "bridge")
	n.iptables(iptablesDrop)
	before := n.saved()
	n.pod("a", 1).admit(sameBridge).dismiss()
	gone := n.pod("gone", 1).admit("")
	gone.Remove()
	gone.dismiss()
	n.pod("b", 1).admit(sameBridge)
	n.Must(roletest.Call{Verb: "GC", Role: "firewall", Conf: `{"cniVersion": "1.1.0", "name": "net1", "type": "firewall", "cni.dev/valid-attachments": []}`})
	if after := n.saved(); after != before {
		t.Errorf("left:\n%s", after)
	}
	if rules := n.Host.Run("nft", "list", "ruleset"); strings.Contains(rules, "elements") {
		t.Errorf("left:\n%s", rules)
	}
}

// GC keeps the valid ones.
func TestGCKeepsTheValid(t *testing.T) {
	t.Parallel()
	n := newNode(t, "bridge")
	n.iptables(iptablesDrop)
	a, b := n.pod("a", 1).admit(""), n.pod("b", 1).admit("")
	n.Must(roletest.Call{Verb: "GC", Role: "firewall", Conf: `{"cniVersion": "1.1.0", "name": "net1", "type": "firewall",
		"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]}`})
	a.admitted("")
	b.wantDiffers("", "10.9.1.3")
}

// What cannot be is refused by the name of its key, and nothing is changed.
func TestBadInput(t *testing.T) {
	t.Parallel()
	n := newNode(t, "bridge")
	a := n.pod("a", 1)
	before := n.Host.Run("nft", "list", "ruleset")
	for keys, want := range map[string]string{
		`"backend": "ipfw"`:                                 "backend: ",
		`"backend": 1`:                                      "backend: ",
		`"ingressPolicy": "closed"`:                         "ingressPolicy: ",
		`"ingressPolicy": true`:                             "ingressPolicy: ",
		`"firewalldZone": "my zone"`:                        "firewalldZone: ",
		`"firewalldZone": []`:                               "firewalldZone: ",
		`"iptablesAdminChainName": "FORWARD"`:               "iptablesAdminChainName: ",
		`"iptablesAdminChainName": "from_pods"`:             "iptablesAdminChainName: ",
		`"iptablesAdminChainName": "a b"`:                   "iptablesAdminChainName: ",
		`"iptablesAdminChainName": "-j"`:                    "iptablesAdminChainName: ",
		`"iptablesAdminChainName": {}`:                      "iptablesAdminChainName: ",
		fmt.Sprintf(`"iptablesAdminChainName": "%029d"`, 1): "iptablesAdminChainName: ",
		`"prevResult": null`:                                "prevResult: ",
		`"prevResult": {"interfaces": [{"name": "net0", "sandbox": "/x"}], "ips": []}`: "prevResult: ",
	} {
		err := a.do("ADD", "firewall", keys)
		if errcode.Of(err) != errcode.InvalidConfig || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v (code %d), want code %d and %q", keys, err, errcode.Of(err), errcode.InvalidConfig, want)
		}
	}
	if after := n.Host.Run("nft", "list", "ruleset"); after != before {
		t.Errorf("changed:\n%s", after)
	}
}

// A second ADD is refused, and harms nothing.
func TestSecondAddIsRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t, "bridge")
	a := n.pod("a", 1).admit("")
	if err := a.do("ADD", "firewall", ""); errcode.Of(err) != errcode.AlreadyExists {
		t.Errorf("got %v", err)
	}
	a.admitted("")
}

// Where nothing is forwarded by default, a pod's packets pass in the families that it has, and iptables gets no rules for the other. Policies
// keep other pods out in both.
func TestFamilies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		main, keys string
		drop       bool // what is forwarded; else the policy keeps pods of other networks out
	}{
		"open":        {main: "bridge", drop: true},
		"same-bridge": {main: "bridge", keys: sameBridge},
		"isolated":    {main: "ptp", keys: isolated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roletest.Families(t, func(t *testing.T, f roletest.Family) {
				t.Parallel()
				n := newNode(t, c.main)
				other := n.pod("other", 2)
				if c.drop {
					n.iptables(iptablesDrop)
				} else {
					other.admit("")
				}
				n.Server(n.Pod("families").NS, 80)
				before, dir, tried := n.saved(), t.TempDir(), 0
				main := `"bridge": "br1", "isDefaultGateway": true, ` + f.IPAM(dir, `{"subnet": "10.9.1.0/24"}`, `{"subnet": "fd00:9:1::/64"}`)
				n.WantAllVersions(roletest.Network{
					Family: f, DataDir: dir, Links: []string{"br1"},
					Plugins: []roletest.Plugin{{Role: c.main, Keys: main}, {Role: "firewall", Keys: c.keys}},
					Reach: func(p *roletest.Pod) {
						n.WantReach(p, "192.0.2.100", "2001:db8::100")
						n.WantReach(p, other.v4, other.v6)
						for _, addr := range p.Addrs[tried:] { // once: no version has rules of its own, and silence takes time
							n.WantSeen(other.NS, "tcp", net.JoinHostPort(addr.String(), "80"), "")
							tried++
						}
						if c.drop {
							n.wantFamilies(f)
						}
					},
					Damage: func(_ *roletest.Pod, addr netip.Addr) string {
						n.forget(addr, !c.drop)
						return addr.String()
					},
				})
				if after := n.saved(); after != before {
					t.Errorf("after the last pod:\n%s\nbefore the first:\n%s", after, before)
				}
			})
		})
	}
}

// wantFamilies wants iptables and ip6tables to lead to our rules where pods have addresses of the family, and nowhere else.
func (n *node) wantFamilies(f roletest.Family) {
	n.t.Helper()
	for program, want := range map[string]bool{"iptables-nft-save": f.V4, "ip6tables-nft-save": f.V6} {
		if saved := n.Host.Run(program); strings.Contains(saved, "-A CNIBOX-FORWARD") != want {
			n.t.Errorf("%s, want rules of ours: %t\n%s", program, want, saved)
		}
	}
}

// forget takes an address out of the set that has it: of guarded pods, or of its subnet's.
func (n *node) forget(addr netip.Addr, guarded bool) {
	n.t.Helper()
	set := map[bool]string{false: "guarded_ipv4", true: "guarded_ipv6"}[addr.Is6()]
	if !guarded {
		set = map[bool]string{false: "pods_ipv4-10.9.1.0/24-br1", true: "pods_ipv6-fd00_9_1__/64-br1"}[addr.Is6()]
	}
	n.Host.Run("nft", "delete element inet cnibox "+set+" { "+addr.String()+" }")
}
