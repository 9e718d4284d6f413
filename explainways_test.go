package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// What explain says of a packet is what the kernel does with it.
func TestExplainAgreesWithTheKernel(t *testing.T) {
	t.Parallel()
	e := newExplained(t)
	bridge := `"bridge": "cni0", "isGateway": true, "hairpinMode": true`
	e.attach("bridge", "a", bridge, 11)
	e.attach("bridge", "b", bridge, 11)
	e.attach("bridge", "c", `"bridge": "cni1", "isGateway": true, "macspoofchk": true`, 12)
	e.attach("bridge", "d", `"bridge": "cni1", "isGateway": true, "macspoofchk": true`, 12)
	e.attach("ptp", "p", `"mtu": 1400`, 13)
	e.ports("b", 8080)
	e.ports("p", 8081)
	if only := os.Getenv("WAY"); only != "" {
		t.Log(only)
	}
	for _, w := range append(append(plainWays(), filteredWays()...), brokenWays()...) {
		if only := os.Getenv("WAY"); only == "" || only == w.name {
			e.check(w)
		}
	}
}

// plainWays are those of a node on which nothing is wrong.
func plainWays() []way {
	return []way{
		{name: "same bridge", from: "a", to: "b 80", want: true},
		{name: "same bridge, IPv6", from: "a", to: "b6 80", want: true},
		{name: "same bridge, UDP", from: "a", to: "b 80", proto: "udp", want: true},
		{name: "same bridge, ping", from: "a", to: "b", proto: "icmp", want: true},
		{name: "same bridge, ping of IPv6", from: "a", to: "b6", proto: "icmp", want: true},
		{name: "other bridge", from: "a", to: "c 80", want: true},
		{name: "other bridge, IPv6", from: "a", to: "c6 80", want: true},
		{name: "to a ptp pod", from: "a", to: "p 80", want: true},
		{name: "from a ptp pod, IPv6", from: "p", to: "a6 80", want: true},
		{name: "outside", from: "a", to: "192.0.2.100 80", want: true},
		{name: "outside, IPv6", from: "a", to: "2001:db8::100 80", want: true},
		{name: "outside, UDP", from: "p", to: "192.0.2.100 80", proto: "udp", want: true},
		{name: "host port", from: "outside", to: "192.0.2.1 8080", want: true},
		{name: "host port, IPv6", from: "outside", to: "2001:db8::1 8080", want: true},
		{name: "host port, UDP", from: "outside", to: "192.0.2.1 8081", proto: "udp", want: true},
		{name: "host port from a neighbour", from: "a", to: "192.0.2.1 8080", want: true},
		{name: "host port from itself", from: "b", to: "192.0.2.1 8080", want: true},
		{name: "host port from another bridge, IPv6", from: "c", to: "2001:db8::1 8080", want: true},
		{name: "host port of loopback", from: "host", to: "127.0.0.1 8080", want: true},
		{name: "host to a pod", from: "host", to: "a 80", want: true},
		{name: "host to a pod, IPv6", from: "host", to: "p6 80", want: true},
		{name: "pod to the host", from: "a", to: "10.11.0.1 80", want: true},
		{name: "pod to the host's other address", from: "a", to: "192.0.2.1 80", want: true},
		{name: "pod to itself", from: "a", to: "a 80", want: true},
		{name: "checked MAC address", from: "c", to: "d 80", want: true},
		{name: "outside without a route", from: "outside", to: "a 80", says: "no route to 10.11."},
		{
			name: "outside with a route", from: "outside", to: "a 80", want: true,
			do: "IN outside: ip route add 10.11.0.0/24 via 192.0.2.1", undo: "IN outside: ip route del 10.11.0.0/24",
		},
		{name: "nobody", from: "a", to: "10.11.0.77 80", says: "nobody there has the address 10.11.0.77"},
		{name: "nobody, IPv6", from: "a", to: "fd11::77 80", says: "nobody there has the address fd11::77"},
		{name: "nobody on another bridge", from: "a", to: "10.12.0.77 80", says: "nobody there has the address 10.12.0.77"},
	}
}

// foreign makes a chain of somebody else's in a table of the family, with rules; a rule with "in NAME" in front is one of another chain.
func foreign(family, hook string, rules ...string) string {
	lines := []string{"nft add table " + family + " foreign", "nft add chain " + family + " foreign c '{ type filter hook " + hook + "; }'"}
	for _, r := range rules {
		chain := "c"
		if rest, ok := strings.CutPrefix(r, "in "); ok {
			chain, r, _ = strings.Cut(rest, " ")
		}
		switch {
		case strings.HasPrefix(r, "add "):
			lines = append(lines, "nft '"+strings.Replace(r, "FOREIGN", family+" foreign", 1)+"'")
		default:
			lines = append(lines, "nft 'add rule "+family+" foreign "+chain+" "+r+"'")
		}
	}
	return strings.Join(lines, "\n")
}

// pastRules are ways past rules of somebody else's.
type pastRules []way

// add adds one, which works if nothing is to be said. Unless it is told otherwise, it leads from a to the world outside.
func (p *pastRules) add(name, says, do string, w way) {
	w.name, w.says, w.do, w.want = name, says, do, says == ""
	w.undo += "\nnft list tables | grep foreign | while read t; do nft delete $t; done"
	if w.from == "" {
		w.from = "a"
	}
	if w.to == "" {
		w.to = "192.0.2.100 80"
	}
	*p = append(*p, w)
}

const (
	forward = "forward priority 0"
	drops   = "forward priority 0; policy drop"
)

// filteredWays are those past rules of others.
func filteredWays() (out []way) {
	return slices.Concat(pastAddresses(), pastMatches(), pastConnections(), pastHooks(), iptablesWays())
}

// pastAddresses are ways past rules and sets of addresses and ports.
func pastAddresses() (out pastRules) {
	set := "add set FOREIGN s { type ipv4_addr; elements = { 192.0.2.100, 1.2.3.4 }; }"
	intervals := "add set FOREIGN s { type ipv4_addr; flags interval; elements = { 192.0.2.64/26, 10.99.0.0-10.99.0.9 }; }"
	pairs := "add set FOREIGN s { type ipv4_addr . inet_service; flags interval; elements = { 192.0.2.0/24 . 79-81 }; }"
	out.add("address", "ip daddr 192.0.2.100 drop", foreign("inet", forward, "ip daddr 192.0.2.100 drop"), way{})
	out.add("another address", "", foreign("inet", forward, "ip daddr 192.0.2.101 drop"), way{})
	out.add("source prefix", "ip saddr 10.11.0.0/24 drop", foreign("ip", forward, "ip saddr 10.11.0.0/24 drop"), way{})
	out.add("odd prefix", "ip saddr 10.8.0.0/13 drop", foreign("ip", forward, "ip saddr 10.8.0.0/13 drop"), way{})
	out.add("not an address", "ip daddr != 192.0.2.101 drop", foreign("inet", forward, "ip daddr != 192.0.2.101 drop"), way{})
	out.add("IPv6 address", "ip6 daddr 2001:db8::100 drop", foreign("inet", forward, "ip6 daddr 2001:db8::100 drop"), way{to: "2001:db8::100 80"})
	out.add("IPv6 prefix", "ip6 saddr fd11::/64 drop", foreign("ip6", forward, "ip6 saddr fd11::/64 drop"), way{to: "2001:db8::100 80"})
	out.add("rule of the other family", "", foreign("ip6", drops), way{})
	out.add("set", "in s: 192.0.2.100", foreign("inet", forward, set, "ip daddr @s drop"), way{})
	out.add("not in a set", "", foreign("inet", forward, set, "ip saddr 10.11.0.0/24 ip daddr != @s drop"), way{})
	out.add("set of intervals", "in s: 192.0.2.64-192.0.2.127", foreign("inet", forward, intervals, "ip daddr @s drop"), way{})
	out.add("outside of the intervals", "", foreign("inet", forward, intervals, "ip saddr @s oifname uplink drop"), way{})
	out.add("concatenation with intervals", "in s: ", foreign("inet", forward, pairs, "ip daddr . tcp dport @s drop"), way{})
	out.add("concatenation of another protocol", "", foreign("inet", forward, pairs, "ip daddr . tcp dport @s drop"), way{proto: "udp"})
	out.add("set without a name", "drop", foreign("inet", forward, "ip daddr { 192.0.2.0/24, 1.1.1.1 } tcp dport { 80, 443 } drop"), way{})
	out.add("port", "tcp dport 80 drop", foreign("inet", forward, "tcp dport 80 drop"), way{})
	out.add("another port", "", foreign("inet", forward, "tcp dport 81 drop"), way{})
	out.add("range of ports", "tcp dport 70-90 reject", foreign("inet", forward, "tcp dport 70-90 reject"), way{})
	out.add("out of a range", "", foreign("inet", forward, "tcp dport != 70-90 tcp sport != 80 drop"), way{})
	out.add("another protocol", "", foreign("inet", forward, "udp dport 80 drop"), way{})
	out.add("protocols", "drop", foreign("inet", forward, "meta l4proto { tcp, udp } th dport 80 drop"), way{proto: "udp"})
	return out
}

// pastMatches are ways past rules about protocols and links, and past chains that lead to one another.
func pastMatches() (out pastRules) {
	verdicts := "add map FOREIGN m { type ipv4_addr : verdict; elements = { 192.0.2.100 : drop }; }"
	out.add("ping", "icmp type 8 drop", foreign("inet", forward, "icmp type echo-request drop"), way{to: "192.0.2.100", proto: "icmp"})
	out.add("ping of IPv6", "drop", foreign("inet", forward, "icmpv6 type echo-request drop"), way{to: "2001:db8::100", proto: "icmp"})
	out.add("link", "iifname \"cni0\" drop", foreign("inet", forward, "iifname cni0 drop"), way{})
	out.add("beginning of a link's name", "iifname \"cni*\" oifname \"uplink\" drop", foreign("inet", forward, "iifname \"cni*\" oifname uplink drop"), way{})
	out.add("index of a link", "iif", foreign("inet", forward, "iif cni0 drop"), way{})
	out.add("kind of a link", "meta iifkind \"veth\" drop", foreign("inet", forward, "meta iifkind veth drop"), way{})
	out.add("verdict map", "192.0.2.100 : drop", foreign("inet", forward, verdicts, "ip daddr vmap @m"), way{})
	out.add("verdict of all others", "* : drop", foreign("inet", forward, "ip daddr vmap { 192.0.2.101 : accept, * : drop }"), way{})
	out.add("verdict of one before all others", "", foreign("inet", forward, "ip daddr vmap { 192.0.2.100 : accept, 10.11.0.0/16 : accept, * : drop }"), way{})
	out.add("jump", "chain inet foreign d: tcp dport 80 drop", foreign("inet", forward, "add chain FOREIGN d", "ip saddr 10.0.0.0/8 jump d", "in d tcp dport 80 drop"), way{})
	out.add("jump and return", "", foreign("inet", drops, "add chain FOREIGN d", "jump d", "accept", "in d tcp dport 80 return", "in d ct state established return", "in d drop"), way{})
	out.add("goto", "policy of chain", foreign("inet", drops, "add chain FOREIGN d", "tcp dport 80 goto d", "accept", "in d counter"), way{})
	out.add("policy", "the policy of chain inet foreign c is drop", foreign("inet", drops), way{})
	out.add("policy with exceptions", "", foreign("inet", drops, "ct state established,related accept", "ip saddr 10.11.0.0/16 accept"), way{})
	out.add("policy with too few exceptions", "the policy of chain", foreign("inet", drops, "ct state new accept"), way{})
	out.add("policy of no concern", "", foreign("inet", "input priority 0; policy drop", "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"), way{})
	return out
}

// pastConnections are ways past rules about connections and marks.
func pastConnections() (out pastRules) {
	out.add("new connections", "ct state new drop", foreign("inet", forward, "ct state new drop"), way{})
	out.add("answers", "ct state established", foreign("inet", forward, "ct state established drop"), way{})
	out.add("what follows", "ct direction original", foreign("inet", forward, "ct state established ct direction original drop"), way{})
	out.add("answers' direction", "ct direction reply drop", foreign("inet", forward, "ct direction reply drop"), way{})
	out.add("flags of TCP", "drop", foreign("inet", forward, "tcp flags & (syn|ack) == syn drop"), way{})
	out.add("flags of an answer", "drop", foreign("inet", forward, "tcp flags & (syn|ack) == (syn|ack) drop"), way{})
	out.add("states to verdicts", "drop", foreign("inet", forward, "ct state vmap { established : accept, new : drop }"), way{})
	out.add("mark", "meta mark & 0xf0 == 0x10 drop", foreign("inet", forward, "add chain FOREIGN p { type filter hook prerouting priority -150; }", "in p ip saddr 10.11.0.0/24 meta mark set 0x11", "meta mark and 0xf0 == 0x10 drop"), way{})
	out.add("mark of a connection", "drop", foreign("inet", forward, "add chain FOREIGN p { type filter hook prerouting priority -150; }", "in p ct mark set 7", "ct mark 7 drop"), way{})
	out.add("what came by a host port", "ct status dnat drop", foreign("inet", forward, "ct status dnat drop"), way{from: "outside", to: "192.0.2.1 8080"})
	out.add("original port", "drop", foreign("inet", forward, "meta l4proto tcp ct original proto-dst 8080 drop"), way{from: "outside", to: "192.0.2.1 8080"})
	out.add("original address", "drop", foreign("inet", forward, "ct original ip daddr 192.0.2.1 drop"), way{from: "outside", to: "192.0.2.1 8080"})
	return out
}

// pastHooks are ways past rules elsewhere than where packets are forwarded.
func pastHooks() (out pastRules) {
	out.add("before translation", "tcp dport 8080 drop", foreign("inet", "prerouting priority -300", "tcp dport 8080 drop"), way{from: "outside", to: "192.0.2.1 8080"})
	out.add("after translation", "", foreign("inet", forward, "tcp dport 8080 drop"), way{from: "outside", to: "192.0.2.1 8080"})
	out.add("own addresses", "fib daddr type local tcp dport 80 drop", foreign("inet", "prerouting priority -10", "fib daddr type local tcp dport 80 drop"), way{to: "10.11.0.1 80"})
	out.add("not own addresses", "", foreign("inet", "prerouting priority -10", "fib daddr type local drop"), way{})
	toUnicast := []string{"add chain FOREIGN pre { type nat hook prerouting priority -100; }", "add rule FOREIGN pre ip daddr 172.30.0.43 fib daddr type unicast dnat to 192.0.2.100"}
	out.add("type of an address without a route", "", foreign("ip", "prerouting priority 0", toUnicast...), way{to: "172.30.0.43 80"})
	out.add("type of an address with a route that refuses", "", foreign("ip", "prerouting priority 0", toUnicast...)+"\nip route add prohibit 172.30.0.0/24",
		way{to: "172.30.0.43 80", undo: "ip route del prohibit 172.30.0.0/24"})
	out.add("way back", "", foreign("inet", "prerouting priority -10", "fib saddr . iif oif missing drop"), way{})
	out.add("no way back", "fib saddr . iif", foreign("inet", "prerouting priority -10", "fib saddr . iif oif missing drop")+"\nip route add 192.0.2.100/32 dev cni0",
		way{from: "outside", to: "192.0.2.1 8080", undo: "ip route del 192.0.2.100/32 dev cni0"})
	out.add("input", "chain inet foreign c", foreign("inet", "input priority 0", "ip saddr 10.11.0.0/24 tcp dport 80 drop"), way{to: "10.11.0.1 80"})
	out.add("output", "chain inet foreign c", foreign("inet", "output priority 0", "ip daddr 10.11.0.0/24 drop"), way{from: "host", to: "b 80"})
	service := []string{
		"add chain FOREIGN pod", "add rule FOREIGN pod meta l4proto tcp dnat to 10.11.0.3:80", "add chain FOREIGN svc", "add rule FOREIGN svc numgen random mod 1 vmap { 0 : goto pod }",
		"add map FOREIGN services { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 172.30.0.42 . tcp . 80 : goto svc }; }",
		"add chain FOREIGN pre { type nat hook prerouting priority -100; }", "add rule FOREIGN pre ip daddr . meta l4proto . th dport vmap @services",
	}
	out.add("service, as of kube-proxy", "", foreign("ip", "prerouting priority 0", service...), way{to: "172.30.0.42 80"})
	out.add("service, from outside", "", foreign("ip", "prerouting priority 0", service...)+"\nIN outside: ip route add 172.30.0.0/24 via 192.0.2.1",
		way{from: "outside", to: "172.30.0.42 80", undo: "IN outside: ip route del 172.30.0.0/24"})
	out.add("port that is no service's", "no route to 172.30.0.42", foreign("ip", "prerouting priority 0", service...), way{to: "172.30.0.42 81"})
	out.add("ingress", "chain netdev foreign c", foreign("netdev", "ingress device uplink priority 0", "ip saddr 192.0.2.100 drop"), way{from: "outside", to: "192.0.2.1 8080"})
	out.add("ingress of inet", "chain inet foreign c", foreign("inet", "ingress device uplink priority 0", "tcp dport 8080 drop"), way{from: "outside", to: "192.0.2.1 8080"})
	out.add("ingress of a bridge's port", "ip daddr 192.0.2.100 drop", foreign("netdev", "ingress devices = { PORTS } priority 0", "ip daddr 192.0.2.100 drop"), way{})
	out.add("ingress of another link", "", foreign("netdev", "ingress device cni1 priority 0", "ip daddr 192.0.2.100 drop"), way{})
	out.add("postrouting", "chain ip foreign c", foreign("ip", "postrouting priority 0", "oifname uplink drop"), way{})
	out.add("after masquerading", "ip saddr 192.0.2.1 drop", foreign("ip", "postrouting priority 200", "ip saddr 192.0.2.1 drop"), way{})
	out.add("bridge, MAC address", "bridge foreign c", foreign("bridge", "prerouting priority -100", "ether type ip ip saddr @a drop"), way{to: "b 80"})
	out.add("bridge, forwarded", "bridge foreign c", foreign("bridge", forward, "ip daddr @b tcp dport 80 drop"), way{to: "b 80"})
	out.add("bridge, of no concern", "", foreign("bridge", forward, "ip daddr @b tcp dport 80 drop"), way{to: "c 80"})
	out.add("dormant table", "", foreign("inet", drops)+"\nnft add table inet foreign '{ flags dormant; }'", way{})
	out.add("not tracked", "ct state untracked drop", foreign("inet", forward, "add chain FOREIGN p { type filter hook prerouting priority -300; }", "in p ip saddr 10.11.0.0/24 notrack", "ct state untracked drop"), way{})
	return out
}

// iptablesWays are those past rules of iptables.
func iptablesWays() (out []way) {
	add := func(name, says, rule string, w way) {
		w.name, w.says, w.want = "iptables, "+name, says, says == ""
		command := "iptables"
		if strings.Contains(w.to, "2001") {
			command = "ip6tables"
		}
		w.do = command + " " + rule
		w.undo = command + " " + strings.NewReplacer("-I ", "-D ", "-A ", "-D ").Replace(rule)
		if w.from == "" {
			w.from = "a"
		}
		if w.to == "" {
			w.to = "192.0.2.100 80"
		}
		out = append(out, w)
	}
	add("address", "drop", "-I FORWARD -d 192.0.2.100 -j DROP", way{})
	add("another address", "", "-I FORWARD -d 192.0.2.101 -j DROP", way{})
	add("reject", "REJECT", "-I FORWARD -p tcp -m multiport --dports 22,79:81 -j REJECT", way{})
	add("not those ports", "! -m multiport", "-I FORWARD -p tcp -m multiport ! --dports 22,79:81 -j REJECT", way{}) // of the answer
	add("neither of those ports", "", "-I FORWARD -p tcp -m multiport ! --ports 22,79:81 -j REJECT", way{})
	add("state", "NEW", "-I FORWARD -m conntrack --ctstate NEW -j DROP", way{})
	add("states of answers", "ESTABLISHED", "-I FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j DROP", way{})
	add("redirected", "DNAT", "-I FORWARD -m conntrack --ctstate DNAT -j DROP", way{from: "outside", to: "192.0.2.1 8080"})
	add("not redirected", "", "-I FORWARD -m conntrack --ctstate DNAT -j DROP", way{})
	add("comment", "(no web)", "-I FORWARD -p tcp --dport 80 -m comment --comment 'no web' -j DROP", way{})
	add("own address", "LOCAL", "-t mangle -I PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 80 -j DROP", way{to: "10.11.0.1 80"})
	add("not an own address", "", "-t mangle -I PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 80 -j DROP", way{})
	add("link", "cni*", "-I FORWARD -i cni+ -o uplink -j DROP", way{})
	add("IPv6", "2001:db8::100", "-I FORWARD -d 2001:db8::100 -j DROP", way{to: "2001:db8::100 80"})
	add("redirect", "", "-t nat -I PREROUTING -p tcp --dport 99 -j REDIRECT --to-ports 80", way{to: "10.11.0.1 99"})
	add("to itself, which is translated where it is sent or not at all", "", "-t nat -I PREROUTING -i lo -p tcp --dport 80 -j DNAT --to-destination 10.11.0.77", way{from: "host", to: "192.0.2.1 80"})
	add("DNAT", "", "-t nat -I PREROUTING -d 192.0.2.55 -p tcp -j DNAT --to-destination 192.0.2.100:80", way{to: "192.0.2.55 7"})
	add("SNAT", "", "-t nat -I POSTROUTING -s 10.11.0.0/24 -j SNAT --to-source 192.0.2.1", way{})
	return out
}

// brokenWays are those of a node on which something is not as it should be.
func brokenWays() []way {
	ways := append(routedWrongly(), switchedOff()...)
	return append(ways, []way{
		{
			name: "filter in the pod", from: "a", to: "b 80", says: "in container b: rule handle",
			do: "IN b: nft add table inet own; nft add chain inet own in '{ type filter hook input priority 0; }'; nft add rule inet own in tcp dport 80 drop", undo: "IN b: nft delete table inet own",
		},
		{
			name: "filter in the sender", from: "a", to: "b 80", says: "in container a: rule handle",
			do: "IN a: nft add table ip own; nft add chain ip own out '{ type filter hook output priority 0; }'; nft add rule ip own out ip daddr 10.11.0.0/24 reject", undo: "IN a: nft delete table ip own",
		},
		{
			name: "redirected in the sender", from: "a", to: "192.0.2.77 7", want: true,
			do:   "IN a: nft add table ip own; nft add chain ip own out '{ type nat hook output priority -100; }'; nft add rule ip own out ip daddr 192.0.2.77 tcp dport 7 dnat to 192.0.2.100:80",
			undo: "IN a: nft delete table ip own",
		},
		{
			name: "bridged packets pass IP's filter", from: "a", to: "b 80", says: "chain inet foreign c",
			do: "sysctl -qw net.bridge.bridge-nf-call-iptables=1\n" + foreign("inet", "forward priority 0", "ip saddr @a drop"), undo: "nft delete table inet foreign",
		},
		{
			name: "bridged packets do not", from: "a", to: "b 80", want: true,
			do:   "sysctl -qw net.bridge.bridge-nf-call-iptables=0\n" + foreign("inet", "forward priority 0", "ip saddr @a drop"),
			undo: "nft delete table inet foreign; sysctl -qw net.bridge.bridge-nf-call-iptables=1",
		},
		{
			name: "changed MAC address", from: "c", to: "d 80", says: "macspoofchk",
			do: "IN c: cat /sys/class/net/eth0/address; ip link show eth0 | sed -n 's/.*ether \\(..:..:..:..:..:..\\) .*/\\1/p' >/run/was; ip link set eth0 address 02:00:00:00:00:99", undo: "IN c: ip link set eth0 address $(cat /run/was)",
		},
		{
			name: "isolated ports", from: "a", to: "b 80", says: "isolated",
			do:   "for p in $(ip -o link show master cni0 | cut -d: -f2 | cut -d@ -f1); do bridge link set dev $p isolated on; done",
			undo: "for p in $(ip -o link show master cni0 | cut -d: -f2 | cut -d@ -f1); do bridge link set dev $p isolated off; done",
		},
		{
			name: "hairpin mode off", from: "b", to: "192.0.2.1 8080", says: "hairpin",
			do:   "for p in $(ip -o link show master cni0 | cut -d: -f2 | cut -d@ -f1); do bridge link set dev $p hairpin off; done",
			undo: "for p in $(ip -o link show master cni0 | cut -d: -f2 | cut -d@ -f1); do bridge link set dev $p hairpin on; done",
		},
		{
			name: "wrong neighbour entry", from: "a", to: "192.0.2.100 80", says: "02:00:00:00:00:01",
			do: "IN a: ip neigh replace 10.11.0.1 lladdr 02:00:00:00:00:01 dev eth0", undo: "IN a: ip neigh del 10.11.0.1 dev eth0",
		},
	}...)
}

// routedWrongly are ways that routes stop.
func routedWrongly() []way {
	return []way{
		{name: "no default route", from: "a", to: "192.0.2.100 80", says: "there is no route to 192.0.2.100", do: "IN a: ip route del default", undo: "IN a: ip route add default via 10.11.0.1"},
		{
			name: "no way back from the pod", from: "outside", to: "192.0.2.1 8080", says: "in container b: there is no route to 192.0.2.100",
			do: "IN b: ip route del default", undo: "IN b: ip route add default via 10.11.0.1",
		},
		{name: "blackhole on the host", from: "a", to: "198.51.100.1 80", says: "blackhole", do: "ip route add blackhole 198.51.100.0/24", undo: "ip route del blackhole 198.51.100.0/24"},
		{name: "blackhole of IPv6", from: "a", to: "2001:db8:1::1 80", says: "blackhole", do: "ip -6 route add blackhole 2001:db8:1::/64", undo: "ip -6 route del blackhole 2001:db8:1::/64"},
		{name: "prohibited", from: "a", to: "198.51.100.1 80", says: "prohibit", do: "ip route add prohibit 198.51.100.0/24", undo: "ip route del prohibit 198.51.100.0/24"},
		{name: "no route on the host", from: "a", to: "198.51.100.1 80", says: "no route to 198.51.100.1"},
		{name: "no route on the host, IPv6", from: "a", to: "2001:db8:1::1 80", says: "no route to 2001:db8:1::1"},
		{
			name: "rule for a source", from: "a", to: "192.0.2.100 80", says: "unreachable",
			do: "ip rule add from @a table 77; ip route add unreachable default table 77", undo: "ip rule del from @a table 77; ip route flush table 77",
		},
		{
			name: "table for a source", from: "a", to: "198.51.100.1 80", says: "nobody there has the address 192.0.2.33",
			do: "ip rule add from @a table 77; ip route add default via 192.0.2.33 table 77", undo: "ip rule del from @a table 77; ip route flush table 77",
		},
		{
			name: "reverse path", from: "outside", to: "192.0.2.1 8080", says: "rp_filter",
			do:   "sysctl -qw net.ipv4.conf.uplink.rp_filter=1 net.ipv4.conf.all.rp_filter=1; ip route add 192.0.2.100/32 dev cni0",
			undo: "ip route del 192.0.2.100/32 dev cni0; sysctl -qw net.ipv4.conf.uplink.rp_filter=2 net.ipv4.conf.all.rp_filter=2",
		},
		{
			name: "the pod's own address taken by the host", from: "a", to: "192.0.2.100 80", says: "martian",
			do: "ip addr add @a dev lo", undo: "ip addr del @a dev lo",
		},
	}
}

// switchedOff are ways that settings and links stop.
func switchedOff() []way {
	return []way{
		{name: "forwarding off", from: "a", to: "192.0.2.100 80", says: "forwarding is off", do: "sysctl -qw net.ipv4.ip_forward=0", undo: "sysctl -qw net.ipv4.ip_forward=1"},
		{
			name: "forwarding off by one link", from: "a", to: "192.0.2.100 80", says: "net.ipv4.conf.cni0.forwarding = 0",
			do: "sysctl -qw net.ipv4.conf.cni0.forwarding=0", undo: "sysctl -qw net.ipv4.conf.cni0.forwarding=1",
		},
		{name: "forwarding off, the host itself", from: "a", to: "10.11.0.1 80", want: true, do: "sysctl -qw net.ipv4.ip_forward=0", undo: "sysctl -qw net.ipv4.ip_forward=1"},
		{name: "forwarding of IPv6 off", from: "a", to: "c6 80", says: "IPv6 forwarding is off", do: "sysctl -qw net.ipv6.conf.all.forwarding=0", undo: "sysctl -qw net.ipv6.conf.all.forwarding=1"},
		{
			name: "host's end of a pod down", from: "a", to: "p 80", says: "no route to 10.13.0.2",
			do: "ip -o route get @p | sed 's/.*dev \\([^ ]*\\).*/\\1/' >/run/link; ip link set $(cat /run/link) down", undo: "ip link set $(cat /run/link) up; ip route add @p dev $(cat /run/link); sleep 0.2",
		},
		{name: "bridge down", from: "c", to: "192.0.2.100 80", says: "cni1", do: "ip link set cni1 down", undo: "ip link set cni1 up; sleep 0.2"},
		{name: "uplink's other end down", from: "a", to: "192.0.2.100 80", says: "no carrier", do: "IN outside: ip link set eth0 down", undo: "IN outside: ip link set eth0 up; sleep 0.2"},
	}
}
