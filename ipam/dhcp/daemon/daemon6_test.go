package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	library "github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/cnibox/cnibox/ipam/dhcp/dhcpv6"
	"github.com/cnibox/cnibox/netutil"
)

// advertised is a router's packet with the flags and options.
func advertised(flags byte, options ...[]byte) []byte {
	icmp := []byte{routerAdvertisement, 0, 0, 0, 64, flags, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, o := range options {
		icmp = append(icmp, o...)
	}
	return netutil.NeighborPacket(netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::1"), icmp)
}

func prefixOption(flags, valid byte, prefix string) []byte {
	return append([]byte{prefixInformation, 4, 64, flags, 0, 0, 0, valid, 0, 0, 0, 1, 0, 0, 0, 0}, netip.MustParseAddr(prefix).AsSlice()...)
}

func TestAnAdvertisementIsReadAsTheRFCsHaveIt(t *testing.T) {
	t.Parallel()
	servers := append([]byte{nameServers, 3, 0, 0, 0, 0, 0, 9}, netip.MustParseAddr("fd00::53").AsSlice()...)
	search := []byte{searchList, 3, 0, 0, 0, 0, 0, 9, 1, 'a', 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 0, 0, 0, 0, 0, 0}
	for _, tt := range []struct {
		name   string
		packet []byte
		want   string
	}{
		{"managed", advertised(0x80), "fe80::1 true false 30m0s [] [] []"},
		{"other", advertised(0x40), "fe80::1 false true 30m0s [] [] []"},
		{"prefix", advertised(0, prefixOption(0xc0, 9, "fd00:1::")), "fe80::1 false false 30m0s [fd00:1::/64] [] []"},
		{"prefix that is on the link alone", advertised(0, prefixOption(0x80, 9, "fd00:1::")), "fe80::1 false false 30m0s [] [] []"},
		{"prefix whose time is over", advertised(0, prefixOption(0xc0, 0, "fd00:1::")), "fe80::1 false false 30m0s [] [] []"},
		{"link-local prefix", advertised(0, prefixOption(0xc0, 9, "fe80::")), "fe80::1 false false 30m0s [] [] []"},
		{"servers and domains", advertised(0, servers, search), "fe80::1 false false 30m0s [] [fd00::53] [a.example]"},
		{"option that is not known", advertised(0, []byte{99, 1, 0, 0, 0, 0, 0, 0}, servers), "fe80::1 false false 30m0s [] [fd00::53] []"},
		{"option of no length", advertised(0, []byte{99, 0, 0, 0, 0, 0, 0, 0}), "none"},
		{"option beyond the end", advertised(0, []byte{99, 2, 0, 0, 0, 0, 0, 0}), "none"},
		{"cut", advertised(0)[:50], "none"},
		{"not from the link", netutil.NeighborPacket(netip.MustParseAddr("fd00::1"), netip.MustParseAddr("ff02::1"), advertised(0)[40:]), "none"},
	} {
		got := "none"
		if a := parseAdvertisement(tt.packet); a != nil {
			got = fmt.Sprint(a.from, a.managed, a.other, a.lifetime, a.prefixes, a.servers, a.search)
		}
		if got != tt.want {
			t.Errorf("%s: read %s, want %s", tt.name, got, tt.want)
		}
	}
}

// replied is a server's message with an association, as the library writes it.
func replied(t testing.TB, ia *library.OptIANA, more ...library.Option) *dhcpv6.Message {
	t.Helper()
	m, err := library.NewMessage()
	if err != nil {
		t.Fatal(err)
	}
	m.MessageType = library.MessageTypeReply
	m.AddOption(library.OptServerID(&library.DUIDOpaque{Type: library.DUID_EN, Data: []byte("server")}))
	if ia != nil {
		m.AddOption(ia)
	}
	for _, o := range more {
		m.AddOption(o)
	}
	got, err := dhcpv6.Parse(m.ToBytes())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func given(t1, t2, preferred, valid time.Duration) *library.OptIANA {
	ia := &library.OptIANA{IaId: association().ID, T1: t1, T2: t2}
	ia.Options.Add(&library.OptIAAddress{IPv6Addr: net.ParseIP("fd00::5"), PreferredLifetime: preferred, ValidLifetime: valid})
	return ia
}

func TestTimesOfIPv6AreTheServersOrThoseOfTheRFC(t *testing.T) {
	t.Parallel()
	const s = time.Second
	router := parseAdvertisement(advertised(0, prefixOption(0xc0, 255, "fd00:1::")))
	for _, tt := range []struct {
		name        string
		g           grant6
		t1, t2, end time.Duration
	}{
		{"all", grant6{reply: replied(t, given(10*s, 20*s, 30*s, 40*s))}, 10 * s, 20 * s, 40 * s},
		{"left to the client", grant6{reply: replied(t, given(0, 0, 30*s, 40*s))}, 15 * s, 24 * s, 40 * s},
		{"in the wrong order", grant6{reply: replied(t, given(90*s, 80*s, 30*s, 40*s))}, 40 * s, 40 * s, 40 * s},
		{"for ever", grant6{reply: replied(t, given((1<<32-1)*s, (1<<32-1)*s, (1<<32-1)*s, (1<<32-1)*s))}, (1<<32 - 1) * s, (1<<32 - 1) * s, (1<<32 - 1) * s},
		{"no address", grant6{reply: replied(t, nil)}, 24 * time.Hour, 42 * time.Hour, 48 * time.Hour},
		{"no address, soon", grant6{reply: replied(t, nil, library.OptInformationRefreshTime(s))}, 10 * time.Minute, 17*time.Minute + 30*s, 20 * time.Minute},
		{"the kernel's address", grant6{router: router}, 5 * time.Minute, 8*time.Minute + 45*s, 10 * time.Minute},
	} {
		now := time.Now()
		t1, t2, end := tt.g.times(now)
		if t1.Sub(now) != tt.t1 || t2.Sub(now) != tt.t2 || end.Sub(now) != tt.end {
			t.Errorf("%s: %s, %s, %s; want %s, %s, %s", tt.name, t1.Sub(now), t2.Sub(now), end.Sub(now), tt.t1, tt.t2, tt.end)
		}
	}
}

func TestAnAddressThatAServerDoesNotGiveIsNone(t *testing.T) {
	t.Parallel()
	refused := given(0, 0, time.Hour, time.Hour)
	refused.Options.Add(&library.OptStatusCode{StatusCode: iana.StatusNoBinding})
	others := given(0, 0, time.Hour, time.Hour)
	others.IaId = [4]byte{9}
	for name, m := range map[string]*dhcpv6.Message{
		"no association": replied(t, nil), "refused": replied(t, refused), "over": replied(t, given(0, 0, 0, 0)), "another association's": replied(t, others),
		"failed": replied(t, given(0, 0, time.Hour, time.Hour), &library.OptStatusCode{StatusCode: iana.StatusUnspecFail}),
	} {
		if _, addr, err := associationIn(m); err == nil {
			t.Errorf("%s: the address is %s", name, addr.Addr)
		}
	}
}

// Whatever comes, and whatever is on disk, nothing breaks, and what is saved is read as it was.
func FuzzGrant6(f *testing.F) {
	f.Add(advertised(0x80, prefixOption(0xc0, 9, "fd00:1::")), replied(f, given(1, 2, 3, 4)).Packet)
	f.Add(advertised(0, []byte{searchList, 2, 0, 0, 0, 0, 0, 9, 1, 'a', 0xc0, 8, 0, 0, 0, 0}), replied(f, nil).Packet)
	f.Fuzz(func(t *testing.T, packet, message []byte) {
		g := &grant6{router: parseAdvertisement(packet)}
		if g.router != nil {
			g.Router = g.router.packet
		}
		if m, err := dhcpv6.Parse(message); err == nil && m.ServerID != nil {
			g.reply, g.Reply = m, m.Packet
		}
		again, err := protocol6{}.parse(g.bytes())
		if err != nil {
			t.Fatal(err)
		}
		if again.address() != g.address() {
			t.Errorf("saved %s, read %s", g.address(), again.address())
		}
		again.times(time.Now())
		again.result(&Wishes{})
		_ = again.String()
	})
}
