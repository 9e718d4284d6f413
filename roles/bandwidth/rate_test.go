package bandwidth_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles/roletest"
)

// How a rate is measured: what arrives within the window, which begins when the burst is used up.
const (
	settle = 500 * time.Millisecond
	window = 1500 * time.Millisecond
	tries  = 3 // the machine may be busy with other things
)

// Bytes of a frame of 1500 bytes that are not payload: Ethernet, and IPv4 or IPv6 with TCP and its timestamps, or UDP.
const frame = 1514

func payload(network string, to netip.Addr) int {
	size := 1500 - 20
	if to.Is6() {
		size -= 20
	}
	if network == "tcp" {
		return size - 32
	}
	return size - 8
}

// rate sends from one namespace to an address of another for a while, as much as goes, and returns the bits per second that arrive on the wire.
func rate(t *testing.T, network string, from, to *nstest.NS, addr netip.Addr) float64 {
	t.Helper()
	at := netip.AddrPortFrom(addr, 5001).String()
	received := make(chan float64, 1)
	var l net.Listener
	var u net.PacketConn
	err := to.Do(func() (err error) {
		if network == "tcp" {
			l, err = net.Listen(network, at)
		} else {
			u, err = net.ListenPacket(network, at)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if l != nil {
			defer func() { _ = l.Close() }()
			c, err := l.Accept()
			if err != nil {
				received <- 0
				return
			}
			defer func() { _ = c.Close() }()
			received <- count(c.Read, c)
			return
		}
		defer func() { _ = u.Close() }()
		received <- count(func(b []byte) (int, error) { n, _, err := u.ReadFrom(b); return n, err }, u)
	}()
	var c net.Conn
	err = from.Do(func() (err error) {
		c, err = net.DialTimeout(network, at, 5*time.Second)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(settle + window + time.Second))
	data := make([]byte, payload(network, addr))
	for {
		select {
		case bytes := <-received:
			return bytes / float64(len(data)) * frame * 8 / window.Seconds()
		default:
		}
		for range 8 {
			if _, err := c.Write(data); err != nil && network == "tcp" {
				return <-received / float64(len(data)) * frame * 8 / window.Seconds()
			}
		}
		if network == "udp" {
			time.Sleep(time.Millisecond) // 8 packets each millisecond are 97 Mbit/s
		}
	}
}

// count reads for as long as the measurement takes, and returns how many bytes came in its window.
func count(read func([]byte) (int, error), c interface{ SetReadDeadline(time.Time) error }) float64 {
	begin := time.Now().Add(settle)
	_ = c.SetReadDeadline(begin.Add(window))
	var total int
	buf := make([]byte, 64<<10)
	for {
		n, err := read(buf)
		if err != nil {
			return float64(total)
		}
		if time.Now().After(begin) {
			total += n
		}
	}
}

// wantRate measures until the rate is within 10 % of what it should be, or there is none if that is 0.
func wantRate(t *testing.T, what, network string, from, to *nstest.NS, addr netip.Addr, want float64) {
	t.Helper()
	var got []string
	for range tries {
		r := rate(t, network, from, to, addr)
		got = append(got, fmt.Sprintf("%.2f", r/1e6))
		if want == 0 && r > 12e6 || want != 0 && r > want*0.9 && r < want*1.1 {
			t.Logf("%s: %.2f Mbit/s of %.0f", what, r/1e6, want/1e6)
			return
		}
	}
	t.Errorf("%s: %v Mbit/s, want %.2f", what, got, want/1e6)
}

func TestRates(t *testing.T) {
	host4, host6 := netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("fd01::1")
	for _, tt := range []struct {
		keys            string
		ingress, egress float64 // 0: without a limit
	}{
		{`"ingressRate": 8000000, "ingressBurst": 400000, "egressRate": 16000000, "egressBurst": 400000`, 8e6, 16e6},
		{`"ingressRate": 8000000, "ingressBurst": 400000`, 8e6, 0},
		{`"egressRate": 8000000, "egressBurst": 400000`, 0, 8e6},
		{`"runtimeConfig": {"bandwidth": {"IngressRate": 8000000, "IngressBurst": 4294967295}}`, 8e6, 0},
	} {
		t.Run(tt.keys, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			p, _ := n.add("a", tt.keys)
			wantRate(t, "to the pod, TCP over IPv4", "tcp", n.Host, p.NS, p.Addrs[0], tt.ingress)
			wantRate(t, "to the pod, UDP over IPv6", "udp", n.Host, p.NS, p.Addrs[1], tt.ingress)
			wantRate(t, "from the pod, UDP over IPv4", "udp", p.NS, n.Host, host4, tt.egress)
			wantRate(t, "from the pod, TCP over IPv6", "tcp", p.NS, n.Host, host6, tt.egress)
		})
	}
}

func TestSubnets(t *testing.T) {
	host4, host6 := netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("fd01::1")
	const both = `"ingressRate": 8000000, "ingressBurst": 400000, "egressRate": 8000000, "egressBurst": 400000`
	for _, tt := range []struct {
		keys         string
		rate4, rate6 float64
	}{
		{`"shapedSubnets": ["10.1.1.0/24", "fd01::/64"]`, 8e6, 8e6},
		{`"shapedSubnets": ["10.1.2.0/24", "fd02::/64"]`, 0, 0},
		{`"shapedSubnets": ["fd01::/64"]`, 0, 8e6},
		{`"unshapedSubnets": ["10.1.1.0/24", "fd01::/64"]`, 0, 0},
		{`"unshapedSubnets": ["10.1.2.0/24", "fd02::/64"]`, 8e6, 8e6},
		{`"unshapedSubnets": ["fd01::/64"]`, 8e6, 0},
	} {
		t.Run(tt.keys, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			p, _ := n.add("a", both+", "+tt.keys)
			wantRate(t, "to the pod, IPv4", "udp", n.Host, p.NS, p.Addrs[0], tt.rate4)
			wantRate(t, "to the pod, IPv6", "tcp", n.Host, p.NS, p.Addrs[1], tt.rate6)
			wantRate(t, "from the pod, IPv4", "tcp", p.NS, n.Host, host4, tt.rate4)
			wantRate(t, "from the pod, IPv6", "udp", p.NS, n.Host, host6, tt.rate6)
		})
	}
}

// A pod with addresses of one family is limited as one with both.
func TestRatesOfOneFamily(t *testing.T) {
	for _, tt := range []struct{ addr, host string }{{"10.1.1.5/24", "10.1.1.1"}, {"fd01::5/64", "fd01::1"}} {
		t.Run(tt.addr, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			p := n.Add("ptp", "a", `{"cniVersion": "1.1.0", "name": "net", "type": "ptp", "ipam": {"type": "static", "addresses": [{"address": "`+tt.addr+`"}]}}`)
			c := p.WithPrev(conf(`"ingressRate": 8000000, "ingressBurst": 400000, "egressRate": 16000000, "egressBurst": 400000`))
			n.Must(roletest.Call{Verb: "ADD", Role: "bandwidth", Pod: p, Conf: c})
			wantRate(t, "to the pod", "tcp", n.Host, p.NS, p.Addrs[0], 8e6)
			wantRate(t, "from the pod", "tcp", p.NS, n.Host, netip.MustParseAddr(tt.host), 16e6)
		})
	}
}
