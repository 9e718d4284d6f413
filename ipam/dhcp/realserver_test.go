package dhcp_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// product is a DHCP server that people run.
type product struct {
	name string
	// argv writes what the program reads into the folder, where it keeps its leases too, and returns its command line.
	argv func(t *testing.T, dir string, o offer) []string
	// until reads out of the folder when the lease of an address ends, by the server's clock. Zero: it is nobody's.
	until func(dir, address string) time.Time
	// shortest is the least time that it leases an address for.
	shortest time.Duration
}

// offer is what a server is to give out: the addresses .20 to .250 of a network that is named by its first three numbers. The router is .1.
type offer struct {
	net           string
	lease, t1, t2 int // seconds
}

// products are those that the tests know. One more is one more of these.
func products() []product {
	return []product{
		{"dnsmasq", dnsmasq, dnsmasqUntil, 2 * time.Minute},
		{"dhcpd", dhcpd, dhcpdUntil, time.Second},
	}
}

// nets are the networks of the host's bridge. A server serves one of them.
func nets() []string { return []string{"10.40.0", "10.41.0"} }

// dnsmasq leases no address for less than two minutes: an option 51 that it is made to send comes after its own, and the two are one of eight bytes
// (RFC 3396). Its T1 and T2 can be as short as three seconds.
func dnsmasq(_ *testing.T, dir string, o offer) []string {
	return []string{
		"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=br0", "--bind-interfaces", "--user=root", "--pid-file=",
		"--log-facility=-", "--no-ping", "--dhcp-authoritative", "--dhcp-leasefile=" + filepath.Join(dir, "leases"),
		fmt.Sprintf("--dhcp-range=%s.20,%[1]s.250,255.255.255.0,%d", o.net, o.lease),
		fmt.Sprintf("--dhcp-option=option:T1,%d", o.t1), fmt.Sprintf("--dhcp-option=option:T2,%d", o.t2),
	}
}

// dnsmasqUntil: the file has a line for each lease, which begins with its end in seconds since 1970 and has the address as its third word.
func dnsmasqUntil(dir, address string) time.Time {
	text, _ := os.ReadFile(filepath.Join(dir, "leases"))
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 3 || words[2] != address {
			continue
		}
		if end, err := strconv.ParseInt(words[0], 10, 64); err == nil {
			return time.Unix(end, 0)
		}
	}
	return time.Time{}
}

// dhcpd knows all networks of the link, and refuses an address of one that it no longer gives out. Without a threshold it would only repeat the
// old end of a lease that is renewed in its first quarter.
func dhcpd(t *testing.T, dir string, o offer) []string {
	t.Helper()
	var conf strings.Builder
	fmt.Fprintf(&conf, "authoritative; ping-check false; dhcp-cache-threshold 0; min-lease-time 1; default-lease-time %d; max-lease-time %[1]d;\n", o.lease)
	fmt.Fprintf(&conf, "option dhcp-renewal-time %d; option dhcp-rebinding-time %d;\nshared-network br0 {\n", o.t1, o.t2)
	for _, net := range nets() {
		deny := ""
		if net != o.net {
			deny = "deny unknown-clients;"
		}
		fmt.Fprintf(&conf, "subnet %s.0 netmask 255.255.255.0 { option routers %[1]s.1; pool { range %[1]s.20 %[1]s.250; %s } }\n", net, deny)
	}
	conf.WriteString("}\n")
	write(t, filepath.Join(dir, "conf"), conf.String())
	leases := filepath.Join(dir, "leases")
	if _, err := os.Stat(leases); err != nil { // it does not make one
		write(t, leases, "")
	}
	return []string{"dhcpd", "-4", "-f", "-d", "-cf", filepath.Join(dir, "conf"), "-lf", leases, "--no-pid", "br0"}
}

// dhcpdUntil: what has become of a lease is appended. The last that is written to its end counts.
func dhcpdUntil(dir, address string) time.Time {
	text, _ := os.ReadFile(filepath.Join(dir, "leases"))
	last := ""
	for _, l := range strings.Split(string(text), "lease "+address+" {")[1:] {
		if body, _, whole := strings.Cut(l, "\n}"); whole {
			last = body
		}
	}
	_, ends, _ := strings.Cut(last, "ends ")
	ends, _, _ = strings.Cut(ends, ";")
	_, ends, _ = strings.Cut(ends, " ") // the day of the week is in front
	end, err := time.Parse("2006/01/02 15:04:05", ends)
	if err != nil || !strings.Contains(last, "\n  binding state active;") {
		return time.Time{}
	}
	return end
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// realServer is a server on the host. Its leases outlive its process.
type realServer struct {
	product
	l   *lan
	dir string
	log *log
	cmd *exec.Cmd
}

// serve gives the host's bridge its networks, and has a server serve the one of the offer. Who is reached at port 80 says who asked.
func (l *lan) serve(p product, o offer) *realServer {
	l.t.Helper()
	for _, net := range nets() {
		l.Host.Run("ip", "addr", "add", net+".1/24", "dev", "br0")
	}
	l.Node.Server(l.Host, 80)
	s := &realServer{product: p, l: l, dir: l.t.TempDir(), log: &log{}}
	l.t.Cleanup(func() {
		if l.t.Failed() {
			l.t.Logf("%s says:\n%s", s.name, s.log)
		}
	})
	s.start(o)
	return s
}

// start starts the server; clients ask again until it listens.
func (s *realServer) start(o offer) {
	s.l.t.Helper()
	argv := s.argv(s.l.t, s.dir, o)
	s.cmd = s.l.logged(s.log, argv[0], argv[1:]...)
}

// server starts a program on the host, whose output is among the daemon's. It is killed when the test ends.
func (l *lan) server(name string, args ...string) {
	l.t.Helper()
	l.logged(l.log, name, args...)
}

func (l *lan) logged(to *log, name string, args ...string) *exec.Cmd {
	l.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = to, to
	if err := nstest.Enter(l.Host.Path, cmd.Start); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { kill(cmd) })
	return cmd
}

// kill ends the server at once, as when its machine is gone.
func (s *realServer) kill() { kill(s.cmd) }

// ends is when the lease of an address ends. Zero: it is nobody's.
func (s *realServer) ends(address string) time.Time { return s.until(s.dir, address) }

// said counts the lines of the server's log about a message, as "DHCPACK", and an address, or any if that is empty.
func (s *realServer) said(message, address string) (n int) {
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, message) && (address == "" || slices.Contains(strings.Fields(line), address)) {
			n++
		}
	}
	return n
}

// renewed waits until the server has acknowledged a lease once more and has written that it ends later, and the daemon has heard of it.
func (s *realServer) renewed(address string) {
	s.l.t.Helper()
	heard := func() int { return strings.Count(s.l.log.String(), address+" renewed") }
	acks, end, before := s.said("DHCPACK", address), s.ends(address), heard()
	eventually(s.l.t, 20*time.Second, s.name+" has renewed the lease of "+address, func() bool {
		return s.said("DHCPACK", address) > acks && s.ends(address).After(end) && heard() > before
	})
}
