package dhcp_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
