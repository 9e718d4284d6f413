package roles

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
)

func ipOf(prefix, gateway string) IP {
	ip := IP{Prefix: netip.MustParsePrefix(prefix)}
	if gateway != "" {
		ip.Gateway = netip.MustParseAddr(gateway)
	}
	return ip
}

func result(t *testing.T, text string) *types100.Result {
	t.Helper()
	res, err := parseResult("1.1.0", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestIPsOf(t *testing.T) {
	t.Parallel()
	_, wide, _ := net.ParseCIDR("10.0.0.0/24")
	got, err := IPsOf([]*types100.IPConfig{
		{Address: net.IPNet{IP: net.ParseIP("10.0.0.5"), Mask: wide.Mask}, Gateway: net.ParseIP("10.0.0.1")}, // both in 16 bytes
		{Address: net.IPNet{IP: net.ParseIP("fd00::5"), Mask: net.CIDRMask(64, 128)}},
	})
	if err != nil || !slices.Equal(got, []IP{ipOf("10.0.0.5/24", "10.0.0.1"), ipOf("fd00::5/64", "")}) {
		t.Errorf("got %v, %v", got, err)
	}
	if s := got[0].Subnet().String(); s != "10.0.0.0/24" {
		t.Errorf("subnet %s", s)
	}
	address := net.IPNet{IP: net.IPv4(10, 0, 0, 5), Mask: net.CIDRMask(24, 32)}
	for want, c := range map[string]*types100.IPConfig{
		"ips: an entry is null":                  nil,
		"is no address with a prefix":            {},
		`"fd00::1" is no gateway for 10.0.0.5/2`: {Address: address, Gateway: net.ParseIP("fd00::1")},
		"is no gateway for":                      {Address: address, Gateway: net.IP{1, 2, 3}},
	} {
		if _, err := IPsOf([]*types100.IPConfig{c}); errcode.Of(err) != errcode.DelegateFailed || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestWithGateways(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ips  []IP
		want string // the gateways, or the error
	}{
		{[]IP{ipOf("10.0.0.5/24", ""), ipOf("fd00::5/64", "fe80::1"), ipOf("10.1.0.2/31", "")}, "[10.0.0.1 fe80::1 10.1.0.3]"},
		{[]IP{ipOf("10.0.0.5/32", "169.254.1.1"), ipOf("fd00::5/128", "fe80::1")}, "[169.254.1.1 fe80::1]"},
		{[]IP{ipOf("10.0.0.1/24", "10.0.0.254")}, "[10.0.0.254]"},
		{[]IP{ipOf("10.0.0.1/24", "")}, "ipam: the gateway of 10.0.0.1/24, 10.0.0.1, is an address of the container too"},
		{[]IP{ipOf("fd00::1/64", "")}, "ipam: the gateway of fd00::1/64, fd00::1, is an address of the container too"},
		{[]IP{ipOf("10.0.0.5/24", "10.0.0.5")}, "ipam: the gateway of 10.0.0.5/24, 10.0.0.5, is an address of the container too"},
		{[]IP{ipOf("10.0.0.5/24", ""), ipOf("10.0.0.1/24", "10.0.0.9")}, "ipam: the gateway of 10.0.0.5/24, 10.0.0.1, is an address of the container too"},
		{[]IP{ipOf("10.0.0.1/32", "")}, "ipam: 10.0.0.1/32 has no gateway, and its subnet no address left for one; it must be named"},
		{[]IP{ipOf("255.255.255.255/32", "")}, "ipam: 255.255.255.255/32 has no gateway, and its subnet no address left for one; it must be named"},
		{[]IP{ipOf("fd00::5/128", "")}, "ipam: fd00::5/128 has no gateway, and its subnet no address left for one; it must be named"},
	} {
		ips, err := WithGateways(slices.Clone(c.ips))
		if err != nil {
			if errcode.Of(err) != errcode.InvalidConfig || err.Error() != c.want {
				t.Errorf("%v: %v (code %d)", c.ips, err, errcode.Of(err))
			}
			continue
		}
		var got []netip.Addr
		for _, ip := range ips {
			got = append(got, ip.Gateway)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%v: %v, want %s", c.ips, got, c.want)
		}
	}
}

// routes is a list of routes as a test reads it.
func routes(list []*types.Route) string {
	var out []string
	for _, r := range list {
		out = append(out, fmt.Sprintf("%s %s", r.Dst.String(), r.GW))
	}
	return strings.Join(out, ", ")
}

func TestWithDefault(t *testing.T) {
	t.Parallel()
	ips := []IP{ipOf("10.0.0.5/24", ""), ipOf("10.1.0.5/24", "10.1.0.1"), ipOf("10.2.0.5/24", "10.2.0.1"), ipOf("fd00::5/64", "fd00::1")}
	table := 100
	for _, c := range []struct {
		routes string
		table  *int
		want   string
	}{
		{`[]`, nil, "0.0.0.0/0 10.1.0.1, ::/0 fd00::1"},
		{`[{"dst":"10.0.0.0/8"}]`, nil, "10.0.0.0/8 <nil>, 0.0.0.0/0 10.1.0.1, ::/0 fd00::1"},
		{`[{"dst":"0.0.0.0/0","gw":"10.0.0.9"}]`, nil, "0.0.0.0/0 10.0.0.9, ::/0 fd00::1"},
		{`[{"dst":"::/0"}]`, nil, "::/0 <nil>, 0.0.0.0/0 10.1.0.1"},
		{`[{"dst":"0.0.0.0/0"}]`, &table, "0.0.0.0/0 <nil>, 0.0.0.0/0 10.1.0.1, ::/0 fd00::1"}, // of another table
	} {
		var list []*types.Route
		if err := json.Unmarshal([]byte(c.routes), &list); err != nil {
			t.Fatal(err)
		}
		if c.table != nil {
			list[0].Table = c.table
		}
		if got := routes(WithDefault(list, ips)); got != c.want {
			t.Errorf("%s: %s, want %s", c.routes, got, c.want)
		}
	}
}

func TestPlanRoutes(t *testing.T) {
	t.Parallel()
	ips := []IP{ipOf("10.0.0.5/24", "10.0.0.1"), ipOf("fd00::5/64", "")}
	list := result(t, `{"routes":[{"dst":"0.0.0.0/0"},{"dst":"10.1.2.3/8","gw":"10.0.0.9","mtu":1400,"advmss":1360,"priority":7,"table":0,"scope":200},{"dst":"::/0"},`+
		`{"dst":"10.2.0.0/16","scope":253}]}`)
	got, err := PlanRoutes("eth0", list.Routes, ips)
	if err != nil || len(got) != 4 {
		t.Fatal(got, err)
	}
	if r := got[0]; r.Gateway.String() != "10.0.0.1" || r.Scope != 0 || r.Link != "eth0" {
		t.Errorf("the first address's gateway was to serve: %+v", r)
	}
	if r := got[1]; r.Dst.String() != "10.0.0.0/8" || r.Gateway.String() != "10.0.0.9" || r.MTU != 1400 || r.AdvMSS != 1360 || r.Priority != 7 || r.Scope != 200 {
		t.Errorf("attributes: %+v", r)
	}
	if r := got[2]; r.Gateway.IsValid() || r.Scope != unix.RT_SCOPE_LINK {
		t.Errorf("without a gateway of its family it is connected: %+v", r)
	}
	if r := got[3]; r.Gateway.IsValid() || r.Scope != unix.RT_SCOPE_LINK {
		t.Errorf("what is on the link needs no gateway: %+v", r)
	}
	for want, text := range map[string]string{`gw "fd00::1" does not fit dst 0.0.0.0/0`: `{"routes":[{"dst":"0.0.0.0/0","gw":"fd00::1"}]}`} {
		if _, err := PlanRoutes("eth0", result(t, text).Routes, ips); errcode.Of(err) != errcode.InvalidConfig || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestChained(t *testing.T) {
	t.Parallel()
	own := result(t, `{"interfaces":[{"name":"veth1"},{"name":"eth1","sandbox":"/x"}],"ips":[{"interface":1,"address":"10.1.0.5/24"},{"address":"fd00::5/64"}],"routes":[{"dst":"10.0.0.0/8"}]}`)
	if got := Chained(nil, own); got != own {
		t.Errorf("without a prevResult: %+v", got)
	}
	prev := result(t, `{"interfaces":[{"name":"eth0","mtu":1400}],"ips":[{"interface":0,"address":"10.0.0.5/24"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{"domain":"prev"}}`)
	before, _ := json.Marshal(prev)
	got, _ := json.Marshal(Chained(prev, own))
	want := `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","mtu":1400},{"name":"veth1"},{"name":"eth1","sandbox":"/x"}],` +
		`"ips":[{"interface":0,"address":"10.0.0.5/24"},{"interface":2,"address":"10.1.0.5/24"},{"address":"fd00::5/64"}],` +
		`"routes":[{"dst":"0.0.0.0/0"},{"dst":"10.0.0.0/8"}],"dns":{"domain":"prev"}}`
	if sorted(t, string(got)) != sorted(t, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	own.DNS.Domain = "own"
	if d := Chained(prev, own).DNS.Domain; d != "own" {
		t.Errorf("domain %s", d)
	}
	if after, _ := json.Marshal(prev); string(after) != string(before) || *own.IPs[0].Interface != 1 {
		t.Errorf("prevResult was %s, is %s", before, after)
	}
}

func TestAttached(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ prev, mac, ips, err string }{
		{
			prev: `{"interfaces":[{"name":"eth0"},{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/x"},{"name":"net1","sandbox":"/x"}],` +
				`"ips":[{"interface":2,"address":"10.9.0.5/24"},{"interface":1,"address":"10.0.0.5/24"},{"address":"fd00::5/64"}]}`,
			mac: "02:00:00:00:00:01", ips: "[{10.0.0.5/24 invalid IP} {fd00::5/64 invalid IP}]",
		},
		{prev: `{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.5/24"}}`, ips: "[{10.0.0.5/24 invalid IP}]"},
		{prev: `{"ips":[{"interface":5,"address":"10.0.0.5/24"}]}`, ips: "[{10.0.0.5/24 invalid IP}]"},
		{prev: `{"interfaces":[{"name":"eth0"}]}`, err: "prevResult: no interface eth0 in a sandbox"},
		{prev: `{"interfaces":[{"name":"net1","sandbox":"/x"}]}`, err: "prevResult: no interface eth0 in a sandbox"},
	} {
		r := &Request{Owner: owner.Owner{IfName: "eth0"}, Prev: result(t, c.prev)}
		iface, ips, err := Attached(r)
		if c.err != "" {
			if errcode.Of(err) != errcode.InvalidConfig || err.Error() != c.err {
				t.Errorf("%s: %v", c.prev, err)
			}
			continue
		}
		if err != nil || iface.Name != "eth0" || iface.Mac != c.mac || fmt.Sprint(ips) != c.ips {
			t.Errorf("%s: %+v, %v, %v", c.prev, iface, ips, err)
		}
	}
}

// answering is a delegate with one answer.
func answering(res *types100.Result, err error) *Delegate {
	return &Delegate{
		call: func(context.Context, string) (*types100.Result, error) { return res, err },
		undo: &netutil.Undo{},
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	var into types100.Result
	r := &Request{IPAM: answering(result(t, ipamResult), nil)}
	ips, err := askIPAM(context.Background(), r, &into)
	if err != nil || !slices.Equal(ips, []IP{ipOf("10.0.0.5/24", "10.0.0.1")}) || into.DNS.Domain != "x" || routes(into.Routes) != "0.0.0.0/0 <nil>" {
		t.Errorf("got %v, %v, %+v", ips, err, into)
	}
	r.IPAM = answering(&types100.Result{}, nil)
	if _, err := askIPAM(context.Background(), r, &into); errcode.Of(err) != errcode.DelegateFailed {
		t.Errorf("no address: %v", err)
	}
}

func TestPlansBySysctl(t *testing.T) {
	t.Parallel()
	v4, v6 := []IP{ipOf("10.0.0.5/24", "")}, []IP{ipOf("10.0.0.5/24", ""), ipOf("fd00::5/64", "")}
	paths := func(list ...string) string { return strings.Join(list, " ") }
	for _, c := range []struct{ got, want string }{
		{sysctls(PlanIPv6(netutil.Sandbox, "eth0", v4, false)), ""},
		{sysctls(PlanIPv6(netutil.Sandbox, "a.b", v6, false)), paths("net/ipv6/conf/a.b/accept_dad=0", "net/ipv6/conf/a.b/disable_ipv6=0")},
		{sysctls(PlanIPv6(netutil.Sandbox, "eth0", v6, true)), "net/ipv6/conf/eth0/disable_ipv6=0"},
		{sysctls(PlanForwarding(nil)), ""},
		{sysctls(PlanForwarding(v4)), "net/ipv4/ip_forward=1"},
		{sysctls(PlanForwarding(v6[1:])), "net/ipv6/conf/all/forwarding=1"},
		{sysctls(PlanForwarding(v6)), paths("net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1")},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	ips := ResultIPs([]IP{ipOf("10.0.0.5/24", "10.0.0.1"), ipOf("fd00::5/64", "")}, 2)
	want := `[{"interface":2,"address":"10.0.0.5/24","gateway":"10.0.0.1"},{"interface":2,"address":"fd00::5/64"}]`
	if got, _ := json.Marshal(ips); string(got) != want {
		t.Errorf("got %s", got)
	}
}

func sysctls(list []netutil.Sysctl) string {
	var out []string
	for _, s := range list {
		out = append(out, strings.Join(s.Path, "/")+"="+s.Value)
	}
	return strings.Join(out, " ")
}
