package daemon

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/record"
)

func ack(t testing.TB, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 5)), dhcpv4.WithMessageType(dhcpv4.MessageTypeAck))
	if err != nil {
		t.Fatal(err)
	}
	m.OpCode = dhcpv4.OpcodeBootReply
	for _, o := range options {
		m.UpdateOption(o)
	}
	return m
}

func TestTimesAreTheServersOrThoseOfTheRFC(t *testing.T) {
	t.Parallel()
	lease := dhcpv4.OptIPAddressLeaseTime
	for _, tt := range []struct {
		name        string
		options     []dhcpv4.Option
		t1, t2, end time.Duration
	}{
		{"a lease alone", []dhcpv4.Option{lease(80 * time.Second)}, 40 * time.Second, 70 * time.Second, 80 * time.Second},
		{"no lease", nil, 30 * time.Minute, 52*time.Minute + 30*time.Second, time.Hour},
		{
			"all",
			[]dhcpv4.Option{lease(80 * time.Second), dhcpv4.OptRenewTimeValue(10 * time.Second), dhcpv4.OptRebindingTimeValue(20 * time.Second)},
			10 * time.Second, 20 * time.Second, 80 * time.Second,
		},
		{
			"in the wrong order",
			[]dhcpv4.Option{lease(80 * time.Second), dhcpv4.OptRenewTimeValue(90 * time.Second), dhcpv4.OptRebindingTimeValue(95 * time.Second)},
			80 * time.Second, 80 * time.Second, 80 * time.Second,
		},
		{"none", []dhcpv4.Option{lease(0)}, shortest, shortest, shortest},
		{"for ever", []dhcpv4.Option{lease((1<<32 - 1) * time.Second)}, (1<<32 - 1) * time.Second / 2, (1<<32 - 1) * time.Second / 8 * 7, (1<<32 - 1) * time.Second},
	} {
		now := time.Now()
		t1, t2, end := times(ack(t, tt.options...), now)
		if t1.Sub(now) != tt.t1 || t2.Sub(now).Truncate(time.Second) != tt.t2.Truncate(time.Second) || end.Sub(now) != tt.end {
			t.Errorf("%s: %s, %s, %s; want %s, %s, %s", tt.name, t1.Sub(now), t2.Sub(now), end.Sub(now), tt.t1, tt.t2, tt.end)
		}
	}
}

func TestOptionsOfTheServerBecomeTheResult(t *testing.T) {
	t.Parallel()
	mask, router := dhcpv4.OptSubnetMask(net.CIDRMask(20, 32)), dhcpv4.OptRouter(net.IPv4(10, 0, 0, 1), net.IPv4(10, 0, 0, 2))
	classless := dhcpv4.OptClasslessStaticRoute(
		&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Router: net.IPv4(10, 0, 0, 9)},
		&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(172, 16, 0, 0).To4(), Mask: net.CIDRMask(12, 32)}, Router: net.IPv4zero},
	)
	static := dhcpv4.OptGeneric(dhcpv4.OptionStaticRoutingTable, []byte{192, 168, 7, 0, 10, 0, 0, 3, 0, 0, 0, 0, 10, 0, 0, 4})
	mtu := func(b ...byte) dhcpv4.Option { return dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, b) }
	for _, tt := range []struct {
		name    string
		options []dhcpv4.Option
		want    string
	}{
		{"no mask: that of the class", nil, "10.0.0.5/8 via <nil> [] {[]  [] []}"},
		{"1, 3", []dhcpv4.Option{mask, router}, "10.0.0.5/20 via 10.0.0.1 [0.0.0.0/0 via 10.0.0.1 mtu 0] {[]  [] []}"},
		{"33, without a default route, which it must not have", []dhcpv4.Option{mask, router, static}, "10.0.0.5/20 via 10.0.0.1 " +
			"[192.168.7.0/24 via 10.0.0.3 mtu 0 0.0.0.0/0 via 10.0.0.1 mtu 0] {[]  [] []}"},
		{"121 in place of all", []dhcpv4.Option{mask, router, static, classless}, "10.0.0.5/20 via 10.0.0.1 " +
			"[0.0.0.0/0 via 10.0.0.9 mtu 0 172.16.0.0/12 via <nil> mtu 0] {[]  [] []}"},
		{"26", []dhcpv4.Option{mask, router, mtu(5, 20)}, "10.0.0.5/20 via 10.0.0.1 [0.0.0.0/0 via 10.0.0.1 mtu 1300] {[]  [] []}"},
		{"26, too little", []dhcpv4.Option{mask, router, mtu(0, 67)}, "10.0.0.5/20 via 10.0.0.1 [0.0.0.0/0 via 10.0.0.1 mtu 0] {[]  [] []}"},
		{"26, no number", []dhcpv4.Option{mask, router, mtu(5)}, "10.0.0.5/20 via 10.0.0.1 [0.0.0.0/0 via 10.0.0.1 mtu 0] {[]  [] []}"},
		{"6, 15, 119", []dhcpv4.Option{
			mask, dhcpv4.OptDNS(net.IPv4(10, 0, 0, 53), net.IPv4(10, 0, 0, 54)), dhcpv4.OptDomainName("example.org"),
			dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: []string{"a.example", "b.example"}}),
		}, "10.0.0.5/20 via <nil> [] {[10.0.0.53 10.0.0.54] example.org [a.example b.example] []}"},
	} {
		res := (&Wishes{}).result(ack(t, tt.options...))
		routes := []string{}
		for _, r := range res.Routes {
			routes = append(routes, fmt.Sprintf("%s via %s mtu %d", r.Dst.String(), r.GW, r.MTU))
		}
		got := fmt.Sprintf("%s via %s %v %v", res.IPs[0].Address.String(), res.IPs[0].Gateway, routes, res.DNS)
		if got != tt.want {
			t.Errorf("%s:\n%s, want\n%s", tt.name, got, tt.want)
		}
	}
}

func TestARenewalKeepsWhatTheServerDoesNotRepeat(t *testing.T) {
	t.Parallel()
	first := ack(t, dhcpv4.OptSubnetMask(net.CIDRMask(20, 32)), dhcpv4.OptRouter(net.IPv4(10, 0, 0, 1)), dhcpv4.OptRenewTimeValue(time.Second))
	again := ack(t, dhcpv4.OptRouter(net.IPv4(10, 0, 0, 2)))
	inherit(again, first)
	if a := address(again); a.String() != "10.0.0.5/20" || !gateway(again).Equal(net.IPv4(10, 0, 0, 2)) || again.IPAddressRenewalTime(0) != 0 {
		t.Errorf("it is\n%s", again.Summary())
	}
}

func TestWishesAreToldToTheServer(t *testing.T) {
	t.Parallel()
	byDefault := []byte{1, 3, 6, 12, 15, 26, 33, 42, 51, 54, 119, 121}
	for _, tt := range []struct {
		name   string
		wishes Wishes
		option uint8
		want   []byte
	}{
		{"identifier", Wishes{}, 61, []byte("\x00id")},
		{"by default", Wishes{}, 55, byDefault},
		{"request", Wishes{Request: []Request{{Option: "252"}}}, 55, append([]byte{252}, byDefault...)},
		{"skipDefault", Wishes{Request: []Request{{Option: "routers"}, {SkipDefault: true}, {Option: "subnet-mask"}}}, 55, []byte{3, 1}},
		{"provide", Wishes{Provide: []Provide{{Option: "vendor-class-identifier", Value: "v"}}}, 60, []byte("v")},
		{"provide by number", Wishes{Provide: []Provide{{Option: "77", Value: "v"}}}, 77, []byte("v")},
		{"identifier of one's own", Wishes{Provide: []Provide{{Option: "dhcp-client-identifier", Value: "x"}}}, 61, []byte("x")},
		{"fromArg", Wishes{Provide: []Provide{{Option: "host-name", FromArg: "K8S_POD_NAME", Value: "other"}}}, 12, []byte("web-0")},
		{"fromArg that is not there", Wishes{Provide: []Provide{{Option: "host-name", FromArg: "NO", Value: "other"}}}, 12, []byte("other")},
		{"neither", Wishes{Provide: []Provide{{Option: "host-name", FromArg: "NO"}}}, 12, nil},
	} {
		m, err := dhcpv4.New(tt.wishes.modifiers("id", map[string]string{"K8S_POD_NAME": "web-0"})...)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Options.Get(dhcpv4.GenericOptionCode(tt.option)); !bytes.Equal(got, tt.want) {
			t.Errorf("%s: option %d is %q, want %q", tt.name, tt.option, got, tt.want)
		}
	}
}

func TestFilesThatAreNoLeasesAreRemoved(t *testing.T) {
	t.Parallel()
	dir := record.Folder(t.TempDir())
	good := &saved{Owner: owner.Owner{Network: "net", ContainerID: "a", IfName: "eth0"}, Family: IPv4, Granted: ack(t).ToBytes()}
	if err := good.write(dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"bad.json": "{", "empty.json": "", "other.json": `{"family": "ipv4", "granted": "AAAA"}`} {
		if err := os.WriteFile(filepath.Join(string(dir), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := readAll(dir)
	if len(all) != 1 || all[0].Owner != good.Owner || err == nil {
		t.Errorf("read %v, %v", all, err)
	}
	if names, err := dir.Names(ending); err != nil || !slices.Equal(names, []string{good.file()}) {
		t.Errorf("left are %v, %v", names, err)
	}
}

func TestWordIsHeededOnce(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "run", "dhcp.sock")
	gone := owner.Owner{Network: "net", ContainerID: "a", IfName: "eth0"}
	if LeaveWord(socket, gone) {
		t.Error("word is left where no daemon can have been")
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	if !LeaveWord(socket, gone) {
		t.Error("no word is left")
	}
	var released []owner.Owner
	for range 2 {
		heed(socket, func(o owner.Owner) { released = append(released, o) })
	}
	if !slices.Equal(released, []owner.Owner{gone}) {
		t.Errorf("released %v", released)
	}
}

// A reply that is made as a server's arrives whole; whatever else comes, nothing breaks.
func FuzzParseReply(f *testing.F) {
	reply := udpPacket(net.IPv4(10, 0, 0, 1), net.IPv4bcast, ack(f, dhcpv4.OptRouter(net.IPv4(10, 0, 0, 1))).ToBytes())
	f.Add(reply)
	f.Add(reply[:30])
	f.Add(append([]byte{0x4f}, reply[1:]...))
	f.Fuzz(func(_ *testing.T, packet []byte) {
		m := parseReply(packet)
		if m == nil || !usable(m) {
			return
		}
		(&Wishes{}).result(m)
		times(m, time.Now())
		prefixOf(address(m))
	})
}

func FuzzSaved(f *testing.F) {
	f.Add([]byte(`{"owner": {"Network": "net", "ContainerID": "a", "IfName": "eth0"}, "family": "ipv4", "granted": "AAAA", "t1": "2026-01-01T00:00:00Z"}`), []byte(`{"name": "net", "ipam": {"request": [{"option": "1"}]}}`))
	f.Fuzz(func(t *testing.T, text, conf []byte) {
		dir := record.Folder(t.TempDir())
		if err := dir.Write("x.json", text); err != nil {
			t.Fatal(err)
		}
		if all, _ := readAll(dir); len(all) > 0 && all[0].file() != "x.json" {
			t.Errorf("read as %v", all[0])
		}
		if l, err := (&DHCP{}).lease(saved{Family: IPv4, Conf: conf}); err == nil && l.wishes.Check() == nil {
			w := &l.wishes
			if _, err := dhcpv4.New(w.modifiers("id", nil)...); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestAReplyIsReadFromItsPacket(t *testing.T) {
	t.Parallel()
	packet := udpPacket(net.IPv4(10, 0, 0, 1), net.IPv4bcast, ack(t).ToBytes())
	if m := parseReply(packet); m == nil || !m.YourIPAddr.Equal(net.IPv4(10, 0, 0, 5)) {
		t.Errorf("read %v", m)
	}
	if sum := netutil.Checksum(packet[:20]); sum != 0 {
		t.Errorf("the header's checksum is off by %x", sum)
	}
}
