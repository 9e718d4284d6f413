package bridge

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

var pod = owner.Owner{Network: "net", ContainerID: "pod", IfName: "eth0"}

func mustLoad(t *testing.T, conf string) *conf {
	t.Helper()
	c, err := load(&roles.Request{Conf: []byte(conf)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustPlan(t *testing.T, c *conf, addrs ...string) *netutil.Plan {
	t.Helper()
	var ips []roles.IP
	for _, a := range addrs {
		ips = append(ips, roles.IP{Prefix: netip.MustParsePrefix(a)})
	}
	ips, err := c.bridged().WithGateways(ips)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.plan(pod, pod.MAC(), ips, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlanVLANPort(t *testing.T) {
	t.Parallel()
	tests := []struct {
		conf string
		want netutil.Port
	}{
		{`{}`, netutil.Port{}},
		{`{"vlan": 100}`, netutil.Port{VLANs: []netutil.VLAN{{First: 100, Last: 100, Access: true}}, NoVLAN1: true}},
		{
			`{"vlan": 100, "preserveDefaultVlan": true}`,
			netutil.Port{VLANs: []netutil.VLAN{{First: 100, Last: 100, Access: true}}},
		},
		{
			`{"vlanTrunk": [{"id": 7}, {"minID": 10, "maxID": 19}]}`,
			netutil.Port{VLANs: []netutil.VLAN{{First: 7, Last: 7}, {First: 10, Last: 19}}, NoVLAN1: true},
		},
		{`{"hairpinMode": true, "portIsolation": true}`, netutil.Port{Hairpin: true, Isolated: true}},
	}
	for _, tt := range tests {
		p := mustPlan(t, mustLoad(t, tt.conf))
		if got := p.Links[1].Port; !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: port %+v, want %+v", tt.conf, got, tt.want)
		}
		if got, want := p.Links[0].VLANs, tt.want.VLANs != nil; got != want {
			t.Errorf("%s: the bridge filters VLANs: %t, want %t", tt.conf, got, want)
		}
	}
}

func TestPlanVLANGatewayHasALinkOfItsOwn(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, `{"bridge": "br0", "vlan": 100, "isGateway": true, "ipam": {"type": "x"}}`)
	p := mustPlan(t, c, "10.0.0.5/24")
	gateway := p.Links[2]
	if gateway.Name != "br0.100" || !gateway.Shared || gateway.Peer.Master != "br0" {
		t.Errorf("gateway link %+v with peer %+v", gateway, gateway.Peer)
	}
	want := netutil.Port{VLANs: []netutil.VLAN{{First: 100, Last: 100, Access: true}}, NoVLAN1: true}
	if !reflect.DeepEqual(gateway.Peer.Port, want) {
		t.Errorf("gateway port %+v, want %+v", gateway.Peer.Port, want)
	}
	if got := p.Addrs[1]; got.Link != "br0.100" || got.Prefix.String() != "10.0.0.1/24" {
		t.Errorf("gateway address %+v", got)
	}
}

func TestPlanGatewayAndMasquerade(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, `{"isGateway": true, "ipMasq": true, "ipam": {"type": "x"}}`)
	p := mustPlan(t, c, "10.0.0.5/24", "fd00::5/64", "10.0.0.6/24")
	var gateways []string
	for _, a := range p.Addrs {
		if a.Place == netutil.Host {
			gateways = append(gateways, a.Link+" "+a.Prefix.String())
		}
	}
	if want := []string{"cni0 10.0.0.1/24", "cni0 fd00::1/64"}; !reflect.DeepEqual(gateways, want) {
		t.Errorf("gateways %v, want %v", gateways, want)
	}
	if len(p.Filter) != 3 {
		t.Errorf("%d filter entries, want one for each address: %+v", len(p.Filter), p.Filter)
	}
	first := nft.MasqueradeEntry{Addr: netip.MustParseAddr("10.0.0.5"), Subnet: netip.MustParsePrefix("10.0.0.0/24")}
	if !reflect.DeepEqual(p.Filter[0], first) {
		t.Errorf("filter entry %+v, want %+v", p.Filter[0], first)
	}
}

func TestPlanRoutesKeepTheirAttributes(t *testing.T) {
	t.Parallel()
	var route types.Route
	raw := `{"dst": "192.0.2.0/24", "mtu": 1400, "advmss": 1300, "priority": 9, "table": 77, "scope": 200}`
	if err := json.Unmarshal([]byte(raw), &route); err != nil {
		t.Fatal(err)
	}
	ips := []roles.IP{{Prefix: netip.MustParsePrefix("10.0.0.5/24"), Gateway: netip.MustParseAddr("10.0.0.1")}}
	p, err := mustLoad(t, `{}`).plan(pod, pod.MAC(), ips, []*types.Route{&route})
	if err != nil {
		t.Fatal(err)
	}
	want := netutil.Route{
		Place: netutil.Sandbox, Link: "eth0", Dst: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("10.0.0.1"),
		MTU: 1400, AdvMSS: 1300, Priority: 9, Table: 77, Scope: 200,
	}
	if got := p.Routes[0]; got != want {
		t.Errorf("route %+v, want %+v", got, want)
	}
}

func TestMACPrecedence(t *testing.T) {
	t.Parallel()
	const (
		runtime = `"runtimeConfig": {"mac": "02:00:00:00:00:01"}`
		args    = `"args": {"cni": {"mac": "02:00:00:00:00:02"}}`
		env     = "IgnoreUnknown=1;MAC=02:00:00:00:00:03"
	)
	tests := []struct{ conf, args, want string }{
		{"{" + runtime + "," + args + "}", env, "02:00:00:00:00:01"},
		{"{" + args + "}", env, "02:00:00:00:00:02"},
		{"{}", env, "02:00:00:00:00:03"},
		{"{}", "", ""},
	}
	for _, tt := range tests {
		c, err := load(&roles.Request{Conf: []byte(tt.conf), Args: tt.args})
		if err != nil || c.mac.String() != tt.want {
			t.Errorf("%s %s: MAC %s, %v; want %s", tt.conf, tt.args, c.mac, err, tt.want)
		}
	}
}

func TestBadConfigurationNamesTheKey(t *testing.T) {
	t.Parallel()
	tests := []struct{ conf, want string }{
		{`{"bridge": "a name much too long"}`, "bridge: "},
		{`{"bridge": "a/b"}`, "bridge: "},
		{`{"bridge": "all"}`, "bridge: "},
		{`{"mtu": 67}`, "mtu: "},
		{`{"mtu": -1}`, "mtu: "},
		{`{"mtu": 65536}`, "mtu: "},
		{`{"hairpinMode": true, "promiscMode": true}`, "hairpinMode"},
		{`{"vlan": 4095}`, "vlan: "},
		{`{"vlan": -1}`, "vlan: "},
		{`{"vlan": 100, "isGateway": true, "bridge": "a-long-bridge"}`, "bridge: "},
		{`{"vlanTrunk": [{}]}`, "vlanTrunk[0]: "},
		{`{"vlanTrunk": [null]}`, "vlanTrunk[0]: "},
		{`{"vlanTrunk": [{"id": 7}, {"minID": 7}]}`, "vlanTrunk[1]: minID and maxID"},
		{`{"vlanTrunk": [{"maxID": 7}]}`, "vlanTrunk[0]: minID and maxID"},
		{`{"vlanTrunk": [{"id": 0}]}`, "vlanTrunk[0].id: "},
		{`{"vlanTrunk": [{"id": 4095}]}`, "vlanTrunk[0].id: "},
		{`{"vlanTrunk": [{"minID": 9, "maxID": 8}]}`, "vlanTrunk[0]: minID 9 to maxID 8"},
		{`{"vlanTrunk": [{"minID": 0, "maxID": 8}]}`, "vlanTrunk[0]: minID 0"},
		{`{"vlanTrunk": [{"minID": 1, "maxID": 4095}]}`, "vlanTrunk[0]: minID 1 to maxID 4095"},
		{`{"disableContainerInterface": true, "ipam": {"type": "host-local"}}`, "disableContainerInterface"},
		{`{"ipMasqBackend": "ipchains"}`, "ipMasqBackend: "},
		{`{"runtimeConfig": {"mac": "nonsense"}}`, "runtimeConfig.mac: "},
		{`{"args": {"cni": {"mac": "01:00:5e:00:00:01"}}}`, "args.cni.mac: "},
	}
	for _, tt := range tests {
		_, err := load(&roles.Request{Conf: []byte(tt.conf)})
		errtest.WantKey(t, err, errcode.InvalidConfig, tt.want)
	}
	_, err := load(&roles.Request{Conf: []byte(`{}`), Args: "MAC=nonsense"})
	errtest.WantKey(t, err, errcode.InvalidEnvironment, "CNI_ARGS MAC: ")
}
