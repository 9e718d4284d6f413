package dhcpv6_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	library "github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/cnibox/cnibox/ipam/dhcp/dhcpv6"
)

var ourDUID = dhcpv6.UUID([16]byte{1, 2, 3, 15: 16})

// asked is a message with all that a client sends.
func asked(kind dhcpv6.Type) *dhcpv6.Message {
	m := dhcpv6.New(kind)
	m.ClientID, m.ServerID = ourDUID, dhcpv6.DUID{0, 2, 's', 'e', 'r', 'v', 'e', 'r'}
	m.Associations = []dhcpv6.Association{{ID: [4]byte{0, 0, 0, 1}, T1: time.Second, T2: dhcpv6.Infinity, Addresses: []dhcpv6.Address{
		{Addr: netip.MustParseAddr("fd00::5")}, {netip.MustParseAddr("fd00::6"), time.Hour, dhcpv6.Infinity},
	}}}
	m.Requested = []dhcpv6.Option{dhcpv6.OptionDNS, dhcpv6.OptionSearchList, dhcpv6.OptionRefreshTime, dhcpv6.OptionSolMaxRT}
	return m
}

// answered is a server's message with all that a client reads, and more, as the library writes it.
func answered(t testing.TB, kind library.MessageType) *library.Message {
	t.Helper()
	m, err := library.NewMessage()
	if err != nil {
		t.Fatal(err)
	}
	m.MessageType = kind
	ia := &library.OptIANA{IaId: [4]byte{0, 0, 0, 1}, T1: time.Second, T2: time.Minute}
	for _, a := range []string{"fd00::5", "fd00::6"} {
		addr := &library.OptIAAddress{IPv6Addr: net.ParseIP(a), PreferredLifetime: time.Hour, ValidLifetime: (1<<32 - 1) * time.Second}
		addr.Options.Add(&library.OptStatusCode{StatusCode: iana.StatusUseMulticast})
		ia.Options.Add(addr)
	}
	failed := &library.OptIANA{IaId: [4]byte{9}}
	failed.Options.Add(&library.OptStatusCode{StatusCode: iana.StatusNoBinding, StatusMessage: "none"})
	for _, o := range []library.Option{
		library.OptClientID(&library.DUIDUUID{UUID: [16]byte(ourDUID[2:])}), library.OptServerID(&library.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{1, 2, 3, 4, 5, 6}}),
		ia, failed, library.OptPreference(7), &library.OptStatusCode{StatusCode: iana.StatusNotOnLink, StatusMessage: "elsewhere"},
		library.OptDNS(net.ParseIP("fd00::53"), net.ParseIP("fd00::54")), library.OptDomainSearchList(&rfc1035label.Labels{Labels: []string{"a.example", "b_2.example-3"}}),
		library.OptInformationRefreshTime(time.Hour), library.OptElapsedTime(time.Second), &library.OptionGeneric{OptionCode: 999, OptionData: []byte{1}},
	} {
		m.AddOption(o)
	}
	return m
}

// sameAsLibrary compares what is read with what the library reads.
func sameAsLibrary(t *testing.T, got *dhcpv6.Message, want *library.Message) {
	t.Helper()
	same := func(what string, got, want any) {
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: read %v, the library reads %v", what, got, want)
		}
	}
	same("type", byte(got.Type), byte(want.MessageType))
	same("transaction", got.Transaction, [3]byte(want.TransactionID))
	same("client", []byte(got.ClientID), duidBytes(want.Options.ClientID()))
	same("server", []byte(got.ServerID), duidBytes(want.Options.ServerID()))
	same("preference", got.Preference, want.Options.Preference())
	same("status", uint16(got.Status), codeOf(want.Options.Status()))
	const absent = 12345 * time.Hour
	if r := want.Options.InformationRefreshTime(absent); r == absent {
		same("refresh time", got.RefreshTime, 0*time.Second)
	} else {
		same("refresh time", got.RefreshTime, max(r, dhcpv6.LeastRefreshTime))
	}
	same("DNS", got.DNS, want.Options.DNS())
	if list := want.Options.DomainSearchList(); list != nil && got.Search != nil {
		same("search list", got.Search, slices.DeleteFunc(list.Labels, func(s string) bool { return s == "" }))
	}
	var have, wanted []string
	for _, ia := range got.Associations {
		have = append(have, fmt.Sprint(ia.ID, ia.T1, ia.T2, uint16(ia.Status)))
		for _, a := range ia.Addresses {
			have = append(have, fmt.Sprint(net.IP(a.Addr.AsSlice()), a.Preferred, a.Valid))
		}
	}
	for _, ia := range want.Options.IANA() {
		wanted = append(wanted, fmt.Sprint(ia.IaId, ia.T1, ia.T2, codeOf(ia.Options.Status())))
		for _, a := range ia.Options.Addresses() {
			wanted = append(wanted, fmt.Sprint(a.IPv6Addr, a.PreferredLifetime, a.ValidLifetime))
		}
	}
	same("associations", have, wanted)
}

func duidBytes(d library.DUID) []byte {
	if d == nil {
		return nil
	}
	return d.ToBytes()
}

func codeOf(s *library.OptStatusCode) uint16 {
	if s == nil {
		return 0
	}
	return uint16(s.StatusCode)
}

func TestTheLibraryReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	for _, kind := range []dhcpv6.Type{dhcpv6.Solicit, dhcpv6.Request, dhcpv6.Renew, dhcpv6.Rebind, dhcpv6.Release, dhcpv6.InformationRequest} {
		m := asked(kind)
		read, err := library.MessageFromBytes(m.Bytes(1234 * time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		sameAsLibrary(t, m, read)
		if got, want := fmt.Sprint(read.Options.RequestedOptions()), "DNS, Domain Search List, Information Refresh Time, Max Solicit Timeout Value"; got != want {
			t.Errorf("requested %s, want %s", got, want)
		}
		if got := read.Options.ElapsedTime(); got != 1230*time.Millisecond {
			t.Errorf("elapsed time %s", got)
		}
	}
}

// The types and codes are the library's, and statuses have the same names.
func TestNumbersAreTheLibrarys(t *testing.T) {
	t.Parallel()
	for got, want := range map[dhcpv6.Type]library.MessageType{
		dhcpv6.Solicit: library.MessageTypeSolicit, dhcpv6.Advertise: library.MessageTypeAdvertise, dhcpv6.Request: library.MessageTypeRequest,
		dhcpv6.Renew: library.MessageTypeRenew, dhcpv6.Rebind: library.MessageTypeRebind, dhcpv6.Reply: library.MessageTypeReply,
		dhcpv6.Release: library.MessageTypeRelease, dhcpv6.InformationRequest: library.MessageTypeInformationRequest,
	} {
		if byte(got) != byte(want) {
			t.Errorf("%s is %d, want %d", want, got, want)
		}
	}
	for s := dhcpv6.Success; s <= dhcpv6.NoPrefixAvail; s++ {
		if got, want := s.String(), iana.StatusCode(s).String(); got != want {
			t.Errorf("status %d is %s, want %s", s, got, want)
		}
	}
	if got := dhcpv6.Status(99).String(); got != "status 99" {
		t.Errorf("status 99 is %s", got)
	}
}

func TestTheElapsedTimeHasAnEnd(t *testing.T) {
	t.Parallel()
	for elapsed, want := range map[time.Duration][]byte{-time.Second: {0, 0}, 10 * time.Millisecond: {0, 1}, time.Hour: {0xff, 0xff}} {
		if b := asked(dhcpv6.Solicit).Bytes(elapsed); !bytes.HasSuffix(b, append([]byte{0, 8, 0, 2}, want...)) {
			t.Errorf("%s: % x", elapsed, b)
		}
	}
}

func TestWhatTheLibraryWritesIsRead(t *testing.T) {
	t.Parallel()
	for _, kind := range []library.MessageType{library.MessageTypeAdvertise, library.MessageTypeReply} {
		want := answered(t, kind)
		got, err := dhcpv6.Parse(want.ToBytes())
		if err != nil {
			t.Fatal(err)
		}
		sameAsLibrary(t, got, want)
		if got.Search == nil || !bytes.Equal(got.Packet, want.ToBytes()) {
			t.Errorf("read %+v", got)
		}
	}
}

// A message that ends anywhere else than between two options is none.
func TestAMessageThatIsCutIsNone(t *testing.T) {
	t.Parallel()
	whole := answered(t, library.MessageTypeReply).ToBytes()
	ends := map[int]bool{4: true}
	for at := 4; at < len(whole); {
		at += 4 + int(whole[at+2])<<8 + int(whole[at+3])
		ends[at] = true
	}
	for n := range len(whole) {
		if _, err := dhcpv6.Parse(whole[:n]); (err == nil) != ends[n] {
			t.Errorf("of %d bytes: %v", n, err)
		}
	}
}

// option is one in a message.
func option(o dhcpv6.Option, value ...byte) []byte {
	return append([]byte{byte(o >> 8), byte(o), byte(len(value) >> 8), byte(len(value))}, value...)
}

func TestAMessageWithAMalformedOptionIsNone(t *testing.T) {
	t.Parallel()
	association := func(options ...byte) []byte {
		return option(dhcpv6.OptionIANA, append(make([]byte, 12), options...)...)
	}
	for name, options := range map[string][]byte{
		"empty DUID":                option(dhcpv6.OptionClientID),
		"DUID of a type alone":      option(dhcpv6.OptionServerID, 0, 4),
		"DUID that is too long":     option(dhcpv6.OptionServerID, make([]byte, 131)...),
		"preference of two bytes":   option(dhcpv6.OptionPreference, 1, 2),
		"status of a byte":          option(dhcpv6.OptionStatusCode, 1),
		"refresh time of a byte":    option(dhcpv6.OptionRefreshTime, 1),
		"half a name server":        option(dhcpv6.OptionDNS, make([]byte, 24)...),
		"half an association":       option(dhcpv6.OptionIANA, make([]byte, 11)...),
		"association, half a code":  association(0),
		"association, half a value": association(0, 13, 0, 2, 0),
		"association, status":       association(option(dhcpv6.OptionStatusCode, 1)...),
		"half an address":           association(option(dhcpv6.OptionIAAddress, make([]byte, 23)...)...),
	} {
		if m, err := dhcpv6.Parse(append([]byte{7, 1, 2, 3}, options...)); err == nil {
			t.Errorf("%s: read %+v", name, m)
		}
	}
}

func TestOfAnOptionThatMayBeThereOnceTheFirstCounts(t *testing.T) {
	t.Parallel()
	m, err := dhcpv6.Parse(slices.Concat([]byte{7, 1, 2, 3}, option(dhcpv6.OptionPreference, 5), option(dhcpv6.OptionPreference, 6)))
	if err != nil || m.Preference != 5 {
		t.Errorf("read %+v (%v)", m, err)
	}
}

func TestARefreshTimeIsAtLeastTheRFCs(t *testing.T) {
	t.Parallel()
	m, err := dhcpv6.Parse(slices.Concat([]byte{7, 1, 2, 3}, option(dhcpv6.OptionRefreshTime, 0, 0, 0, 0)))
	if err != nil || m.RefreshTime != 10*time.Minute {
		t.Errorf("read %+v (%v)", m, err)
	}
}

// The message is read out of a buffer that the next one will be in.
func TestAMessageKeepsNothingOfTheBuffer(t *testing.T) {
	t.Parallel()
	buf := answered(t, library.MessageTypeReply).ToBytes()
	got, err := dhcpv6.Parse(buf)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := dhcpv6.Parse(slices.Clone(buf))
	clear(buf)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, and then %+v", want, got)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	long := func(labels ...int) (s string) {
		for _, n := range labels {
			s += string(rune(n)) + strings.Repeat("a", n)
		}
		return s + "\x00"
	}
	for _, tt := range []struct{ in, want string }{
		{"", "[]"},
		{"\x01a\x07example\x00", "[a.example]"},
		{"\x01a\x00\x01B\x02-_\x00", "[a B.-_]"},
		{"\x01a\x00\x00\x00\x00", "[a]"},
		{"\x00\x01a\x00", "[a]"},
		{"\x01a\x01b", "[a.b]"},
		{"\x01", "malformed"},
		{"\x02a\x00", "malformed"},
		{"\x01a\x00\xc0\x00", "malformed"}, // a pointer
		{"\x01a\xc0\x00", "malformed"},
		{"\x40" + strings.Repeat("a", 64) + "\x00", "malformed"},
		{"\x01\n\x00", "malformed"},
		{"\x03a.b\x00", "malformed"},
		{"\x02a \x00", "malformed"},
		{"\x01\x00\x00", "malformed"},
		{long(63, 63, 63, 61), fmt.Sprintf("[%[1]s.%[1]s.%[1]s.%[2]s]", strings.Repeat("a", 63), strings.Repeat("a", 61))},
		{long(63, 63, 63, 62), "malformed"},
	} {
		names, err := dhcpv6.Names([]byte(tt.in))
		got := fmt.Sprint(names)
		if err != nil {
			got = "malformed"
		}
		if got != tt.want {
			t.Errorf("%q: read %s, want %s", tt.in, got, tt.want)
		}
	}
}

// FuzzParse compares with the library whatever both can read. What a client reads of a server, it can write.
func FuzzParse(f *testing.F) {
	f.Add(answered(f, library.MessageTypeReply).ToBytes())
	f.Add(asked(dhcpv6.Renew).Bytes(time.Second))
	f.Add(append([]byte{7, 1, 2, 3}, option(dhcpv6.OptionSearchList, 1, 'a', 0xc0, 0)...))
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, err := dhcpv6.Parse(packet)
		if err != nil {
			return
		}
		if want, err := library.MessageFromBytes(packet); err == nil {
			sameAsLibrary(t, m, want)
		}
		again, err := dhcpv6.Parse(m.Bytes(0))
		if m.ClientID == nil {
			return // every client has one
		}
		if err != nil || !bytes.Equal(again.ServerID, m.ServerID) || !reflect.DeepEqual(withoutStatus(again.Associations), withoutStatus(m.Associations)) {
			t.Errorf("read %+v, and after it was written %+v (%v)", m, again, err)
		}
	})
}

func withoutStatus(in []dhcpv6.Association) []dhcpv6.Association {
	out := slices.Clone(in)
	for i := range out {
		out[i].Status = dhcpv6.Success
	}
	return out
}

func FuzzNames(f *testing.F) {
	f.Add([]byte("\x01a\x07example\x00\x01b\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := dhcpv6.Names(b)
		if err != nil {
			return
		}
		for _, n := range names {
			if n == "" || len(n) > 253 || strings.ContainsAny(n, " \n\x00") {
				t.Errorf("%q", n)
			}
		}
		if want, err := rfc1035label.FromBytes(b); err == nil {
			if got := slices.DeleteFunc(want.Labels, func(s string) bool { return s == "" }); !slices.Equal(got, names) {
				t.Errorf("read %q, the library reads %q", names, got)
			}
		}
	})
}
