package netutil

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// A link that the kernel takes down and up loses its routes and its IPv6 addresses. All come back as they were, those of the main table in
// another if that is wanted.
func TestWhatALinkLosesIsPutBack(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]uint32{"in the main table": unix.RT_TABLE_MAIN, "in another": 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := nstest.New(t, "pod")
			ns.Run("sh", "-ec", `
				ip link add eth0 type veth peer name p0
				ip link add other type veth peer name p1
				ip link set p0 up; ip link set p1 up; ip link set other up; ip link set eth0 up
				ip addr add 10.1.0.2/24 dev eth0
				ip addr add fd01::2/64 dev eth0 nodad
				ip addr add fd02::2/128 dev eth0 nodad noprefixroute preferred_lft 0
				ip route add default via 10.1.0.1 metric 7
				ip route add 10.2.0.0/16 via 10.77.0.1 dev eth0 onlink
				ip route add 10.3.0.0/16 dev eth0 mtu 1300 advmss 1200 src 10.1.0.2
				ip route add 10.4.0.0/16 dev eth0 table 77
				ip route add 10.5.0.0/16 dev other
				ip -6 route add default via fd01::1
				ip -6 route add fd04::/64 via fe80::9 dev eth0 metric 5
				ip -6 route add fd03::/64 dev eth0 table 77`)
			routes := func(table string) (out []string) {
				for _, family := range []string{"-4", "-6"} {
					for line := range strings.Lines(ns.Run("ip", family, "route", "show", "table", table, "dev", "eth0")) {
						if !strings.Contains(line, "proto kernel") {
							out = append(out, strings.TrimSpace(line))
						}
					}
				}
				slices.Sort(out)
				return out
			}
			addrs := func() string {
				return ns.Run("ip", "-6", "-br", "addr", "show", "dev", "eth0") + ns.Run("ip", "-6", "addr", "show", "dev", "eth0", "scope", "global")
			}
			before, apart, had := routes("main"), routes("77"), addrs()
			if len(before) != 5 || len(apart) != 2 {
				t.Fatalf("routes %q and %q", before, apart)
			}
			n, err := Open(ns.Path)
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			l, err := n.findLink("eth0")
			if err != nil {
				t.Fatal(err)
			}
			j := &belongings{link: l}
			if err := j.collect(n); err != nil {
				t.Fatal(err)
			}
			ns.Run("ip", "link", "set", "eth0", "down")
			ns.Run("ip", "link", "set", "eth0", "up")
			if got := append(routes("main"), routes("77")...); len(got) != 0 {
				t.Fatalf("routes left: %q", got)
			}
			for range 2 { // what is there already is no error
				if err := j.putBack(n, unix.RT_TABLE_MAIN, table); err != nil {
					t.Fatal(err)
				}
			}
			where := map[uint32]string{unix.RT_TABLE_MAIN: "main", 10: "10"}[table]
			if got := routes(where); !slices.Equal(got, before) {
				t.Errorf("routes\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(before, "\n"))
			}
			if got := routes("77"); !slices.Equal(got, apart) {
				t.Errorf("routes %q, want %q", got, apart)
			}
			if got := addrs(); got != had {
				t.Errorf("addresses\n%s\nwant\n%s", got, had)
			}
		})
	}
}

// A table that a rule or a route of either family has is not free.
func TestFreeTable(t *testing.T) {
	t.Parallel()
	ns := nstest.New(t, "pod")
	ns.Run("sh", "-ec", `ip link add eth0 type veth peer name p0; ip link set eth0 up
		ip route add 10.1.0.0/16 dev eth0 table 1; ip -6 route add fd01::/64 dev eth0 table 2
		ip rule add from 10.1.0.1 table 4; ip -6 rule add from fd01::1 table 5`)
	n, err := Open(ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, c := range []struct {
		vrfs []vrf
		want uint32
	}{{nil, 3}, {[]vrf{{table: 3}, {table: 6}}, 7}} {
		if got, err := freeTable(n, c.vrfs, 1); got != c.want || err != nil {
			t.Errorf("beside %v: table %d (%v), want %d", c.vrfs, got, err, c.want)
		}
	}
}
