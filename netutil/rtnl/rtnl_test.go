package rtnl

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/rawnl"
)

// host is a namespace with a socket in it.
type host struct {
	*nstest.NS
	t    *testing.T
	sock *rawnl.Socket
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{NS: nstest.New(t, "host"), t: t}
	err := h.Do(func() (err error) {
		h.sock, err = rawnl.Open(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.sock.Close)
	return h
}

// ask sends the messages, each of which must succeed, and returns the bodies of all answers.
func (h *host) ask(messages ...rawnl.Message) (out [][]byte) {
	h.t.Helper()
	answers, err := h.sock.Exchange(messages...)
	if err != nil {
		h.t.Fatal(err)
	}
	for i, a := range answers {
		if a.Err != nil {
			h.t.Fatalf("message %d (type %d): %v", i, messages[i].Type, a.Err)
		}
		out = append(out, a.Bodies...)
	}
	return out
}

func (h *host) link(name string) *Link {
	h.t.Helper()
	return ParseLink(h.ask(GetLink(name))[0])
}

// What ip(8) shows is what was asked for, and what is read back.
func TestLinks(t *testing.T) {
	h := newHost(t)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	h.ask(NewBridge(End{Name: "br0", MAC: mac}, Bridge{}, true))
	br := h.link("br0")
	if br.Kind != "bridge" || br.MAC.String() != mac.String() || !br.Up() || br.VLANFiltering {
		t.Errorf("bridge %+v", br)
	}
	told := h.ask(NewVeth(End{Name: "one", MTU: 1400, MAC: mac}, End{Name: "two", MTU: 1300}, 0, br.Index))
	made := ParseLink(told[len(told)-1])
	one, two := h.link("one"), h.link("two")
	if made == nil || made.Index != one.Index || made.Peer != two.Index || one.Peer != two.Index {
		t.Errorf("told of %+v, made %+v and %+v", made, one, two)
	}
	if one.Master != br.Index || one.MTU != 1400 || two.MTU != 1300 || one.Up() || two.Up() || one.Running() {
		t.Errorf("%+v and %+v", one, two)
	}
	h.ask(
		SetLink(one.Index, Change{Alias: "somebody's", MTU: 1350, Group: 77, NoLinkLocal: true}),
		SetLink(one.Index, Change{Up: true}),
		SetLink(one.Index, Change{Hairpin: true, Isolated: true}),
		SetLink(two.Index, Change{Up: true, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}}),
		SetLink(br.Index, Change{Promisc: true}),
	)
	one = h.link("one")
	if one.Alias != "somebody's" || one.MTU != 1350 || one.Group != 77 || !one.Hairpin || !one.Isolated {
		t.Errorf("changed: %+v", one)
	}
	if br = h.link("br0"); br.Promisc == 0 {
		t.Errorf("not promiscuous: %+v", br)
	}
	if out := h.Run("ip", "-d", "link", "show", "one"); !strings.Contains(out, "hairpin on") || !strings.Contains(out, "alias somebody's") {
		t.Errorf("ip shows %s", out)
	}
	if out := h.Run("ip", "-d", "link", "show", "one"); !strings.Contains(out, "addrgenmode none") {
		t.Errorf("it will have a link-local address: %s", out)
	}
	h.ask(SetLink(two.Index, Change{Down: true}))
	if h.link("two").Up() {
		t.Error("still up")
	}
	h.ask(DelLink("one"))
	answers, err := h.sock.Exchange(GetLink("two"), GetLinkByIndex(one.Index))
	if err != nil || !errors.Is(answers[0].Err, unix.ENODEV) || !errors.Is(answers[1].Err, unix.ENODEV) {
		t.Errorf("the pair is still there: %+v, %v", answers, err)
	}
}

func TestGroup(t *testing.T) {
	h := newHost(t)
	for _, name := range []string{"a", "b", "c"} {
		h.ask(NewVeth(End{Name: name}, End{Name: name + "-peer"}, 0, 0))
	}
	h.ask(SetLink(h.link("a").Index, Change{Group: 1 << 31}), SetLink(h.link("b").Index, Change{Group: 1 << 31}))
	h.ask(DelGroup(1 << 31))
	var names []string
	for _, b := range h.ask(GetLinks()) {
		names = append(names, ParseLink(b).Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"c", "c-peer", "lo"}) {
		t.Errorf("left are %v", names)
	}
}

func TestAddressesAndRoutes(t *testing.T) {
	h := newHost(t)
	h.ask(NewVeth(End{Name: "one"}, End{Name: "two"}, 0, 0))
	one, two := h.link("one"), h.link("two")
	h.ask(SetLink(one.Index, Change{Up: true}), SetLink(two.Index, Change{Up: true}))
	for _, c := range []struct{ addr, dst, gateway string }{
		{"10.0.0.5/24", "192.0.2.0/24", "10.0.0.1"}, {"fd00::5/64", "2001:db8::/32", "fd00::1"},
	} {
		a := Addr{Prefix: netip.MustParsePrefix(c.addr), Link: one.Index, Flags: unix.IFA_F_NODAD}
		r := Route{
			Link: one.Index, Dst: netip.MustParsePrefix(c.dst), Gateway: netip.MustParseAddr(c.gateway), Source: a.Prefix.Addr(),
			Table: 1000, Priority: 7, MTU: 1300, AdvMSS: 1200,
		}
		h.ask(NewAddr(a), NewRoute(r, true))
		found := false
		for _, b := range h.ask(GetAddrs(one.Index, a.Prefix.Addr())) {
			have, ok := ParseAddr(b)
			found = found || ok && have.Prefix == a.Prefix && have.Link == one.Index
		}
		if !found {
			t.Errorf("%s is not listed", c.addr)
		}
		r.Type, r.Protocol = unix.RTN_UNICAST, unix.RTPROT_BOOT
		if !slices.Contains(h.routes(a.Prefix.Addr()), r) {
			t.Errorf("%+v is not among %+v", r, h.routes(a.Prefix.Addr()))
		}
		r.Table, r.Priority = 0, 0
		h.ask(NewRoute(r, true))
		inside := r.Dst.Addr().Next()
		if entry := ParseRoute(h.ask(GetEntry(inside))[0]); entry[0].Dst != r.Dst || entry[0].Gateway != r.Gateway || entry[0].MTU != r.MTU {
			t.Errorf("the entry for %s is %+v", inside, entry)
		}
		r.Table, r.Priority = 1000, 7
		way := func() Route { return ParseRoute(h.ask(GetRoute(a.Prefix.Addr()))[0])[0] }
		for range 500 { // the kernel makes an IPv6 address its own a little later
			if way().Type == unix.RTN_LOCAL {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if to := way(); to.Type != unix.RTN_LOCAL {
			t.Errorf("the way to %s is %+v", c.addr, to)
		}
		answers, err := h.sock.Exchange(NewAddr(a), NewRoute(r, true), DelAddr(a), DelAddr(a))
		if err != nil || !errors.Is(answers[0].Err, unix.EEXIST) || !errors.Is(answers[1].Err, unix.EEXIST) ||
			answers[2].Err != nil || !errors.Is(answers[3].Err, unix.EADDRNOTAVAIL) {
			t.Errorf("%+v, %v", answers, err)
		}
	}
	if out := h.Run("ip", "addr", "show", "one"); strings.Contains(out, "fd00::5") {
		t.Errorf("left: %s", out)
	}
}

func (h *host) routes(like netip.Addr) (out []Route) {
	for _, b := range h.ask(GetRoutes(like)) {
		out = append(out, ParseRoute(b)...)
	}
	return out
}

// A route of several ways is one for each of them.
func TestMultipath(t *testing.T) {
	h := newHost(t)
	h.ask(NewVeth(End{Name: "one"}, End{Name: "two"}, 0, 0))
	for _, name := range []string{"one", "two"} {
		h.Run("ip", "link", "set", name, "up")
		h.Run("ip", "addr", "add", "fd0"+map[string]string{"one": "1", "two": "2"}[name]+"::5/64", "dev", name, "nodad")
	}
	for name, gateway := range map[string]string{"one": "fd01::1", "two": "fd02::1"} {
		h.ask(NewRoute(Route{Link: h.link(name).Index, Dst: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr(gateway)}, false))
	}
	ways := map[netip.Addr]int{}
	for _, r := range h.routes(netip.IPv6Unspecified()) {
		if r.Dst.Bits() == 0 {
			ways[r.Gateway] = r.Link
		}
	}
	if ways[netip.MustParseAddr("fd01::1")] != h.link("one").Index || ways[netip.MustParseAddr("fd02::1")] != h.link("two").Index {
		t.Errorf("ways %v", ways)
	}
}

func TestForwarding(t *testing.T) {
	h := newHost(t)
	for key, like := range map[string]netip.Addr{
		"net.ipv4.ip_forward": netip.IPv4Unspecified(), "net.ipv6.conf.all.forwarding": netip.IPv6Unspecified(),
	} {
		for _, value := range []string{"0", "1", "0"} {
			h.Run("sysctl", "-qw", key+"="+value)
			if got := ParseForwarding(h.ask(GetForwarding(like))[0]); got != (value == "1") {
				t.Errorf("%s is %s, read as %t", key, value, got)
			}
		}
	}
}

// Answers that are cut short are no answers.
func FuzzParse(f *testing.F) {
	f.Add(append(body(3, 1, 1, nil), 7, 0, 3, 0, 'a', 'b', 0, 0))
	f.Add(NewRoute(Route{Link: 1, Dst: netip.MustParsePrefix("10.0.0.0/8"), Gateway: netip.MustParseAddr("10.0.0.1")}, true).Body)
	f.Add(NewTBF(1, Shape{Rate: 1e6, Burst: 1e5}).Body)
	f.Add(NewFilter(Filter{Link: 1, Addr: netip.MustParsePrefix("fd00::/48"), To: 2}).Body)
	f.Add(traffic(unix.RTM_NEWTFILTER, 0, 1, 0, 0, uint32(swap(unix.ETH_P_IP)), "u32", func(a *rawnl.Attrs) { a.Bytes(u32Selector, make([]byte, sizeOfSel)) }).Body)
	f.Add(NewVXLAN(End{Name: "v"}, VXLAN{VNI: 42, Port: 4789, Local: netip.MustParseAddr("192.0.2.1")}).Body)
	f.Add(SetNeighbor(Neighbor{Addr: netip.MustParseAddr("fd00::1"), MAC: []byte{2, 0, 0, 0, 0, 1}, Protocol: 9}).Body)
	f.Add(SetFDB(FDB{MAC: []byte{2, 0, 0, 0, 0, 1}, Remote: netip.MustParseAddr("192.0.2.1"), External: true}).Body)
	f.Add(NewAddr(Addr{Prefix: netip.MustParsePrefix("10.0.0.1/8")}).Body)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = ParseLink(b), ParseForwarding(b), ParseQdisc(b)
		if filter, ok := ParseFilter(b); ok && filter.Addr.IsValid() && filter.Addr.Bits() < 0 {
			t.Fatalf("%x is %v", b, filter)
		}
		if a, ok := ParseAddr(b); ok && !a.Prefix.IsValid() {
			t.Fatalf("%x is %v", b, a)
		}
		for _, r := range ParseRoute(b) {
			_ = r.Dst.String()
		}
		if v, ok := ParseVXLAN(b); ok && v.VNI > 0 {
			_ = v.Local.String()
		}
		if n, ok := ParseNeighbor(b); ok && !n.Addr.IsValid() {
			t.Fatalf("%x is %v", b, n)
		}
		if e, ok := ParseFDB(b); ok && len(e.MAC) != 6 {
			t.Fatalf("%x is %v", b, e)
		}
	})
}

// What bridge(8) shows is what was asked for, and what is read back, also of a port of more VLANs than the kernel could list one by one.
func TestVLANsOfPorts(t *testing.T) {
	nstest.Need(t, "vlan_filtering")
	h := newHost(t)
	h.Run("ip", "link", "add", "br0", "type", "bridge", "vlan_filtering", "1")
	h.Run("ip", "link", "add", "p0", "master", "br0", "type", "veth", "peer", "name", "peer0")
	h.Run("ip", "link", "add", "p1", "master", "br0", "type", "veth", "peer", "name", "peer1")
	port, all := h.link("p0").Index, h.link("p1").Index
	h.ask(DelVLAN(port, 1), AddVLANs(port, 7, 7, true), AddVLANs(port, 10, 12, false), AddVLANs(all, 1, 4094, false))
	have := map[int]map[uint16]bool{port: {}, all: {}}
	for _, b := range h.ask(GetVLANs()) {
		ParseVLANs(b, func(port int, id uint16, pvid bool) {
			if have[port] != nil {
				have[port][id] = pvid
			}
		})
	}
	if want := map[uint16]bool{7: true, 10: false, 11: false, 12: false}; !maps.Equal(have[port], want) {
		t.Errorf("p0 is in %v, want %v", have[port], want)
	}
	if len(have[all]) != 4094 {
		t.Errorf("p1 is in %d VLANs", len(have[all]))
	}
	shown := strings.Join(strings.Fields(h.Run("bridge", "vlan", "show", "dev", "p0")), " ")
	if want := "p0 7 PVID Egress Untagged 10 11 12"; !strings.HasSuffix(shown, want) {
		t.Errorf("bridge(8) shows %q, want %q", shown, want)
	}
}

func TestParseVLANs(t *testing.T) {
	t.Parallel()
	info := func(flags, id uint16) func(*rawnl.Attrs) { return func(a *rawnl.Attrs) { vlanInfo(a, flags, id) } }
	for name, tt := range map[string]struct {
		infos []func(*rawnl.Attrs)
		want  string
	}{
		"none":                    {nil, "[]"},
		"one":                     {[]func(*rawnl.Attrs){info(vlanPVID|vlanUntagged, 1)}, "[9 1 true]"},
		"range":                   {[]func(*rawnl.Attrs){info(0, 1), info(vlanBegin, 5), info(vlanEnd, 7)}, "[9 1 false 9 5 false 9 6 false 9 7 false]"},
		"range without an end":    {[]func(*rawnl.Attrs){info(vlanBegin, 5)}, "[]"},
		"range backwards":         {[]func(*rawnl.Attrs){info(vlanBegin, 7), info(vlanEnd, 5)}, "[]"},
		"no VLAN":                 {[]func(*rawnl.Attrs){info(0, 0xffff)}, "[]"},
		"cut":                     {[]func(*rawnl.Attrs){func(a *rawnl.Attrs) { a.Bytes(bridgeVLANInfo, []byte{1, 2, 3}) }}, "[]"},
		"of which is no VLAN":     {[]func(*rawnl.Attrs){func(a *rawnl.Attrs) { a.Uint16(bridgeFlags, 1) }}, "[]"},
		"range up to what is not": {[]func(*rawnl.Attrs){info(vlanBegin, 4094), info(vlanEnd, 0xffff)}, "[9 4094 false]"},
	} {
		m := portVLANs(0, 9, func(a *rawnl.Attrs) {
			for _, fill := range tt.infos {
				fill(a)
			}
		})
		got := []any{}
		ParseVLANs(m.Body, func(port int, id uint16, pvid bool) { got = append(got, port, id, pvid) })
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%s: read %v, want %s", name, got, tt.want)
		}
		for n := range len(m.Body) {
			ParseVLANs(m.Body[:n], func(int, uint16, bool) {})
		}
	}
}
