package nft_test

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rawnl"
)

var update = flag.Bool("update", false, "write testdata anew")

// everything is one of each kind of entry, in both families.
func everything(o owner.Owner) []nft.Entry {
	const a4, a6, s4, s6 = "10.244.0.5", "fd00:244::5", "10.244.0.0/16", "fd00:244::/64"
	at4, at6, conditional := tcp(8081, a4, 80), tcp(8081, a6, 80), tcp(90, a4, 90)
	at4.HostIP, at6.HostIP = addr("192.0.2.1"), addr("2001:db8::1")
	at6.Protocol = unix.IPPROTO_UDP
	sctp := tcp(53, a6, 53)
	sctp.Protocol = unix.IPPROTO_SCTP
	conditional.Conditions = []nft.Condition{
		{Key: "saddr", Value: "192.0.2.0/24"},
		{Key: "daddr", Value: "192.0.2.9", Negate: true},
		{Key: "iifname", Value: "eth0"},
		{Key: "iifname", Value: "en*", Negate: true},
		{Key: "mark", Value: "0x1/0xff"},
	}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	return append([]nft.Entry{
		masq(a4, s4), masq(a6, s6), snat(a4, s4),
		nft.SourceNATEntry{Addr: addr(a6), All: true},
		tcp(8080, a4, 80), at4, at6, sctp, conditional,
		nft.SpoofCheckEntry{Port: o.LinkName(), MAC: mac},
		nft.ForwardEntry{Addr: addr(a4), Subnet: prefix(s4), Link: "cni0", Admin: "CNI-ADMIN"},
		nft.ForwardEntry{Addr: addr(a6), Subnet: prefix(s6), Link: "veth*", Admin: "CNI-ADMIN"},
		nft.IngressEntry{Addr: addr(a4), From: "cni0"},
		nft.IngressEntry{Addr: addr(a6)},
	}, nft.AddressChecks(o, mac, []netip.Addr{addr(a4), addr(a6)})...)
}

func features() []nft.Feature {
	return []nft.Feature{nft.Masquerade, nft.PortMap, nft.SpoofCheck, nft.Forward, nft.Isolation}
}

// What stands in the kernel reads well, can be saved and read again by nft(8), and works the same afterwards.
func TestListing(t *testing.T) {
	h, o := newHost(t), pod("4b1f")
	entries := everything(o)
	h.add(o, entries...)
	listed := h.list()
	golden(t, "everything.nft", listed)

	file := t.TempDir() + "/saved.nft"
	if err := os.WriteFile(file, []byte("flush ruleset\n"+h.Run("nft", "list", "ruleset")), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Run("nft", "-f", file)
	if again := h.list(); again != listed {
		t.Errorf("after nft -f:\n%s\nbefore:\n%s", again, listed)
	}
	if err := h.tables().Verify(o, entries); err != nil {
		t.Errorf("verify: %v", err)
	}
	h.delete(o, features()...)
	golden(t, "empty.nft", h.list())
}

func TestAddIsAllOrNothing(t *testing.T) {
	h := newHost(t)
	h.add(pod("one"), tcp(8080, "10.1.0.5", 80))
	before := h.list()
	two := []nft.Entry{masq("10.1.0.6", "10.1.0.0/24"), tcp(8079, "10.1.0.6", 80), tcp(8080, "10.1.0.6", 80)}
	wantCode(t, h.tables().Add(pod("two"), two), errcode.PortBusy, "host port 8080/tcp is held by mynet/one/eth0")
	if after := h.list(); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

func TestBusyPorts(t *testing.T) {
	at := func(e nft.PortEntry, host string) nft.PortEntry { e.HostIP = addr(host); return e }
	when := func(e nft.PortEntry) nft.PortEntry {
		e.Conditions = []nft.Condition{{Key: "mark", Value: "1"}}
		return e
	}
	udp := func(e nft.PortEntry) nft.PortEntry { e.Protocol = unix.IPPROTO_UDP; return e }
	tests := []struct {
		name      string
		has, asks nft.PortEntry
		busy      string
	}{
		{"the same", tcp(80, "10.1.0.5", 80), tcp(80, "10.1.0.6", 80), "80/tcp"},
		{"another protocol", tcp(80, "10.1.0.5", 80), udp(tcp(80, "10.1.0.6", 80)), ""},
		{"another family", tcp(80, "10.1.0.5", 80), tcp(80, "fd00::6", 80), ""},
		{"one address", at(tcp(80, "10.1.0.5", 80), "192.0.2.1"), at(tcp(80, "10.1.0.6", 80), "192.0.2.1"), "192.0.2.1:80/tcp"},
		{"another address", at(tcp(80, "10.1.0.5", 80), "192.0.2.1"), at(tcp(80, "10.1.0.6", 80), "192.0.2.2"), ""},
		{"all addresses first", tcp(80, "10.1.0.5", 80), at(tcp(80, "10.1.0.6", 80), "192.0.2.1"), "80/tcp"},
		{"one address first", at(tcp(80, "10.1.0.5", 80), "192.0.2.1"), tcp(80, "10.1.0.6", 80), ""},
		{"IPv6", at(udp(tcp(53, "fd00::5", 53)), "fd00::1"), at(udp(tcp(53, "fd00::6", 53)), "fd00::1"), "[fd00::1]:53/udp"},
		{"with conditions", tcp(80, "10.1.0.5", 80), when(tcp(80, "10.1.0.6", 80)), "80/tcp"},
		{"without conditions", when(tcp(80, "10.1.0.5", 80)), tcp(80, "10.1.0.6", 80), "80/tcp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.add(pod("one"), tt.has)
			err := h.tables().Add(pod("two"), []nft.Entry{tt.asks})
			if tt.busy == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantCode(t, err, errcode.PortBusy, "host port "+tt.busy+" is held by mynet/one/eth0")
			h.delete(pod("one"), nft.PortMap)
			h.add(pod("two"), tt.asks)
		})
	}
}

func TestSecondAddIsRefused(t *testing.T) {
	h, o := newHost(t), pod("4b1f")
	for _, e := range everything(o) {
		if _, ok := e.(nft.SourceNATEntry); ok {
			continue
		}
		h.add(o, e)
		before := h.list()
		wantCode(t, h.tables().Add(o, []nft.Entry{e}), errcode.AlreadyExists, "mynet/4b1f/eth0")
		if after := h.list(); after != before {
			t.Errorf("after:\n%s\nbefore:\n%s", after, before)
		}
		h.delete(o, features()...)
	}
}

// What a pod of before has left of its address does not stand in a new one's way, nor does the former one's DEL harm that.
func TestAddressOfBefore(t *testing.T) {
	h := newHost(t)
	h.add(pod("old"), masq("10.1.0.5", "10.1.0.0/24"))
	h.add(pod("new"), masq("10.1.0.5", "10.1.0.0/16"))
	h.delete(pod("old"), nft.Masquerade)
	if err := h.tables().Verify(pod("new"), []nft.Entry{masq("10.1.0.5", "10.1.0.0/16")}); err != nil {
		t.Error(err)
	}
	if out := h.list(); strings.Contains(out, "10.1.0.0/24") {
		t.Errorf("the former subnet's rule is left:\n%s", out)
	}
}

func TestVerifyFindsWhatDiffers(t *testing.T) {
	o := pod("4b1f")
	for name, c := range map[string]struct{ spoil, words string }{
		"masquerade gone": {"delete element inet cnibox masquerade-10.244.0.0/16 { 10.244.0.5 }", "no 10.244.0.5 in inet cnibox masquerade-10.244.0.0/16"},
		"port gone":       {"delete element inet cnibox ports_ipv4 { tcp . 8080 }", "no tcp . 8080 in inet cnibox ports_ipv4"},
		"port elsewhere": {
			"delete element inet cnibox ports_ipv4 { tcp . 8080 }; " +
				`add element inet cnibox ports_ipv4 { tcp . 8080 comment "mynet/4b1f/eth0 ` + o.LinkName() + `" : 10.244.0.6 . 80 }`, "leads elsewhere",
		},
		"another's": {
			"delete element inet cnibox ports_ipv4 { tcp . 8080 }; " +
				`add element inet cnibox ports_ipv4 { tcp . 8080 comment "mynet/x/eth0 vethx" : 10.244.0.5 . 80 }`, "belongs to mynet/x/eth0",
		},
		"subnet's rules": {
			"flush chain inet cnibox leaving; add rule inet cnibox leaving return; add rule inet cnibox leaving return",
			"chain leaving in inet cnibox has no rule for 10.244.0.0/16",
		},
		"overlays' rules": {"flush chain inet cnibox leaving", "chains of table inet cnibox"},
		"static rules":    {"flush chain inet cnibox postrouting", "chains of table inet cnibox"},
		"table":           {"delete table inet cnibox", "chains of table inet cnibox"},
		"spoof check":     {"delete element bridge cnibox checked { \"" + o.LinkName() + "\" }", "bridge cnibox checked"},
		"bridge's rules":  {"flush chain bridge cnibox prerouting", "chains of table bridge cnibox"},
		"source NAT gone": {"delete element inet cnibox mapped_ipv4 { 80 . 8080 . 10.244.0.5 . tcp }", "mapped_ipv4"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.add(o, everything(o)...)
			if err := h.tables().Verify(o, everything(o)); err != nil {
				t.Fatalf("before: %v", err)
			}
			h.Run("nft", c.spoil)
			wantCode(t, h.tables().Verify(o, everything(o)), errcode.Differs, c.words)
			h.delete(o, features()...) // makes progress whatever it finds
			if out := h.list(); strings.Contains(out, "4b1f") {
				t.Errorf("left:\n%s", out)
			}
		})
	}
}

// An ADD mends static chains that somebody flushed.
func TestAddMendsTheTable(t *testing.T) {
	h := newHost(t)
	h.add(pod("one"), masq("10.1.0.5", "10.1.0.0/24"))
	before := h.list()
	h.Run("nft", "flush chain inet cnibox postrouting; flush chain inet cnibox ports")
	h.add(pod("two"), masq("10.1.0.6", "10.1.0.0/24"))
	h.delete(pod("two"), nft.Masquerade)
	if after := h.list(); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

func TestDeleteWithNothingThere(t *testing.T) {
	h := newHost(t)
	h.delete(pod("x"), features()...)
	for _, f := range features() {
		if err := h.tables().GC("mynet", f, func(string) bool { return false }); err != nil {
			t.Error(err)
		}
	}
	if out := h.list(); strings.Contains(out, "table") {
		t.Errorf("deleting has made a table:\n%s", out)
	}
}

// Each of an ADD's undo steps must be able to fail on its own.
func TestNoSocket(t *testing.T) {
	refused := func() (*rawnl.Socket, error) { return nil, unix.EBADF }
	tables := nft.Open(refused, func() (func(), error) { return func() {}, nil }, "")
	for range 2 {
		if err := tables.Delete(pod("one"), nft.Masquerade); !errors.Is(err, unix.EBADF) {
			t.Errorf("got %v", err)
		}
	}
}

func TestGCKeepsTheValidAndOtherNetworks(t *testing.T) {
	h := newHost(t)
	subnet := "10.1.0.0/24"
	other := owner.Owner{Network: "mynet2", ContainerID: "x", IfName: "eth0"}
	h.add(other, masq("10.1.0.9", subnet), tcp(9, "10.1.0.9", 9), snat("10.1.0.9", subnet))
	h.add(pod("keep"), masq("10.1.0.8", subnet), tcp(8, "10.1.0.8", 8))
	before := h.list()
	for i := range 150 { // more than one batch
		a := fmt.Sprintf("10.1.1.%d", i)
		h.add(pod("stale"+fmt.Sprint(i)), masq(a, "10.1.1.0/24"), tcp(uint16(1000+i), a, 80))
	}
	keep := pod("keep").LinkName()
	for _, f := range features() {
		if err := h.tables().GC("mynet", f, func(link string) bool { return link == keep }); err != nil {
			t.Error(err)
		}
	}
	if after := h.list(); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

func TestPorts(t *testing.T) {
	h, o := newHost(t), pod("4b1f")
	h.add(o, everything(o)...)
	ports, err := h.tables().Ports(o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, e := range everything(o) {
		if p, ok := e.(nft.PortEntry); ok && p.Conditions == nil {
			want[fmt.Sprint(p)] = true
		}
	}
	for _, p := range ports {
		if !want[fmt.Sprint(p)] {
			t.Errorf("%v is no port of the pod", p)
		}
		delete(want, fmt.Sprint(p))
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// Many processes at once, each with a socket of its own, never see an error and leave nothing.
func TestConcurrently(t *testing.T) {
	h := newHost(t)
	h.Run("iptables-nft", "-P", "FORWARD", "DROP") // each first and last pod changes its table too
	h.add(pod("first"), masq("10.1.0.1", "10.1.0.0/16"))
	h.delete(pod("first"), nft.Masquerade)
	empty := h.list()
	const workers, rounds = 16, 8
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		tables := h.tables()
		wg.Go(func() {
			for r := range rounds {
				o := pod(fmt.Sprintf("%d-%d", w, r))
				a := fmt.Sprintf("10.1.%d.%d", w, r+1)
				entries := []nft.Entry{
					masq(a, "10.1.0.0/16"), tcp(uint16(1000*(w+1)+r), a, 80), snat(a, "10.1.0.0/16"),
					nft.ForwardEntry{Addr: addr(a), Subnet: prefix(fmt.Sprintf("10.1.%d.0/24", w)), Link: "br0", Admin: "CNI-ADMIN"},
				}
				errs[w] = errors.Join(errs[w], tables.Add(o, entries), tables.Verify(o, entries))
				for _, f := range features() {
					errs[w] = errors.Join(errs[w], tables.Delete(o, f))
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if after := h.list(); after != empty {
		t.Errorf("left:\n%s", after)
	}
}

func TestBadConditions(t *testing.T) {
	h := newHost(t)
	for _, c := range []nft.Condition{
		{Key: "saddr", Value: "nonsense"},
		{Key: "saddr", Value: "fd00::/64"},
		{Key: "iifname", Value: ""},
		{Key: "iifname", Value: "a name much too long"},
		{Key: "mark", Value: "x"},
		{Key: "mark", Value: "1/x"},
	} {
		e := tcp(80, "10.1.0.5", 80)
		e.Conditions = []nft.Condition{c}
		wantCode(t, h.tables().Add(pod("x"), []nft.Entry{e}), errcode.InvalidConfig, c.Key)
	}
}

// Thousands of elements in one batch: more than one message may hold, and more answers than a socket's buffer takes by default.
func TestThousandsOfPorts(t *testing.T) {
	h, o := newHost(t), pod("4b1f")
	entries := []nft.Entry{snat("10.1.0.5", "10.1.0.0/24")}
	const n = 3000
	for i := range n {
		entries = append(entries, tcp(uint16(10000+i), "10.1.0.5", uint16(i+1)))
	}
	h.add(o, entries...)
	if err := h.tables().Verify(o, entries); err != nil {
		t.Error(err)
	}
	if ports, err := h.tables().Ports(o); err != nil || len(ports) != n {
		t.Errorf("%d ports, %v", len(ports), err)
	}
	h.delete(o, nft.PortMap)
	if out := h.list(); strings.Contains(out, "elements") {
		t.Errorf("left:\n%.2000s", out)
	}
}
