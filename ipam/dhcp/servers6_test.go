package dhcp_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/ipam/dhcp/dhcptest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles/roletest"
)

// dnsmasq6 starts dnsmasq as router and server of fd00:40::/64, and returns the path of its leases.
func (l *lan) dnsmasq6(ranges ...string) string {
	l.t.Helper()
	leases := filepath.Join(l.t.TempDir(), "leases")
	l.Host.Run("ip", "addr", "add", "fd00:40::1/64", "dev", "br0", "nodad")
	l.Host.Run("ip", "addr", "add", "10.40.0.1/24", "dev", "br0")
	l.Host.Run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
	args := []string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=br0", "--bind-interfaces", "--user=root", "--pid-file=",
		"--log-facility=-", "--log-dhcp", "--no-ping", "--dhcp-authoritative", "--enable-ra", "--dhcp-range=10.40.0.100,10.40.0.150,255.255.255.0,2m",
		"--dhcp-option=option6:dns-server,[fd00:40::53]", "--dhcp-option=option6:domain-search,six.example", "--dhcp-leasefile=" + leases,
	}
	for _, r := range ranges {
		args = append(args, "--dhcp-range="+r)
	}
	l.server("dnsmasq", args...)
	return leases
}

// uplinkTo is a network beside the host's, which the host's link uplink leads to.
func (l *lan) uplinkTo() *nstest.NS {
	l.t.Helper()
	lan := nstest.New(l.t, "lan")
	l.Host.Run("ip", "link", "add", "uplink", "up", "type", "veth", "peer", "name", "eth0", "netns", lan.Path)
	return lan
}

// TestLinksOnAnotherGetBothFamilies has pods on a network that the host is but a part of.
func TestLinksOnAnotherGetBothFamilies(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"macvlan", "ipvlan"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			nstest.Need(t, role)
			l := newNode(t)
			lan := l.uplinkTo()
			server := dhcptest.Start(t, lan, "eth0", "10.41.0.1/24", dhcptest.Policy{})
			server6 := dhcptest.Start6(t, lan, "eth0", "fd00:41::1/64", dhcptest.Policy6{Managed: true, Autonomous: true})
			l.inProcess()
			l.Node.Server(lan, 80)
			conf := l.confOf(role, `"master": "uplink"`, bothFamilies)
			var pods []*roletest.Pod
			for _, name := range []string{"a", "b"} {
				p, res := l.added(role, name, conf)
				if len(res.IPs) != 3 {
					t.Fatalf("the addresses are %+v", res.IPs)
				}
				want6(t, p, 0, res.IPs[1].Address, res.IPs[2].Address)
				l.WantSeen(p.NS, "tcp", "10.41.0.1:80", strings.TrimSuffix(res.IPs[0].Address, "/24"))
				p.Run("ping", "-c", "1", "-W", "5", "fd00:41::1")
				p.Run("ping", "-c", "1", "-W", "5", "-I", strings.TrimSuffix(res.IPs[2].Address, "/64"), "fd00:41::1")
				if err := l.Check(role, name, conf); err != nil {
					t.Errorf("CHECK: %v", err)
				}
				pods = append(pods, p)
			}
			for _, p := range pods {
				l.Del(role, p.Name, conf)
			}
			eventually(t, 5*time.Second, "the servers have all back", func() bool { return len(server.Held())+len(server6.Held()) == 0 })
		})
	}
}

// TestDhcpdLeasesIPv6 has ISC dhcpd lease an address, without a router, renew it, and take it back.
func TestDhcpdLeasesIPv6(t *testing.T) {
	t.Parallel()
	l := newNode(t)
	dir := t.TempDir()
	conf, leases := filepath.Join(dir, "conf"), filepath.Join(dir, "leases")
	text := `authoritative; default-lease-time 30; preferred-lifetime 20; option dhcp-renewal-time 2; option dhcp-rebinding-time 15;
option dhcp6.name-servers fd00:40::53; option dhcp6.domain-search "six.example";
subnet6 fd00:40::/64 { range6 fd00:40::100 fd00:40::1ff; }`
	for file, text := range map[string]string{conf: text, leases: ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.Host.Run("ip", "addr", "add", "fd00:40::1/64", "dev", "br0", "nodad")
	l.Host.Run("ip", "addr", "add", "fe80::1/64", "dev", "br0", "nodad")
	l.server("dhcpd", "-6", "-f", "-d", "-cf", conf, "-lf", leases, "-pf", filepath.Join(dir, "pid"), "br0")
	l.inProcess()
	p, res := l.added("bridge", "a", l.conf(onlyIPv6))
	if len(res.IPs) != 1 || fmt.Sprint(res.DNS.Nameservers, res.DNS.Search) != "[fd00:40::53] [six.example]" {
		t.Fatalf("answered %+v", res)
	}
	want6(t, p, 0, res.IPs[0].Address)
	p.Run("ping", "-c", "1", "-W", "5", "fe80::1%eth0")
	says := func(what string) func() bool { return func() bool { return strings.Contains(l.log.String(), what) } }
	eventually(t, 10*time.Second, "the server renews the lease", says("Renew message from"))
	eventually(t, 5*time.Second, "the daemon has it renewed", says(strings.TrimSuffix(res.IPs[0].Address, "/128")+" renewed"))
	want6(t, p, 0, res.IPs[0].Address)
	l.Del("bridge", "a", l.conf(onlyIPv6))
	eventually(t, 5*time.Second, "the server has the address back", says("Release message from"))
}

// TestDnsmasqTellsOfItsNetwork has the kernel make an address of dnsmasq's advertisement, and dnsmasq asked for name servers.
func TestDnsmasqTellsOfItsNetwork(t *testing.T) {
	t.Parallel()
	l := newNode(t)
	l.dnsmasq6("fd00:40::,ra-stateless")
	l.inProcess()
	l.Node.Server(l.Host, 80)
	p, res := l.added("bridge", "a", l.conf(bothFamilies))
	if len(res.IPs) != 2 || !strings.HasSuffix(res.IPs[1].Address, "/64") || fmt.Sprint(res.DNS.Nameservers, res.DNS.Search) != "[fd00:40::53] [six.example]" {
		t.Fatalf("answered %+v", res)
	}
	l.WantSeen(p.NS, "tcp", "[fd00:40::1]:80", strings.TrimSuffix(res.IPs[1].Address, "/64"))
	l.Del("bridge", "a", l.conf(bothFamilies))
}

func TestDnsmasqLeasesIPv6(t *testing.T) {
	t.Parallel()
	l := newNode(t)
	leases := l.dnsmasq6("fd00:40::100,fd00:40::1ff,64,2m")
	l.inProcess()
	l.Node.Server(l.Host, 80)
	p, res := l.added("bridge", "a", l.conf(bothFamilies))
	if len(res.IPs) != 2 || !strings.HasPrefix(res.IPs[1].Address, "fd00:40::1") || !strings.HasSuffix(res.IPs[1].Address, "/128") ||
		!netip.MustParseAddr(res.IPs[1].Gateway).IsLinkLocalUnicast() {
		t.Fatalf("the addresses are %+v", res.IPs)
	}
	if fmt.Sprint(res.DNS.Nameservers, res.DNS.Search) != "[fd00:40::53] [six.example]" {
		t.Errorf("dns is %+v", res.DNS)
	}
	want6(t, p, 0, res.IPs[1].Address)
	address := strings.TrimSuffix(res.IPs[1].Address, "/128")
	l.WantSeen(p.NS, "tcp", "[fd00:40::1]:80", address)
	leased := func() bool {
		text, err := os.ReadFile(leases)
		return err == nil && strings.Contains(string(text), address)
	}
	if !leased() {
		t.Error("the server knows of no lease")
	}
	if err := l.Check("bridge", "a", l.conf(bothFamilies)); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	l.Del("bridge", "a", l.conf(bothFamilies))
	eventually(t, 5*time.Second, "the server has the address back", func() bool { return !leased() })
	if left, err := os.ReadDir(l.state); err != nil || len(left) > 0 {
		t.Errorf("leases left on disk: %v, %v", left, err)
	}
}
