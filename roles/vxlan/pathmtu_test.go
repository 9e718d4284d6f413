package vxlan_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles/roletest"
)

// routed puts the bridge between the two nodes as a router: node 2 is in a network of its own, 198.51.100.0/24 and 2001:db8:2::/64. It returns the
// change to configurations.
func (c *cluster) routed() (moved func(string) string) {
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		c.net.Run("sysctl", "-qw", key+"=1")
	}
	c.net.Run("ip", "link", "set", "port2", "nomaster")
	for link, addrs := range map[string][]string{"lan": {"192.0.2.254/24", "2001:db8::fe/64"}, "port2": {"198.51.100.254/24", "2001:db8:2::fe/64"}} {
		addAddrs(c.net, link, addrs)
	}
	near, far := c.nodes[0].Host, c.nodes[1].Host
	far.Run("ip", "addr", "flush", "dev", "eth0", "scope", "global")
	addAddrs(far, "eth0", []string{"198.51.100.2/24", "2001:db8:2::2/64"})
	far.Run("ip", "route", "add", "default", "via", "198.51.100.254")
	far.Run("ip", "route", "add", "default", "via", "2001:db8:2::fe")
	near.Run("ip", "route", "add", "default", "via", "192.0.2.254")
	near.Run("ip", "route", "add", "default", "via", "2001:db8::fe")
	return strings.NewReplacer(`"192.0.2.2"`, `"198.51.100.2"`, `"2001:db8::2"`, `"2001:db8:2::2"`).Replace
}

func addAddrs(ns *nstest.NS, link string, addrs []string) {
	for _, a := range addrs {
		args := []string{"addr", "add", a, "dev", link}
		if strings.Contains(a, ":") {
			args = append(args, "nodad")
		}
		ns.Run("ip", args...)
	}
}

// transfer sends over one connection without a pause; in the midst of it comes during. All of it has to arrive, and in time.
func transfer(t *testing.T, from, to *nstest.NS, addr netip.Addr, port uint16, during func()) {
	t.Helper()
	const least, patience = 8 << 20, 40 * time.Second // bytes; what was sent before has to arrive as well
	var l net.Listener
	err := to.Do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var got []byte
	received := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			h := sha256.New()
			_, err = io.Copy(h, c)
			got = h.Sum(nil)
		}
		received <- err
	}()
	var c net.Conn
	if err := from.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", netip.AddrPortFrom(addr, port).String(), 5*time.Second)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	flows, enough, sent, want := make(chan struct{}), make(chan struct{}), make(chan error, 1), sha256.New()
	go func() { sent <- send(io.MultiWriter(want, c), least, flows, enough) }()
	<-flows
	during()
	begin := time.Now()
	close(enough)
	if err := c.SetDeadline(begin.Add(patience)); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatalf("after the path has got narrower: %v", err)
	}
	_ = c.Close()
	select {
	case err := <-received:
		if err != nil || !bytes.Equal(got, want.Sum(nil)) {
			t.Errorf("what arrived is not what was sent (%v)", err)
		}
		t.Logf("%d bytes within %v after the path had got narrower", least, time.Since(begin))
	case <-time.After(patience):
		t.Fatal("it does not all arrive")
	}
}

// send writes blocks that differ: some until it closes flows, more until enough is closed, and then at least so many bytes.
func send(to io.Writer, least int, flows, enough chan struct{}) error {
	const before = 1 << 20
	block := make([]byte, 1<<14)
	total, rest := 0, -1
	for i := byte(0); rest != 0; i++ {
		for j := range block {
			block[j] = i * byte(j)
		}
		n, err := to.Write(block)
		if err != nil {
			return err
		}
		if total += n; total == before {
			close(flows)
		}
		select {
		case <-enough:
			if rest < 0 {
				rest = least
			}
			rest = max(rest-n, 0)
		default:
		}
	}
	return nil
}

// A connection through the tunnel goes on when the path between two nodes gets narrower while it sends, whichever node is behind the narrow link.
func TestThePathGetsNarrower(t *testing.T) {
	t.Parallel()
	for underlay, v6 := range map[string]bool{"over IPv4": false, "over IPv6": true} {
		for direction, swap := range map[string]bool{"towards the narrow link": false, "from behind it": true} {
			for family, i := range map[string]int{"IPv4": 0, "IPv6": 1} {
				for mode, conf := range map[string]func(*cluster, *node) string{
					"routed": func(c *cluster, n *node) string { return c.conf(n) }, "bridged": func(c *cluster, n *node) string { return c.bridged(n) },
				} {
					t.Run(underlay+"/"+direction+"/"+family+"/"+mode, func(t *testing.T) {
						t.Parallel()
						c := newCluster(t, 2, v6)
						moved := c.routed()
						c.narrow(swap, i, func(n *node) string { return moved(conf(c, n)) })
						if mode == "bridged" { // where nothing is forwarded by IP
							return
						}
						near := c.nodes[0]
						near.Host.Run("sysctl", "-qw", "net.ipv4.ip_forward_use_pmtu=0")
						if err := near.Check("vxlan", "pod1", moved(c.conf(near))); (err != nil) != v6 {
							t.Errorf("CHECK: %v", err)
						}
					})
				}
			}
		}
	}
}

// narrow has the path get narrower while one pod of the two nodes sends to the other.
func (c *cluster) narrow(swap bool, family int, conf func(*node) string) {
	c.t.Helper()
	var pods []*roletest.Pod
	for _, n := range c.nodes {
		pods = append(pods, n.Add("vxlan", fmt.Sprint("pod", n.number), conf(n)))
	}
	from, to := pods[0], pods[1]
	if swap {
		from, to = to, from
	}
	transfer(c.t, from.NS, to.NS, to.Addrs[family], 90, func() {
		c.net.Run("ip", "link", "set", "port2", "mtu", "1400")
		c.nodes[1].Host.Run("ip", "link", "set", "eth0", "mtu", "1400")
	})
	transfer(c.t, to.NS, from.NS, from.Addrs[family], 91, func() {}) // and one that begins then
	// The next pod has the tunnel follow, where it does, and what goes on does so.
	transfer(c.t, from.NS, to.NS, to.Addrs[family], 92, func() { c.nodes[1].Add("vxlan", "next", conf(c.nodes[1])) })
}
