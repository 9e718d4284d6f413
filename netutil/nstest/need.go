package nstest

import (
	"os/exec"
	"sync"
	"testing"
)

// Need skips the test if the kernel lacks one of the features, and says which. Each is one of those that Features lists.
func Need(t testing.TB, features ...string) {
	t.Helper()
	for _, f := range features {
		if !Has(t, f) {
			t.Skipf("this kernel has no %s", f)
		}
	}
}

// Has tells whether the kernel has the feature: it is tried in a namespace that is thrown away.
func Has(t testing.TB, feature string) bool {
	t.Helper()
	try, ok := Features()[feature]
	if !ok {
		t.Fatalf("nstest knows no kernel feature %q", feature)
	}
	tried.Lock()
	defer tried.Unlock()
	has, known := tried.has[feature]
	if !known {
		has = works(t, try)
		tried.has[feature] = has
	}
	return has
}

// tried holds the answers for the life of the process, as the kernel does not change.
var tried = struct {
	sync.Mutex
	has map[string]bool
}{has: map[string]bool{}}

// Features are what roles need of the kernel that this project's machines or old kernels lack, each with the commands that work where
// it is there. A new namespace has "p0" and "p1", a veth pair that is up.
func Features() map[string][]string {
	return map[string][]string{
		"conntrack_bridge": {
			"nft add table bridge x0", "nft add chain bridge x0 c '{ type filter hook forward priority 0; }'",
			"nft add rule bridge x0 c ct state new accept",
		},
		"dummy":          {"ip link add x0 type dummy"},
		"fq_codel":       {"tc qdisc add dev p0 root fq_codel"},
		"ifb":            {"ip link add x0 type ifb"},
		"ipvlan":         {"ip link add link p0 name x0 type ipvlan mode l3s"},
		"macvlan":        {"ip link add link p0 name x0 type macvlan"},
		"sctp":           {"cat /proc/net/protocols | grep -qw SCTP"},
		"tbf":            {"tc qdisc add dev p0 root tbf rate 1mbit burst 10k latency 10ms"},
		"tun":            {"ip tuntap add dev x0 mode tap"},
		"vlan":           {"ip link add link p0 name x0 type vlan id 7", "ip link add link p0 name x1 type vlan protocol 802.1ad id 7"},
		"vlan_filtering": {"ip link add x0 type bridge vlan_filtering 1"},
		"vrf":            {"ip link add x0 type vrf table 10"},
		"vxlan":          {"ip link add x0 type vxlan id 7 dstport 4789"},
	}
}

func works(t testing.TB, commands []string) bool {
	t.Helper()
	ns := New(t, "feature")
	ns.Run("ip", "link", "add", "p0", "type", "veth", "peer", "name", "p1")
	ns.Run("ip", "link", "set", "p0", "up")
	ns.Run("ip", "link", "set", "p1", "up")
	for _, c := range commands {
		err := ns.Do(func() error { return exec.Command("sh", "-c", c).Run() })
		if err != nil {
			return false
		}
	}
	return true
}
