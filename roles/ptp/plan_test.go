package ptp

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

func TestPlanRoutesAllThroughTheHost(t *testing.T) {
	t.Parallel()
	o := owner.Owner{Network: "net", ContainerID: "pod", IfName: "eth0"}
	ips := []roles.IP{
		{Prefix: netip.MustParsePrefix("10.0.0.5/24"), Gateway: netip.MustParseAddr("10.0.0.1")},
		{Prefix: netip.MustParsePrefix("fd00::5/64"), Gateway: netip.MustParseAddr("fd00::99")},
	}
	p, err := roles.PlanRouted(o, o.MAC(), (&conf{IPMasq: true}).routed(), ips, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range p.Addrs {
		got = append(got, a.Place.String()+" "+a.Prefix.String())
	}
	for _, r := range p.Routes {
		line := r.Place.String() + " " + r.Dst.String()
		if r.Gateway.IsValid() {
			line += " via " + r.Gateway.String()
		}
		if r.Source.IsValid() {
			line += " src " + r.Source.String()
		}
		got = append(got, line)
	}
	want := []string{
		"sandbox 10.0.0.5/24", "host 10.0.0.1/32", "sandbox fd00::5/64", "host fd00::99/128",
		"sandbox 10.0.0.1/32 src 10.0.0.5", "sandbox 10.0.0.0/24 via 10.0.0.1 src 10.0.0.5", "host 10.0.0.5/32",
		"sandbox fd00::99/128 src fd00::5", "sandbox fd00::/64 via fd00::99 src fd00::5", "host fd00::5/128",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(p.Filter) != 2 {
		t.Errorf("%d filter entries, want 2", len(p.Filter))
	}
	for _, a := range p.Addrs {
		if a.DAD || a.Place == netutil.Sandbox && !a.NoPrefixRoute {
			t.Errorf("address %+v", a)
		}
	}
}

// Two addresses with one gateway: the host has it once.
func TestPlanOfASharedGateway(t *testing.T) {
	t.Parallel()
	gateway := netip.MustParseAddr("fe80::1")
	p, err := roles.PlanRouted(owner.Owner{IfName: "eth0"}, nil, (&conf{}).routed(), []roles.IP{
		{Prefix: netip.MustParsePrefix("fd00::5/64"), Gateway: gateway}, {Prefix: netip.MustParsePrefix("fd10::5/64"), Gateway: gateway},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	given := 0
	for _, a := range p.Addrs {
		if a.Prefix.Addr() == gateway {
			given++
		}
	}
	if given != 1 || len(p.Addrs) != 3 {
		t.Errorf("addresses %+v", p.Addrs)
	}
}

func TestBadConfigurationNamesTheKey(t *testing.T) {
	t.Parallel()
	for conf, want := range map[string]string{
		`{}`: "ipam.type: ", `{"ipam": {}}`: "ipam.type: ", `{"ipam": 7}`: "ipam: ",
		`{"mtu": 12, "ipam": {"type": "x"}}`:            "mtu: ",
		`{"mtu": 65536, "ipam": {"type": "x"}}`:         "mtu: ",
		`{"ipMasq": "yes", "ipam": {"type": "x"}}`:      "ipMasq: ",
		`{"ipMasqBackend": "x", "ipam": {"type": "x"}}`: "ipMasqBackend: ",
	} {
		_, err := load(&roles.Request{Conf: []byte(conf)})
		errtest.WantKey(t, err, errcode.InvalidConfig, want)
	}
}
