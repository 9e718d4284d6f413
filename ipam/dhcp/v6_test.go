package dhcp_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/cnibox/cnibox/ipam/dhcp/dhcptest"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/roles/roletest"
)

const bothFamilies, onlyIPv6 = `"families": ["ipv4", "ipv6"]`, `"families": ["ipv6"]`

// lan6 is a lan with a router and DHCPv6 server, fd00:40::1/64.
type lan6 struct {
	*lan
	server6 *dhcptest.Server6
}

func newLAN6(t *testing.T, p dhcptest.Policy6) *lan6 {
	t.Helper()
	l := &lan6{lan: newLAN(t, dhcptest.Policy{})}
	l.server6 = dhcptest.Start6(t, l.Host, "br0", "fd00:40::1/64", p)
	return l
}

// addr6 are the IPv6 addresses of a pod's eth0 that are not link-local, and whether they last for ever.
func addr6(p *roletest.Pod) map[string]bool {
	var links []struct {
		Addrs []struct {
			Local string
			Bits  int    `json:"prefixlen"`
			Valid uint32 `json:"valid_life_time"`
		} `json:"addr_info"`
	}
	all := map[string]bool{}
	out, err := p.Try("ip", "-j", "-6", "addr", "show", "dev", "eth0", "scope", "global")
	if err != nil || json.Unmarshal([]byte(out), &links) != nil {
		return nil
	}
	for _, l := range links {
		for _, a := range l.Addrs {
			if a.Local != "" { // ip has an empty object for each address that is left out
				all[fmt.Sprintf("%s/%d", a.Local, a.Bits)] = a.Valid == 1<<32-1
			}
		}
	}
	return all
}

// want6 waits until the pod has just these addresses.
func want6(t *testing.T, p *roletest.Pod, limit time.Duration, want ...string) {
	t.Helper()
	eventually(t, limit, fmt.Sprintf("the pod has the addresses %v", want), func() bool {
		have := addr6(p)
		return len(have) == len(want) && !slices.ContainsFunc(want, func(a string) bool { _, ok := have[a]; return !ok })
	})
}

// answerOf is what a test wants of a result.
type answerOf struct {
	IPs []struct{ Address, Gateway string }
	DNS struct{ Nameservers, Search []string }
}

// added attaches a pod and reads the answer.
func (l *lan) added(role, name, conf string) (p *roletest.Pod, res answerOf) {
	l.t.Helper()
	p = l.Pod(name)
	out := l.Must(roletest.Call{Verb: "ADD", Role: role, Pod: p, Conf: conf})
	if err := json.Unmarshal(out, &res); err != nil {
		l.t.Fatal(err)
	}
	p.WithResult(out)
	return p, res
}

func TestAPodHasAnAddressOfEachFamilyUntilDel(t *testing.T) {
	t.Parallel()
	l := newLAN6(t, dhcptest.Policy6{Managed: true, DNS: net.ParseIP("fd00:40::53")})
	l.inProcess()
	l.Node.Server(l.Host, 80)
	p, res := l.added("bridge", "a", l.conf(bothFamilies))
	if want := fmt.Sprint([]struct{ Address, Gateway string }{{"10.40.0.10/16", "10.40.0.1"}, {"fd00:40::64/128", dhcptest.Router}}); fmt.Sprint(res.IPs) != want {
		t.Errorf("the addresses are %v, want %v", res.IPs, want)
	}
	if !slices.Equal(res.DNS.Nameservers, []string{"fd00:40::53"}) {
		t.Errorf("dns is %+v", res.DNS)
	}
	want6(t, p, 0, "fd00:40::64/128")
	l.WantSeen(p.NS, "tcp", "10.40.0.1:80", "10.40.0.10")
	l.WantSeen(p.NS, "tcp", "[fd00:40::1]:80", "fd00:40::64")
	if out := p.Run("ip", "-6", "route"); !strings.Contains(out, "default via "+dhcptest.Router+" dev eth0 proto ra") {
		t.Errorf("the routes are\n%s", out)
	}
	if err := l.Check("bridge", "a", l.conf(bothFamilies)); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	l.Del("bridge", "a", l.conf(bothFamilies))
	l.wantHeld(nil)
	eventually(t, 5*time.Second, "the server has all back", func() bool { return len(l.server6.Held()) == 0 })
	if left, err := os.ReadDir(l.state); err != nil || len(left) > 0 {
		t.Errorf("leases left on disk: %v, %v", left, err)
	}
}

func TestAnIPv6LeaseIsRenewedAtT1AndAskedForFromAnyServerAtT2(t *testing.T) {
	t.Parallel()
	l := newLAN6(t, dhcptest.Policy6{Managed: true, Valid: 8 * time.Second, T1: time.Second, T2: 3 * time.Second})
	l.inProcess()
	p := l.Add("bridge", "a", l.conf(onlyIPv6))
	begun := time.Now()
	m := l.server6.Await(t, begun, 3*time.Second, dhcpv6.MessageTypeRenew)
	if after := m.At.Sub(begun); after < 700*time.Millisecond || m.Options.ServerID() == nil {
		t.Errorf("renewed %s after ADD\n%s", after, m.Summary())
	}
	muted := time.Now()
	l.server6.Set(dhcptest.Policy6{Managed: true, Valid: 8 * time.Second, T1: time.Second, T2: 3 * time.Second, Mute: dhcpv6.MessageTypeRenew})
	if m := l.server6.Await(t, muted, 6*time.Second, dhcpv6.MessageTypeRebind); m.Options.ServerID() != nil {
		t.Errorf("asked one server alone\n%s", m.Summary())
	}
	time.Sleep(time.Until(begun.Add(9 * time.Second)))
	want6(t, p, 0, "fd00:40::64/128")
	if n := len(l.server6.Seen(dhcpv6.MessageTypeSolicit)); n != 1 {
		t.Errorf("%d times asked for an address, want once", n)
	}
}

func TestAnIPv6AddressGoesWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	l := newLAN6(t, dhcptest.Policy6{Managed: true, Valid: 2 * time.Second})
	l.inProcess()
	l.Node.Server(l.Host, 80)
	p := l.Add("bridge", "a", l.conf(bothFamilies))
	l.server6.Set(dhcptest.Policy6{Managed: true, Silent: true})
	want6(t, p, 5*time.Second)
	wantAddrs(t, p, 0, "10.40.0.10/16") // the other family has nothing to do with it
	l.server6.Forget()
	l.server6.Set(dhcptest.Policy6{Managed: true})
	want6(t, p, 10*time.Second, "fd00:40::65/128")
	l.WantSeen(p.NS, "tcp", "[fd00:40::1]:80", "fd00:40::65")
}

// A server that has forgotten a lease gives the same address again, if it is asked for it.
func TestAnIPv6AddressThatTheServerHasForgottenIsAskedForOnceMore(t *testing.T) {
	t.Parallel()
	l := newLAN6(t, dhcptest.Policy6{Managed: true, Valid: time.Minute, T1: time.Second})
	l.inProcess()
	p := l.Add("bridge", "a", l.conf(onlyIPv6))
	begun := time.Now()
	l.server6.Set(dhcptest.Policy6{Managed: true, Status: map[dhcpv6.MessageType]dhcptest.Codes{dhcpv6.MessageTypeRenew: {Code: iana.StatusNoBinding, Times: 1}}})
	l.server6.Await(t, begun, 5*time.Second, dhcpv6.MessageTypeRequest)
	want6(t, p, 0, "fd00:40::64/128")
	if n := len(l.server6.Seen(dhcpv6.MessageTypeSolicit)); n != 1 {
		t.Errorf("%d times asked for an address, want once", n)
	}
}

func TestAnIPv6AddressThatTheServerRefusesIsReplaced(t *testing.T) {
	t.Parallel()
	l := newLAN6(t, dhcptest.Policy6{Managed: true, Valid: time.Minute, T1: time.Second})
	l.inProcess()
	l.Node.Server(l.Host, 80)
	p := l.Add("bridge", "a", l.conf(onlyIPv6))
	l.server6.Forget()
	l.server6.Set(dhcptest.Policy6{Managed: true, Status: map[dhcpv6.MessageType]dhcptest.Codes{dhcpv6.MessageTypeRenew: {Code: iana.StatusNotOnLink, Times: 1}}})
	want6(t, p, 8*time.Second, "fd00:40::65/128")
	l.WantSeen(p.NS, "tcp", "[fd00:40::1]:80", "fd00:40::65")
}

func TestADaemonThatWasKilledGoesOnRenewingIPv6(t *testing.T) {
	t.Parallel()
	l := newLAN6(t, dhcptest.Policy6{Managed: true, Valid: 20 * time.Second, T1: 2 * time.Second, T2: 15 * time.Second})
	first := l.program()
	p := l.Add("bridge", "a", l.conf(bothFamilies))
	kill(first)
	started := time.Now()
	l.program()
	l.server6.Await(t, started, 8*time.Second, dhcpv6.MessageTypeRenew)
	want6(t, p, 0, "fd00:40::64/128")
	l.Del("bridge", "a", l.conf(bothFamilies))
	l.wantHeld(nil)
	eventually(t, 5*time.Second, "the server has the address back", func() bool { return len(l.server6.Held()) == 0 })
}

// The kernel makes the address and ends it, as the router says; the server is asked for the rest alone.
func TestAnAddressOfTheKernelsMakingIsInTheResult(t *testing.T) {
	t.Parallel()
	l := newLAN6(t, dhcptest.Policy6{Autonomous: true, Other: true, DNS: net.ParseIP("fd00:40::53"), RDNSS: netip.MustParseAddr("fd00:40::54")})
	l.inProcess()
	l.Node.Server(l.Host, 80)
	p, res := l.added("bridge", "a", l.conf(onlyIPv6))
	if len(res.IPs) != 1 || !strings.HasPrefix(res.IPs[0].Address, "fd00:40::") || !strings.HasSuffix(res.IPs[0].Address, "/64") || res.IPs[0].Gateway != dhcptest.Router {
		t.Fatalf("the addresses are %+v", res.IPs)
	}
	if !slices.Equal(res.DNS.Nameservers, []string{"fd00:40::53", "fd00:40::54"}) {
		t.Errorf("dns is %+v", res.DNS)
	}
	if forever, ok := addr6(p)[res.IPs[0].Address]; !ok || forever {
		t.Errorf("the pod has the addresses (true: for ever) %v", addr6(p))
	}
	l.WantSeen(p.NS, "tcp", "[fd00:40::1]:80", strings.TrimSuffix(res.IPs[0].Address, "/64"))
	if err := l.Check("bridge", "a", l.conf(onlyIPv6)); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	if n := len(l.server6.Seen(dhcpv6.MessageTypeSolicit)); n > 0 {
		t.Error("the server was asked for an address")
	}
	l.Del("bridge", "a", l.conf(onlyIPv6))
}

func TestAServerIsAskedWhereNoRouterIs(t *testing.T) {
	t.Parallel()
	l := newLAN6(t, dhcptest.Policy6{NoRouter: true})
	l.inProcess()
	p, res := l.added("bridge", "a", l.conf(onlyIPv6))
	want6(t, p, 0, "fd00:40::64/128")
	if len(res.IPs) != 1 || res.IPs[0].Gateway != "" {
		t.Errorf("the addresses are %+v", res.IPs)
	}
}

// What one family has been given goes back if the other has nothing.
func TestAddIsAllOrNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		policy dhcptest.Policy6
		want   string
	}{
		"silent": {dhcptest.Policy6{Managed: true, Silent: true}, "no DHCPv6 server offers an address"},
		"no addresses": {
			dhcptest.Policy6{Managed: true, Status: map[dhcpv6.MessageType]dhcptest.Codes{dhcpv6.MessageTypeSolicit: {Code: iana.StatusNoAddrsAvail, Times: 1000}}},
			"NoAddrsAvail",
		},
		"a router without a way": {dhcptest.Policy6{}, "the router fe80::1 advertises no way to come by an address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLAN6(t, tt.policy)
			l.inProcess()
			_, err := l.Do(roletest.Call{Verb: "ADD", Role: "bridge", Pod: l.Pod("a"), Conf: l.conf(bothFamilies)})
			errtest.Want(t, err, errcode.TryAgainLater, "ipam: the dhcp daemon at "+l.socket)
			if err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want %q in it", err, tt.want)
			}
			l.wantHeld(nil)
			if left, err := os.ReadDir(l.state); err != nil || len(left) > 0 {
				t.Errorf("leases left on disk: %v, %v", left, err)
			}
			if _, err := l.Pod("a").Try("ip", "link", "show", "eth0"); err == nil {
				t.Error("the interface is left")
			}
		})
	}
}

// The server gives addresses, and a role of each version's result has them.
func TestFamilies(t *testing.T) {
	t.Parallel()
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		t.Parallel()
		l := newLAN6(t, dhcptest.Policy6{Managed: true})
		l.inProcess()
		l.Node.Server(l.Host, 80)
		ipam := fmt.Sprintf(`"ipam": {"type": "dhcp", "daemonSocketPath": %q, "families": ["%s"]}`, l.socket, strings.Join(f.Of("ipv4", "ipv6"), `", "`))
		l.WantAllVersions(roletest.Network{
			Family: f, DataDir: t.TempDir(), Links: []string{"br0"},
			Plugins: []roletest.Plugin{{Role: "bridge", Keys: `"bridge": "br0", ` + ipam}},
			Reach: func(p *roletest.Pod) {
				for i, to := range f.Of("10.40.0.1:80", "[fd00:40::1]:80") {
					l.WantSeen(p.NS, "tcp", to, p.Addrs[i].String())
				}
			},
		})
		l.wantHeld(nil)
		eventually(t, 5*time.Second, "the server has all back", func() bool { return len(l.server6.Held()) == 0 })
	})
}
