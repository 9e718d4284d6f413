package portmap

import (
	"net/netip"
	"reflect"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

var (
	podOwner = owner.Owner{Network: "net", ContainerID: "pod", IfName: "eth0"}
	pod4     = roles.IP{Prefix: netip.MustParsePrefix("10.1.0.5/16")}
	pod6     = roles.IP{Prefix: netip.MustParsePrefix("fd00:1::5/64")}
)

func itoa(port uint16) string { return strconv.Itoa(int(port)) }

// portsOf are the port mappings among packet filter entries.
func portsOf(entries []nft.Entry) []nft.PortEntry {
	return portEntries(&netutil.Plan{Filter: entries})
}

func TestPlanLeadsEachFamily(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, `{
		"conditionsV4": ["-s", "198.51.100.0/24"],
		"runtimeConfig": {"portMappings": [
			{"hostPort": 8080, "containerPort": 80},
			{"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "fd00::1"},
			{"hostPort": 99, "containerPort": 9, "protocol": "sctp", "hostIP": "0.0.0.0"}
		]}}`)
	p := c.plan(podOwner, targets{pod4, pod6}, surroundings{})
	addr4, addr6 := pod4.Prefix.Addr(), pod6.Prefix.Addr()
	only := []nft.Condition{{Key: "saddr", Value: "198.51.100.0/24"}}
	want := []nft.Entry{
		nft.PortEntry{Protocol: unix.IPPROTO_TCP, HostPort: 8080, Addr: addr4, Port: 80, Conditions: only},
		nft.PortEntry{Protocol: unix.IPPROTO_SCTP, HostPort: 99, Addr: addr4, Port: 9, Conditions: only},
		nft.SourceNATEntry{Addr: addr4, Subnet: netip.MustParsePrefix("10.1.0.0/16")},
		nft.PortEntry{Protocol: unix.IPPROTO_TCP, HostPort: 8080, Addr: addr6, Port: 80},
		nft.PortEntry{Protocol: unix.IPPROTO_UDP, HostIP: netip.MustParseAddr("fd00::1"), HostPort: 53, Addr: addr6, Port: 5353},
		nft.SourceNATEntry{Addr: addr6, Subnet: netip.MustParsePrefix("fd00:1::/64")},
	}
	if !reflect.DeepEqual(p.Filter, want) {
		t.Errorf("entries\n%+v, want\n%+v", p.Filter, want)
	}
	if p.Owner != podOwner || p.Links != nil || p.Sysctls != nil {
		t.Errorf("plan %+v", p)
	}
}

func TestPlanSourceNAT(t *testing.T) {
	t.Parallel()
	const ports = `"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80, "hostIP": "192.0.2.1"}]}`
	tests := []struct {
		conf string
		want []nft.SourceNATEntry
	}{
		{`{` + ports + `}`, []nft.SourceNATEntry{{Addr: pod4.Prefix.Addr(), Subnet: pod4.Subnet()}}},
		{`{"masqAll": true, ` + ports + `}`, []nft.SourceNATEntry{{Addr: pod4.Prefix.Addr(), Subnet: pod4.Subnet(), All: true}}},
		{`{"snat": false, ` + ports + `}`, nil},
		{`{"snat": false, "masqAll": true, ` + ports + `}`, nil},
		{`{}`, nil},
	}
	for _, tt := range tests {
		p := mustLoad(t, tt.conf).plan(podOwner, targets{pod4, pod6}, surroundings{})
		var got []nft.SourceNATEntry
		for _, e := range p.Filter {
			if s, ok := e.(nft.SourceNATEntry); ok {
				got = append(got, s)
			}
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.conf, got, tt.want)
		}
	}
}

func TestPlanPassesOverAMissingFamily(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, mappings(`{"hostPort": 80, "containerPort": 80}, {"hostPort": 81, "containerPort": 81, "hostIP": "192.0.2.1"}`))
	around := surroundings{towards: "cni0", port: "veth0"}
	if got := portsOf(c.plan(podOwner, targets{v6: pod6}, around).Filter); len(got) != 1 || got[0].HostPort != 80 || !got[0].Addr.Is6() {
		t.Errorf("entries for a container with IPv6 only: %+v", got)
	}
	if p := c.plan(podOwner, targets{}, around); p.Filter != nil || p.Links != nil || p.Sysctls != nil {
		t.Errorf("plan for a container without addresses: %+v", p)
	}
}

func TestPlanLoopbackAndHairpin(t *testing.T) {
	t.Parallel()
	localnet := []netutil.Sysctl{{Path: []string{"net", "ipv4", "conf", "cni.0", "route_localnet"}, Value: "1"}}
	tests := []struct {
		conf string
		to   targets
		want []netutil.Sysctl
	}{
		{mappings(`{"hostPort": 80, "containerPort": 80}`), targets{v4: pod4}, localnet},
		{mappings(`{"hostPort": 80, "containerPort": 80, "hostIP": "0.0.0.0"}`), targets{v4: pod4}, localnet},
		{mappings(`{"hostPort": 80, "containerPort": 80, "hostIP": "127.9.9.9"}`), targets{v4: pod4}, localnet},
		{mappings(`{"hostPort": 80, "containerPort": 80, "hostIP": "192.0.2.1"}`), targets{v4: pod4}, nil},
		{mappings(`{"hostPort": 80, "containerPort": 80, "hostIP": "::"}`), targets{pod4, pod6}, nil},
		{mappings(`{"hostPort": 80, "containerPort": 80}`), targets{v6: pod6}, nil},
		{`{"snat": false, "runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80}]}}`, targets{v4: pod4}, nil},
	}
	for _, tt := range tests {
		p := mustLoad(t, tt.conf).plan(podOwner, tt.to, surroundings{towards: "cni.0", port: "veth0"})
		if !reflect.DeepEqual(p.Sysctls, tt.want) {
			t.Errorf("%s: sysctls %+v, want %+v", tt.conf, p.Sysctls, tt.want)
		}
		hairpin := []netutil.Link{{Name: "veth0", Port: netutil.Port{Hairpin: true}}}
		if len(p.Filter) > 0 && !reflect.DeepEqual(p.Links, hairpin) {
			t.Errorf("%s: links %+v, want %+v", tt.conf, p.Links, hairpin)
		}
	}
}

func TestTargetsAreTheFirstOfEachFamily(t *testing.T) {
	t.Parallel()
	other4, other6 := roles.IP{Prefix: netip.MustParsePrefix("10.2.0.5/16")}, roles.IP{Prefix: netip.MustParsePrefix("fd00:2::5/64")}
	if got, want := targetsOf([]roles.IP{pod6, other6, pod4, other4}), (targets{pod4, pod6}); got != want {
		t.Errorf("targets %+v, want %+v", got, want)
	}
}
