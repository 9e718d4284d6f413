package main

import "testing"

// What firewalld, Docker and kube-proxy have in the packet filter of a usual node is read without anything that cannot be told.
func TestExplainPastOthersTables(t *testing.T) {
	t.Parallel()
	e := newExplained(t)
	e.attach("bridge", "a", `"bridge": "cni0", "isGateway": true, "hairpinMode": true`, 11)
	e.attach("bridge", "b", `"bridge": "cni0", "isGateway": true, "hairpinMode": true`, 11)
	e.attach("bridge", "c", `"bridge": "cni1", "isGateway": true`, 12)
	e.ports("b", 8080)
	for _, other := range []struct{ name, load, unload string }{
		{"firewalld", "nft -f - <<'EOF'\n" + firewalldTable + "EOF", "nft delete table inet firewalld"},
		{"Docker", "iptables-restore -n <<'EOF'\n" + dockerTables + "EOF", "iptables -F; iptables -X; iptables -P FORWARD ACCEPT; iptables -t nat -F; iptables -t nat -X"},
		{"kube-proxy", "iptables-restore -n <<'EOF'\n" + kubeTables + "EOF\nip route add 10.96.0.0/16 via 192.0.2.100", "iptables -F; iptables -X; iptables -t nat -F; iptables -t nat -X; ip route del 10.96.0.0/16"},
	} {
		e.Host.Run("sh", "-ec", other.load)
		for _, w := range waysPast(other.name) {
			w.name = other.name + ": " + w.name
			e.check(w)
		}
		e.Host.Run("sh", "-c", other.unload)
	}
}

// waysPast are what those tables let pass, and what not.
func waysPast(name string) []way {
	switch name {
	case "firewalld":
		return []way{
			{name: "pod of a trusted zone", from: "a", to: "192.0.2.100 80", want: true},
			{name: "host port", from: "outside", to: "192.0.2.1 8080", want: true},
			{name: "pod of no zone", from: "c", to: "192.0.2.100 80", says: "chain inet firewalld filter_FORWARD: reject"},
			{name: "a port of the host that is not open", from: "outside", to: "192.0.2.1 80", says: "chain inet firewalld filter_INPUT: reject"},
			{name: "pod of a trusted zone to the host", from: "a", to: "10.11.0.1 80", want: true},
			{name: "IPv6 from a trusted zone", from: "a", to: "2001:db8::100 80", says: "chain inet firewalld filter_FORWARD: reject"},
		}
	case "Docker":
		return []way{
			{name: "pod to outside", from: "a", to: "192.0.2.100 80", says: "the policy of chain ip filter FORWARD is drop"},
			{name: "what an administrator lets pass", from: "c", to: "192.0.2.100 80", want: true},
			{name: "the host itself", from: "outside", to: "192.0.2.1 80", want: true},
			{name: "a published port", from: "outside", to: "192.0.2.1 7070", want: true},
		}
	}
	return []way{
		{name: "pod to outside", from: "a", to: "192.0.2.100 80", want: true},
		{name: "service", from: "a", to: "10.96.0.10 80", want: true},
		{name: "service, from its own pod", from: "b", to: "10.96.0.10 80", want: true},
		{name: "node port", from: "outside", to: "192.0.2.1 30080", want: true},
		{name: "service without pods", from: "a", to: "10.96.0.11 80", says: "REJECT"},
		{name: "no service", from: "a", to: "10.96.0.12 80", says: "forwarding is off"},
	}
}

const firewalldTable = `table inet firewalld {
	chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; policy accept;
		jump mangle_PREROUTING_ZONES
	}
	chain mangle_PREROUTING_ZONES {
		iifname "uplink" goto mangle_PRE_public
		goto mangle_PRE_public
	}
	chain mangle_PRE_public {
		jump mangle_PRE_public_log
	}
	chain mangle_PRE_public_log {
	}
	chain filter_PREROUTING { type filter hook prerouting priority filter + 10; policy accept;
		icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
		meta nfproto ipv6 fib saddr . mark . iif oif missing drop
	}
	chain filter_INPUT { type filter hook input priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		ip saddr 10.11.0.0/24 accept
		iifname "uplink" tcp dport 22 accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		reject with icmpx type admin-prohibited
	}
	chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002::/24 } reject with icmpv6 type addr-unreachable
		jump filter_FORWARD_ZONES
		reject with icmpx type admin-prohibited
	}
	chain filter_FORWARD_ZONES {
		ip saddr 10.11.0.0/24 goto filter_FWD_trusted
		iifname "uplink" goto filter_FWD_public
		goto filter_FWD_public
	}
	chain filter_FWD_trusted {
		accept
	}
	chain filter_FWD_public {
		meta l4proto { icmp, ipv6-icmp } accept
	}
}
`

const dockerTables = `*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 7070 -j DNAT --to-destination 10.12.0.2:80
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -o cni1 -p tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -s 10.12.0.0/24 -j ACCEPT
-A DOCKER-USER -d 10.12.0.0/24 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
`

const kubeTables = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-WEB - [0:0]
:KUBE-EXT-WEB - [0:0]
:KUBE-SEP-WEB - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web cluster IP" -m tcp --dport 80 -j KUBE-SVC-WEB
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m comment --comment "shop/web" -m tcp --dport 30080 -j KUBE-EXT-WEB
-A KUBE-EXT-WEB -m comment --comment "masquerade traffic for shop/web external destinations" -j KUBE-MARK-MASQ
-A KUBE-EXT-WEB -j KUBE-SVC-WEB
-A KUBE-SVC-WEB ! -s 10.11.0.0/16 -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-WEB -m comment --comment "shop/web -> 10.11.0.3:80" -j KUBE-SEP-WEB
-A KUBE-SEP-WEB -s 10.11.0.3/32 -m comment --comment "shop/web" -j KUBE-MARK-MASQ
-A KUBE-SEP-WEB -p tcp -m comment --comment "shop/web" -m tcp -j DNAT --to-destination 10.11.0.3:80
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-SERVICES - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.11/32 -p tcp -m comment --comment "shop/none has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
`
