package bridge

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// FuzzConf reads any configuration and CNI_ARGS: a refusal has a code for just that, and what is accepted makes a plan that the kernel
// has names and numbers for.
func FuzzConf(f *testing.F) {
	for _, s := range [][2]string{
		{`{"bridge":"br0","isDefaultGateway":true,"ipMasq":true,"mtu":1400,"hairpinMode":true,"ipam":{"type":"x"}}`, "MAC=02:00:00:00:00:01"},
		{`{"vlan":100,"isGateway":true,"vlanTrunk":[{"id":7},{"minID":10,"maxID":19}],"preserveDefaultVlan":true}`, "IgnoreUnknown=1"},
		{`{"vlan":4095,"vlanTrunk":[{"id":7,"minID":1,"maxID":4094}]}`, "MAC=x"},
		{`{"promiscMode":true,"macspoofchk":true,"ipspoofchk":true,"enabledad":true,"portIsolation":true,"args":{"cni":{"mac":"02:00:00:00:00:02"}}}`, ""},
		{`{"disableContainerInterface":true,"runtimeConfig":{"mac":"02:00:00:00:00:03"}}`, "MAC="},
		{`{"bridge":"fourteen_bytes","vlan":1,"isGateway":true}`, "x"},
		{`[]`, ""},
		{`{`, ""},
	} {
		f.Add(s[0], s[1])
	}
	ips := []roles.IP{
		{Prefix: netip.MustParsePrefix("10.0.0.5/24")},
		{Prefix: netip.MustParsePrefix("fd00::5/64"), Gateway: netip.MustParseAddr("fd00::9")},
	}
	f.Fuzz(func(t *testing.T, text, args string) {
		c, err := load(&roles.Request{Conf: []byte(text), Args: args})
		if err != nil {
			switch errcode.Of(err) {
			case errcode.InvalidConfig, errcode.DecodingFailure, errcode.InvalidEnvironment:
			default:
				t.Fatalf("code %d: %v", errcode.Of(err), err)
			}
			return
		}
		mac := c.mac
		if mac == nil {
			mac = pod.MAC()
		}
		withGateways, err := c.bridged().WithGateways(slices.Clone(ips))
		if err != nil {
			t.Fatal(err)
		}
		p, err := c.plan(pod, mac, withGateways, nil)
		if roles.CheckMTUFor(ips, c.MTU) != nil {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range p.Links {
			checkLink(t, l)
			if l.Peer != nil {
				checkLink(t, *l.Peer)
			}
		}
		for _, a := range p.Addrs {
			if !a.Prefix.IsValid() {
				t.Fatalf("address %+v", a)
			}
		}
	})
}

func checkLink(t *testing.T, l netutil.Link) {
	t.Helper()
	if err := roles.CheckLinkName("name", l.Name); err != nil {
		t.Fatal(err)
	}
	if err := roles.CheckMTU(l.MTU); err != nil {
		t.Fatal(err)
	}
	if len(l.MAC) > 0 && (len(l.MAC) != 6 || l.MAC[0]&1 != 0) {
		t.Fatalf("%s has the MAC address %s", l.Name, l.MAC)
	}
	for _, v := range l.Port.VLANs {
		if v.First < 1 || v.First > v.Last || v.Last > maxVLAN {
			t.Fatalf("%s is in the VLANs %+v", l.Name, v)
		}
	}
}
