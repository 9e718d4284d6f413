package portmap_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles/roletest"
)

// Everybody who can reach an address of the host reaches its mapped ports, whether or not bridged frames pass the packet filter.
func TestPortsReachThePod(t *testing.T) {
	for _, kind := range []struct{ main, filtered string }{{"bridge", "0"}, {"bridge", "1"}, {"ptp", "1"}} {
		t.Run(kind.main+" bridge-nf-call-iptables="+kind.filtered, func(t *testing.T) {
			n := newNode(t, kind.main)
			n.filterBridged(kind.filtered)
			one, two := n.pod("one"), n.pod("two")
			one.expose(mapping(`{"hostPort": 8080, "containerPort": 80}, {"hostPort": 8080, "containerPort": 80, "protocol": "UDP"}`))
			for _, tt := range []struct {
				from       *nstest.NS
				host, seen string
			}{
				{n.outside, "192.0.2.1", "192.0.2.100"},
				{n.outside, "192.0.2.2", "192.0.2.100"},
				{n.outside, "2001:db8::1", "2001:db8::100"},
				{n.Host, "127.0.0.1", "10.9.0.1"},
				{n.Host, "127.1.2.3", "10.9.0.1"},
				{n.Host, "192.0.2.1", "192.0.2.1"},
				{n.Host, "2001:db8::1", "2001:db8::1"},
				{one.NS, "192.0.2.1", "10.9.0.1"},
				{one.NS, "10.9.0.1", "10.9.0.1"},
				{one.NS, "2001:db8::1", "fd00:9::1"},
				{two.NS, "192.0.2.1", "10.9.0.1"},
				{two.NS, "2001:db8::1", "fd00:9::1"},
			} {
				for _, network := range []string{"tcp", "udp"} {
					n.WantSeen(tt.from, network, net.JoinHostPort(tt.host, "8080"), "one saw "+tt.seen)
				}
			}
			one.unexpose(`{"prevResult": null}`)
			n.WantSeen(n.outside, "tcp", "192.0.2.1:8080", "")
		})
	}
}

func TestHostIP(t *testing.T) {
	n := newNode(t, "bridge")
	one, two, three := n.pod("one"), n.pod("two"), n.pod("three")
	one.expose(mapping(`{"hostPort": 80, "containerPort": 80, "hostIP": "192.0.2.1"},
		{"hostPort": 81, "containerPort": 80, "hostIP": "127.0.0.1"},
		{"hostPort": 82, "containerPort": 80, "hostIP": "2001:db8::1"},
		{"hostPort": 83, "containerPort": 80, "hostIP": "::"},
		{"hostPort": 84, "containerPort": 80, "hostIP": "0.0.0.0"}`))
	two.expose(mapping(`{"hostPort": 80, "containerPort": 80, "hostIP": "192.0.2.2"}`))
	three.expose(mapping(`{"hostPort": 80, "containerPort": 80}`))
	n.WantSeen(n.outside, "tcp", "192.0.2.1:80", "one saw 192.0.2.100")
	n.WantSeen(n.outside, "tcp", "192.0.2.2:80", "two saw 192.0.2.100")
	n.WantSeen(n.outside, "tcp", "10.9.0.1:80", "three saw 192.0.2.100")
	n.WantSeen(n.outside, "tcp", "[2001:db8::1]:80", "three saw 2001:db8::100")
	n.WantSeen(n.Host, "tcp", "127.0.0.1:81", "one saw 10.9.0.1")
	n.WantSeen(n.outside, "tcp", "192.0.2.1:81", "")
	n.WantSeen(n.Host, "tcp", "127.0.0.2:81", "")
	n.WantSeen(n.outside, "tcp", "[2001:db8::1]:82", "one saw 2001:db8::100")
	n.WantSeen(n.outside, "tcp", "192.0.2.1:82", "")
	n.WantSeen(n.outside, "tcp", "[2001:db8::1]:83", "one saw 2001:db8::100")
	n.WantSeen(n.outside, "tcp", "192.0.2.1:83", "")
	n.WantSeen(n.outside, "tcp", "192.0.2.2:84", "one saw 192.0.2.100")
	n.WantSeen(n.outside, "tcp", "[2001:db8::1]:84", "")
}

func TestSourceNAT(t *testing.T) {
	const port = `{"hostPort": 8080, "containerPort": 80}`
	t.Run("snat off", func(t *testing.T) {
		n := newNode(t, "bridge")
		n.filterBridged("1") // so that answers between pods pass the packet filter
		one, two := n.pod("one"), n.pod("two")
		one.expose(mapping(port, `"snat": false`))
		n.WantSeen(n.outside, "tcp", "192.0.2.1:8080", "one saw 192.0.2.100")
		n.WantSeen(two.NS, "tcp", "192.0.2.1:8080", "one saw 10.9.0.3")
		n.WantSeen(n.Host, "tcp", "127.0.0.1:8080", "")
		if got := strings.TrimSpace(n.Host.Run("sysctl", "-n", "net.ipv4.conf.br0.route_localnet")); got != "0" {
			t.Errorf("route_localnet is %s", got)
		}
	})
	t.Run("masqAll", func(t *testing.T) {
		n := newNode(t, "bridge")
		n.pod("one").expose(mapping(port, `"masqAll": true`))
		n.WantSeen(n.outside, "tcp", "192.0.2.1:8080", "one saw 10.9.0.1")
		n.WantSeen(n.outside, "tcp", "[2001:db8::1]:8080", "one saw fd00:9::1")
		// What does not come through the port is not masqueraded.
		n.WantSeen(n.outside, "tcp", "10.9.0.2:80", "one saw 192.0.2.100")
	})
}

func TestConditionsDecideWhoIsLed(t *testing.T) {
	n := newNode(t, "bridge")
	one, two, three := n.pod("one"), n.pod("two"), n.pod("three")
	one.expose(mapping(`{"hostPort": 81, "containerPort": 80}`,
		`"conditionsV4": ["!", "-d", "192.0.2.2", "-s", "192.0.2.0/24"]`, `"conditionsV6": ["ip6 saddr != 2001:db8::100"]`))
	two.expose(mapping(`{"hostPort": 82, "containerPort": 80}`, `"conditionsV4": ["iifname", "uplink*"]`))
	three.expose(mapping(`{"hostPort": 83, "containerPort": 80, "hostIP": "192.0.2.1"}`, `"conditionsV4": ["-m", "mark", "--mark", "0x1/0x1"]`))
	n.WantSeen(n.outside, "tcp", "192.0.2.1:81", "one saw 192.0.2.100")
	n.WantSeen(n.outside, "tcp", "192.0.2.2:81", "")
	n.WantSeen(n.Host, "tcp", "127.0.0.1:81", "")
	n.WantSeen(n.outside, "tcp", "[2001:db8::1]:81", "")
	n.WantSeen(n.Host, "tcp", "[2001:db8::1]:81", "one saw 2001:db8::1")
	n.WantSeen(n.outside, "tcp", "192.0.2.1:82", "two saw 192.0.2.100")
	n.WantSeen(n.Host, "tcp", "192.0.2.1:82", "")
	n.WantSeen(three.NS, "tcp", "192.0.2.1:82", "")
	n.WantSeen(n.outside, "tcp", "192.0.2.1:83", "")
	n.Host.Run("nft", "add table ip other; add chain ip other pre { type filter hook prerouting priority mangle; }; add rule ip other pre mark set 3")
	n.WantSeen(n.outside, "tcp", "192.0.2.1:83", "three saw 192.0.2.100")
	// Who does not meet the conditions of one address is led by the mapping of every address.
	n.pod("four").expose(mapping(`{"hostPort": 83, "containerPort": 80}`))
	n.WantSeen(n.outside, "tcp", "192.0.2.1:83", "three saw 192.0.2.100")
	n.WantSeen(n.Host, "tcp", "192.0.2.1:83", "four saw 192.0.2.1")
}

func TestBusyPortNamesItsHolder(t *testing.T) {
	n := newNode(t, "bridge")
	one, two := n.pod("one"), n.pod("two")
	one.expose(mapping(`{"hostPort": 8080, "containerPort": 80}`))
	before := n.tables()
	for _, conditions := range []string{`[]`, `["-s", "192.0.2.7"]`} {
		err := two.portmap("ADD", "eth0", mapping(`{"hostPort": 8081, "containerPort": 80}, {"hostPort": 8080, "containerPort": 81}`,
			`"conditionsV4": `+conditions))
		errtest.Want(t, err, busy, "8080/tcp", "net/one/eth0")
	}
	if after := n.tables(); after != before {
		t.Errorf("the tables changed from\n%s\nto\n%s", before, after)
	}
	// Who has a port on all addresses has it on each.
	err := two.portmap("ADD", "eth0", mapping(`{"hostPort": 8080, "containerPort": 80, "hostIP": "192.0.2.2"}`))
	errtest.Want(t, err, busy, "8080/tcp", "net/one/eth0")
	// Another protocol is another port.
	two.expose(mapping(`{"hostPort": 8080, "containerPort": 80, "protocol": "udp"}`))
}

// podman tells the ports of a container to each of its networks, and disconnects it from one.
func TestAContainerInTwoNetworksKeepsItsPort(t *testing.T) {
	n := newNode(t, "bridge")
	one, two := n.pod("one"), n.pod("two")
	one.join("eth1")
	before := n.tables()
	keys := mapping(`{"hostPort": 8080, "containerPort": 80}`)
	one.expose(keys)
	call := func(verb string) {
		t.Helper()
		if err := one.portmap(verb, "eth1", keys); err != nil {
			t.Fatalf("%s of the second: %v", verb, err)
		}
	}
	call("ADD")
	call("CHECK")
	errtest.Want(t, two.portmap("ADD", "eth0", keys), busy, "8080/tcp", "net/one/eth0")
	n.WantSeen(n.outside, "tcp", "192.0.2.1:8080", "one saw 192.0.2.100")
	one.unexpose(`{}`)
	call("CHECK")
	n.WantSeen(n.outside, "tcp", "192.0.2.1:8080", "one saw 192.0.2.100")
	n.WantSeen(n.outside, "tcp", "[2001:db8::1]:8080", "one saw 2001:db8::100")
	errtest.Want(t, two.portmap("ADD", "eth0", keys), busy, "8080/tcp", "net/one/eth1")
	call("DEL")
	n.WantSeen(n.outside, "tcp", "192.0.2.1:8080", "")
	if after := n.tables(); after != before {
		t.Errorf("left behind: from\n%s\nto\n%s", before, after)
	}
}

func TestTrafficForOthersIsNotTouched(t *testing.T) {
	n := newNode(t, "bridge")
	one, two := n.pod("one"), n.pod("two")
	one.expose(mapping(`{"hostPort": 8080, "containerPort": 80}`, `"masqAll": true`))
	n.NamedServer("two saw ", two.NS, 8080)
	n.NamedServer("outside saw ", n.outside, 8080)
	n.WantSeen(n.outside, "tcp", "10.9.0.3:8080", "two saw 192.0.2.100")
	n.WantSeen(n.outside, "tcp", "[fd00:9::3]:8080", "two saw 2001:db8::100")
	n.WantSeen(n.Host, "tcp", "10.9.0.3:8080", "two saw 10.9.0.1")
	n.WantSeen(one.NS, "tcp", "10.9.0.3:8080", "two saw 10.9.0.2")
	n.WantSeen(two.NS, "tcp", "192.0.2.100:8080", "outside saw 192.0.2.1") // ipMasq
	n.WantSeen(n.Host, "tcp", "192.0.2.100:8080", "outside saw 192.0.2.1")
}

// route_localnet lets a mapping of 127.0.0.1 work, and must not let a container into services of the host's loopback.
func TestLoopbackStaysClosed(t *testing.T) {
	n := newNode(t, "bridge")
	one := n.pod("one")
	n.NamedServer("host saw ", n.Host, 99)
	one.expose(mapping(`{"hostPort": 8080, "containerPort": 80}`))
	one.Run("sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1", "net.ipv4.conf.all.route_localnet=1")
	one.Run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
	one.Run("ip", "route", "add", "127.0.0.0/8", "via", "10.9.0.1", "src", "10.9.0.2")
	n.WantSeen(one.NS, "tcp", "127.0.0.1:99", "")
	// It is our rule that keeps it closed.
	n.Host.Run("nft", "flush", "chain", "inet", "cnibox", "loopback")
	n.WantSeen(one.NS, "tcp", "127.0.0.1:99", "host saw 10.9.0.2")
}

func TestCheckTellsAMissingMapping(t *testing.T) {
	n := newNode(t, "bridge")
	n.filterBridged("1")
	one := n.pod("one")
	keys := mapping(`{"hostPort": 8080, "containerPort": 80}`)
	one.expose(keys)
	errtest.Want(t, one.portmap("CHECK", "eth0", mapping(`{"hostPort": 8080, "containerPort": 81}`)), differs, "8080")
	port := owner.Owner{Network: "net", ContainerID: "one", IfName: "eth0"}.LinkName()
	n.Host.Run("bridge", "link", "set", "dev", port, "hairpin", "off")
	errtest.Want(t, one.portmap("CHECK", "eth0", keys), differs, "hairpin")
	n.filterBridged("0")
	if err := one.portmap("CHECK", "eth0", keys); err != nil {
		t.Errorf("CHECK where no hairpin is needed: %v", err)
	}
	one.unexpose(`{}`)
	errtest.Want(t, one.portmap("CHECK", "eth0", keys), differs, "8080")
}

func TestGCKeepsValidAttachments(t *testing.T) {
	n := newNode(t, "bridge")
	n.pod("one").expose(mapping(`{"hostPort": 81, "containerPort": 80}`))
	n.pod("two").expose(mapping(`{"hostPort": 82, "containerPort": 80}`))
	n.Must(roletest.Call{Verb: "GC", Role: "portmap", Conf: `{"cniVersion": "1.1.0", "name": "net", "type": "portmap",
		"cni.dev/valid-attachments": [{"containerID": "two", "ifname": "eth0"}]}`})
	n.WantSeen(n.outside, "tcp", "192.0.2.1:81", "")
	n.WantSeen(n.outside, "tcp", "192.0.2.1:82", "two saw 192.0.2.100")
}

func TestStatusChecksTheConfiguration(t *testing.T) {
	n := newNode(t, "bridge")
	n.Must(roletest.Call{Verb: "STATUS", Role: "portmap", Conf: `{"cniVersion": "1.1.0", "name": "net", "type": "portmap", "snat": true}`})
	_, err := n.Do(roletest.Call{Verb: "STATUS", Role: "portmap", Conf: `{"cniVersion": "1.1.0", "name": "net", "type": "portmap", "markMasqBit": 32}`})
	errtest.Want(t, err, invalid, "markMasqBit")
}

func TestDelIsAlwaysPossible(t *testing.T) {
	n := newNode(t, "bridge")
	one := n.pod("one")
	before := n.tables()
	const wrong = `{"prevResult": 7, "runtimeConfig": {"portMappings": "none"}, "snat": "maybe"}`
	one.expose(mapping(`{"hostPort": 8080, "containerPort": 80}, {"hostPort": 53, "containerPort": 53, "protocol": "udp"}`,
		`"conditionsV4": ["-s", "192.0.2.0/24"]`))
	one.gone = true
	one.unexpose(wrong)
	one.unexpose(wrong)
	if after := n.tables(); after != before {
		t.Errorf("left behind: from\n%s\nto\n%s", before, after)
	}
	n.Host.Run("nft", "flush", "ruleset") // a host without any of our tables
	one.unexpose(`{}`)
}

func TestAddWithoutMappingsHandsPrevResultOn(t *testing.T) {
	n := newNode(t, "bridge")
	one := n.pod("one")
	before := n.tables()
	for _, keys := range []string{`{}`, mapping(``), mapping(`{"hostPort": 0, "containerPort": 80}`)} {
		if err := one.portmap("ADD", "eth0", keys); err != nil {
			t.Errorf("%s: %v", keys, err)
		}
	}
	if after := n.tables(); after != before {
		t.Errorf("the tables changed from\n%s\nto\n%s", before, after)
	}
	errtest.Want(t, one.portmap("ADD", "eth0", `{"prevResult": null}`), invalid, "prevResult: missing")
}

// A client that never pauses keeps its UDP flow alive, and must notice that a mapping comes and goes.
func TestUDPFlowsFollowTheMapping(t *testing.T) {
	n := newNode(t, "bridge")
	one, two := n.pod("one"), n.pod("two")
	two.expose(mapping(`{"hostPort": 5354, "containerPort": 80, "protocol": "udp"}`))
	n.NamedServer("host saw ", n.Host, 5353)
	changing, other := n.Dial(n.outside, "udp", "192.0.2.1:5353"), n.Dial(n.outside, "udp", "192.0.2.1:5354")
	expect := func(when string, c net.Conn, want string) {
		t.Helper()
		if got, err := roletest.Exchange(c); got != want+" saw 192.0.2.100" {
			t.Errorf("%s: answer %q (%v), want that of %s", when, got, err, want)
		}
	}
	expect("before", changing, "host")
	expect("before", other, "two")
	id := n.flowID("5354")
	plain := `{"hostPort": 5353, "containerPort": 80, "protocol": "udp"}`
	conditional := mapping(plain, `"conditionsV4": ["-s", "192.0.2.0/24"]`)
	for _, tt := range []struct{ add, del string }{{mapping(plain), `{"prevResult": null}`}, {conditional, conditional}} {
		one.expose(tt.add)
		expect("with "+tt.add, changing, "one")
		one.unexpose(tt.del)
		expect("without "+tt.add, changing, "host")
	}
	if got := n.flowID("5354"); got != id || id == "" {
		t.Errorf("the flow of another mapping was %q and is %q", id, got)
	}
}

// flowID is the ID of the only UDP flow to a port of the host: another flow has another ID.
func (n *node) flowID(port string) string {
	n.t.Helper()
	for field := range strings.FieldsSeq(n.Host.Run("conntrack", "-L", "-o", "id", "-p", "udp", "--orig-port-dst", port)) {
		if id, ok := strings.CutPrefix(field, "id="); ok {
			return id
		}
	}
	return ""
}

// A port leads to the pod in the families that the pod has, and to nobody in the other.
func TestFamilies(t *testing.T) {
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		n := newNode(t, "bridge")
		n.NamedServer("pod saw ", n.Pod("families").NS, 80)
		main := `"bridge": "br0", "isDefaultGateway": true, ` + f.IPAM(n.dataDir, `{"subnet": "10.9.0.0/16"}`, `{"subnet": "fd00:9::/64"}`)
		ports := `"runtimeConfig": {"portMappings": [
			{"hostPort": 8080, "containerPort": 80}, {"hostPort": 8080, "containerPort": 80, "protocol": "udp"}]}`
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: n.dataDir, Links: []string{"br0"},
			Plugins: []roletest.Plugin{{Role: "bridge", Keys: main}, {Role: "portmap", Keys: ports}},
			Reach: func(p *roletest.Pod) {
				seen4, seen6 := map[bool]string{true: "pod saw 192.0.2.100"}[f.V4], map[bool]string{true: "pod saw 2001:db8::100"}[f.V6]
				own4, own6 := map[bool]string{true: "pod saw 10.9.0.1"}[f.V4], map[bool]string{true: "pod saw 2001:db8::1"}[f.V6]
				for _, network := range []string{"tcp", "udp"} {
					n.WantSeen(n.outside, network, "192.0.2.1:8080", seen4)
					n.WantSeen(n.outside, network, "[2001:db8::1]:8080", seen6)
				}
				n.WantSeen(n.Host, "tcp", "127.0.0.1:8080", own4)
				n.WantSeen(n.Host, "tcp", "[2001:db8::1]:8080", own6)
			},
			Damage: func(_ *roletest.Pod, addr netip.Addr) string {
				ports := map[bool]string{false: "ports_ipv4", true: "ports_ipv6"}[addr.Is6()]
				n.Host.Run("nft", "delete element inet cnibox "+ports+" { tcp . 8080 }")
				return "8080"
			},
		})
	})
}
