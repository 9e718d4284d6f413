package overlay

import (
	"net/netip"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// FuzzParsePeers reads any list: a refusal has a code for just that, and what is accepted comes to entries that the kernel has room for, and is kept
// as it was.
func FuzzParsePeers(f *testing.F) {
	f.Add(`[{"name": "a", "underlay": ["192.0.2.1", "2001:db8::1"], "subnets": ["10.1.0.0/24", "fd00:1::/64"], "mac": "02:00:00:00:00:01"}]`)
	f.Add(`[{"name": "a", "underlay": ["::ffff:192.0.2.1"], "subnets": ["10.1.0.0/24"]}, {"name": "b", "underlay": ["192.0.2.2"], "subnets": ["10.1.0.128/25"]}]`)
	f.Add(`[null]`)
	f.Add(`[{"name": "a", "underlay": ["192.0.2.1"]}]`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, bridge := range []string{"", "br0"} {
			c := &Config{Network: "n", VNI: 1, Port: 1, Subnets: []netip.Prefix{netip.MustParsePrefix("10.255.0.0/24")}, Bridged: Bridged{Bridge: bridge}}
			fuzzPeers(t, c, text)
		}
	})
}

func fuzzPeers(t *testing.T, c *Config, text string) {
	t.Helper()
	if err := c.ParsePeers("peers", []byte(text)); err != nil {
		if errcode.Of(err) != errcode.InvalidConfig {
			t.Fatalf("code %d: %v", errcode.Of(err), err)
		}
		return
	}
	for i := range c.Peers {
		if again, err := parseAgain(&c.Peers[i]); err != nil || again.Name != c.Peers[i].Name || len(again.Subnets) != len(c.Peers[i].Subnets) {
			t.Errorf("%+v is kept as %+v, %v", c.Peers[i], again, err)
		}
	}
	u := &underlay{addr: netip.MustParseAddr("192.0.2.254"), link: &rtnl.Link{MTU: 1500, Name: "eth0"}}
	if d, err := c.desire(u); err == nil {
		for mac := range d.forwards {
			if len(macOf(mac)) != 6 {
				t.Errorf("a forwarding entry for %q", mac)
			}
		}
	} else if errcode.Of(err) != errcode.InvalidConfig {
		t.Fatalf("code %d: %v", errcode.Of(err), err)
	}
	(&desired{underlay: u}).filter(c)
}

func parseAgain(p *Peer) (Peer, error) {
	t := textOf(p)
	return t.parse("x")
}
