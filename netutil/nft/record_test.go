package nft

import (
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/owner"
)

var recordOwnerInTest = owner.Owner{Network: "mynet", ContainerID: "4b1f", IfName: "eth0"}

func TestRecordsReadAsWritten(t *testing.T) {
	t.Parallel()
	a4, a6 := netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("fd00::5")
	s4, s6 := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/64")
	conditions := []Condition{{Key: "saddr", Value: "192.0.2.0/24", Negate: true}, {Key: "iifname", Value: "en*"}, {Key: "mark", Value: "0x1/0xff"}}
	for f, entries := range map[Feature][]Entry{
		Masquerade: {MasqueradeEntry{a4, s4}, MasqueradeEntry{a6, s6}},
		PortMap: {
			PortEntry{Protocol: unix.IPPROTO_TCP, HostPort: 8080, Addr: a4, Port: 80},
			PortEntry{Protocol: unix.IPPROTO_UDP, HostIP: netip.MustParseAddr("::1"), HostPort: 1, Addr: a6, Port: 65535, Conditions: conditions},
			SourceNATEntry{a4, s4, true},
			SourceNATEntry{a6, s6, false},
			SourceNATEntry{Addr: a6, All: true},
		},
		SpoofCheck: {SpoofCheckEntry{"veth0", net.HardwareAddr{2, 0, 0, 0, 0, 1}}},
		Forward: {
			ForwardEntry{Addr: a4, Link: "br0", Subnet: s4, Admin: "CNI-ADMIN", Legacy: true},
			ForwardEntry{Addr: a6, Subnet: s6, Zone: "trusted"},
			IngressEntry{a4, "br0"},
			IngressEntry{a6, ""},
		},
		Isolation: {IsolateEntry{"veth0"}},
	} {
		text := encodeRecord(recordOwnerInTest, f, append(entries, everyOther(f)...))
		got, ok := decodeRecord(text)
		if want := (recorded{recordOwnerInTest, f, entries}); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\nreads as %+v, %v; want %+v", text, got, ok, want)
		}
		for cut := range len(text) - 1 { // somebody died over it
			if _, ok := decodeRecord(text[:cut]); ok {
				t.Errorf("%q is taken for whole", text[:cut])
			}
		}
	}
}

// everyOther is an entry of another feature.
func everyOther(f Feature) []Entry {
	if f == Isolation {
		return []Entry{MasqueradeEntry{}}
	}
	return []Entry{IsolateEntry{"x"}}
}

func FuzzRecord(f *testing.F) {
	f.Add(encodeRecord(recordOwnerInTest, Isolation, []Entry{IsolateEntry{"veth0"}}))
	f.Add("attachment n c i 2\nport 6 - 80 10.0.0.1 80 saddr true 10.0.0.0/8\nsnat fd00::1 fd00::/64 true\nend\n")
	f.Add("attachment n c i 4\nforward 10.0.0.1 10.0.0.0/24 br0 - trusted false\ningress 10.0.0.1 -\nend\n")
	f.Add("attachment n c " + strings.Repeat("i", 300) + " 5\nisolate veth0\nend\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := decodeRecord(text)
		if !ok {
			return
		}
		again, ok := decodeRecord(encodeRecord(r.owner, r.feature, r.entries))
		if !ok || !reflect.DeepEqual(again, r) {
			t.Errorf("%q reads as %+v, and written again as %+v, %v", text, r, again, ok)
		}
		if w, err := newLayout().wanted(r.owner, r.entries); err == nil {
			for _, e := range w.elements {
				if e.set == nil || len(e.key) == 0 {
					t.Errorf("%s makes an element of no set", strings.TrimSpace(text))
				}
			}
		}
	})
}
