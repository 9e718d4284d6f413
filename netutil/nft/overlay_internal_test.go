package nft

import (
	"net/netip"
	"reflect"
	"testing"
)

// Whatever stands in a record of an overlay makes elements of its sets alone, and is written as it was read.
func FuzzOverlayRecord(f *testing.F) {
	f.Add((&Overlay{Network: "n", Port: 4789, Peers: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Subnets: []netip.Prefix{netip.MustParsePrefix("fd00::/64")}}).text())
	f.Add("overlay n 4789 42 vxlan42\nlocal 10.0.0.0/8\ndirect fd00::/64\nend\n")
	f.Add("overlay n 65535\n255.255.255.255/0\nend\n")
	f.Fuzz(func(t *testing.T, text string) {
		o, ok := parseOverlay(text)
		if !ok {
			return
		}
		if again, ok := parseOverlay(o.text()); !ok || !reflect.DeepEqual(again, o) {
			t.Errorf("%q reads as %+v, and written again as %+v, %v", text, o, again, ok)
		}
		for _, e := range o.elements(newLayout().inet) {
			if e.set == nil || len(e.key) != size(e.set.key) {
				t.Errorf("%q makes %+v", text, e)
			}
		}
	})
}
