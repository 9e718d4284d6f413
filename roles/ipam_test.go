package roles

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// The routes that we read are those that the library reads.
func TestParseRoutes(t *testing.T) {
	t.Parallel()
	const text = `[
		{"dst":"0.0.0.0/0"}, {"dst":"::/0","gw":"fe80::1"}, {"dst":"10.0.0.5/8","gw":"::ffff:10.0.0.1"},
		{"dst":"10.1.0.0/16","mtu":1400,"advmss":1360,"priority":5,"table":0,"scope":253}
	]`
	var confs []RouteConf
	if err := json.Unmarshal([]byte(text), &confs); err != nil {
		t.Fatal(err)
	}
	got, err := ParseRoutes("ipam.routes", confs)
	if err != nil {
		t.Fatal(err)
	}
	var want []*types.Route
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("got %s, want %s", g, w)
	}
	if none, err := ParseRoutes("x", nil); none != nil || err != nil {
		t.Error(none, err)
	}
}

func TestBadRoutes(t *testing.T) {
	t.Parallel()
	bits := 33 // no constant: where an int has 32, it would not build
	big := 1 << bits
	for want, c := range map[string]RouteConf{
		"routes[1].dst: missing":                    {GW: "10.0.0.1"},
		`routes[1].dst: "default" is no`:            {Dst: "default"},
		`routes[1].dst: "10.0.0.0/33" is no`:        {Dst: "10.0.0.0/33"},
		`routes[1].gw: "10.0.0" is no`:              {Dst: "10.0.0.0/8", GW: "10.0.0"},
		`routes[1].gw: "fe80::1%eth0" is no`:        {Dst: "::/0", GW: "fe80::1%eth0"},
		"routes[1].mtu: -1 is not within":           {Dst: "::/0", MTU: -1},
		"routes[1].mtu: 65521 is not within 0 and":  {Dst: "::/0", MTU: 65521},
		"routes[1].advmss: 65496 is not within 0":   {Dst: "::/0", AdvMSS: 65496},
		"routes[1].priority: -1 is not within 0":    {Dst: "::/0", Priority: -1},
		"routes[1].table: 8589934592 is not within": {Dst: "::/0", Table: &big},
		"routes[1].scope: 8589934592 is not within": {Dst: "::/0", Scope: &big},
	} {
		_, err := ParseRoutes("routes", []RouteConf{{Dst: "0.0.0.0/0"}, c})
		if errcode.Of(err) != errcode.InvalidConfig || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestCheckFamilies(t *testing.T) {
	t.Parallel()
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for _, c := range []struct {
		version string
		addrs   []netip.Addr
		ok      bool
	}{
		{"0.2.0", []netip.Addr{v4, v6}, true},
		{"0.2.0", []netip.Addr{v4, v4}, false},
		{"0.1.0", []netip.Addr{v6, v4, v6}, false},
		{"0.3.0", []netip.Addr{v4, v4, v6, v6}, true},
	} {
		err := CheckFamilies("ipam.ranges", c.version, c.addrs)
		if (err == nil) != c.ok {
			t.Errorf("%s, %v: %v", c.version, c.addrs, err)
		}
	}
}
