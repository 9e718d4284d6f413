package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

// Of rules that nobody has thought of explain says too what the kernel does. RANDOM_RULES has another number of tables tried, RANDOM_SEED others.
func TestExplainAgreesOnRandomRules(t *testing.T) {
	t.Parallel()
	tables, seed := 25, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("RANDOM_RULES")); err == nil {
		tables = n
	}
	if n, err := strconv.ParseUint(os.Getenv("RANDOM_SEED"), 10, 64); err == nil {
		seed = n
	}
	e := newExplained(t)
	e.attach("bridge", "a", `"bridge": "cni0", "isGateway": true, "hairpinMode": true`, 11)
	e.attach("bridge", "b", `"bridge": "cni0", "isGateway": true, "hairpinMode": true`, 11)
	e.attach("ptp", "c", `"mtu": 1400`, 12)
	e.ports("b", 8080)
	r := rand.New(rand.NewPCG(seed, 0))
	ways := []way{
		{from: "a", to: "192.0.2.100 80"},
		{from: "a", to: "b 80"},
		{from: "a", to: "c 80", proto: "udp"},
		{from: "outside", to: "192.0.2.1 8080"},
		{from: "a", to: "2001:db8::100 80"},
		{from: "host", to: "c 80"},
		{from: "c", to: "10.11.0.1 80"},
		{from: "b", to: "192.0.2.1 8080"},
	}
	worked := 0
	for range tables {
		table := randomTable(r)
		for { // nft(8) refuses rules that contradict themselves
			if _, err := e.Host.Try("sh", "-ec", "nft -f - <<'EOF'\n"+table+"EOF"); err == nil {
				break
			}
			table = randomTable(r)
		}
		for range 3 {
			w := ways[r.IntN(len(ways))]
			if e.agrees(w, table) {
				worked++
			}
		}
		e.Host.Run("nft", "delete", "table", "inet", "drawn")
	}
	if worked < tables/2 || worked > tables*3-tables/2 {
		t.Errorf("of %d packets %d arrived, which shows little", tables*3, worked)
	}
}

// agrees compares what becomes of a packet with what is told of it.
func (e *explained) agrees(w way, table string) (works bool) {
	e.t.Helper()
	dest, port, _ := strings.Cut(w.to, " ")
	target := net.JoinHostPort(e.address(dest), port)
	from := w.from
	if from == "outside" {
		from = "192.0.2.100"
	}
	args := []string{from, target}
	if w.proto != "" {
		args = append([]string{"--proto", w.proto}, args...)
	}
	told, exit := e.explain(args...)
	w.want = exit == 0
	works = e.try(w, target)
	if works != (exit == 0) && told.Doubt == "" && (told.Answer == nil || told.Answer.Doubt == "") && (told.Then == nil || told.Then.Doubt == "") {
		e.t.Errorf("works: %v, told: %v\n%s\n%s", works, exit == 0, e.screen(append([]string{"--answer"}, args...)...), table)
	}
	return works
}

// randomTable is a table with chains at several hooks, each with a few rules, and one that they lead to.
func randomTable(r *rand.Rand) string {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	var match func() string
	match = func() string {
		m := pick(
			fmt.Sprintf("ip saddr %s", pick("10.11.0.0/24", "10.8.0.0/13", "10.11.0.2", "192.0.2.100", "10.12.0.0/16", "0.0.0.0/1")),
			fmt.Sprintf("ip daddr %s", pick("10.11.0.0/24", "192.0.2.64/26", "10.11.0.3", "192.0.2.100", "10.12.0.2", "!= 10.11.0.3")),
			fmt.Sprintf("ip daddr %s{ 10.11.0.0-10.11.0.2, 192.0.2.100, 10.12.0.0/24 }", pick("", "!= ")),
			fmt.Sprintf("ip saddr @%s", pick("s", "i")),
			"ip saddr . tcp dport @p",
			fmt.Sprintf("ip6 saddr %s", pick("fd11::/64", "2001:db8::/32", "::/1")),
			fmt.Sprintf("tcp dport %s", pick("80", "8080", "70-90", "!= 80", "{ 22, 80 }", "< 1024", "> 1023")),
			fmt.Sprintf("tcp sport %s", pick("80", "!= 80", "< 1024")),
			"udp dport 80", fmt.Sprintf("meta l4proto %s", pick("tcp", "udp", "{ tcp, udp }", "!= tcp")),
			fmt.Sprintf("iifname %s", pick("cni0", "uplink", "\"veth*\"", "!= cni0")),
			fmt.Sprintf("ct state %s", pick("new", "established", "invalid", "new,established", "!= new")),
			fmt.Sprintf("ct direction %s", pick("original", "reply")),
			fmt.Sprintf("ct status %s", pick("dnat", "snat", "snat,dnat")),
			fmt.Sprintf("meta mark %s", pick("0", "1", "& 2 == 2", "!= 0", "1-3")),
			fmt.Sprintf("fib daddr type %s", pick("local", "unicast", "!= local")),
			fmt.Sprintf("meta nfproto %s", pick("ipv4", "ipv6")),
			fmt.Sprintf("ct original ip daddr %s", pick("192.0.2.1", "10.11.0.3")),
			"tcp flags & (syn | ack) == syn",
		)
		if r.IntN(3) == 0 {
			return m + " " + match()
		}
		return m
	}
	rule := func(verdicts ...string) string { return match() + " " + pick(verdicts...) + "\n" }
	var b strings.Builder
	b.WriteString("table inet drawn {\nset s { type ipv4_addr; elements = { 10.11.0.2, 10.12.0.2 }; }\n" +
		"set i { type ipv4_addr; flags interval; elements = { 10.11.0.3-10.11.255.255, 192.0.2.96/28 }; }\n" +
		"set p { type ipv4_addr . inet_service; flags interval; elements = { 10.11.0.0/24 . 79-81, 192.0.2.100 . 8080 }; }\nchain sub {\n")
	for range 1 + r.IntN(3) {
		b.WriteString(rule("accept", "drop", "return", "meta mark set 2"))
	}
	b.WriteString("}\n")
	for _, hook := range []string{"prerouting priority -150", "prerouting priority -10", "forward priority 5", "input priority 0", "output priority 0", "postrouting priority 0", "postrouting priority 150"} {
		if r.IntN(2) == 0 {
			continue
		}
		fmt.Fprintf(&b, "chain c%d {\ntype filter hook %s;\nmeta l4proto ipv6-icmp accept\n", b.Len(), hook)
		for range 1 + r.IntN(3) {
			b.WriteString(rule("accept", "accept", "drop", "jump sub", "goto sub", "meta mark set 1", "meta mark set 3 accept"))
		}
		b.WriteString("}\n")
	}
	return b.String() + "}\n"
}
