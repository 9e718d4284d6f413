package dhcptest

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// Server6 is a router and a DHCPv6 server. It gives out the addresses of its network from the hundredth on. It knows clients by their DUIDs.
type Server6 struct {
	prefix       netip.Prefix
	udp          *net.UDPConn
	icmp         *net.IPConn
	serve, route chan struct{} // closed when it has ended

	mutex   sync.Mutex
	policy  Policy6
	held    map[string]netip.Addr
	next    netip.Addr
	seen    []Seen6
	changed chan struct{} // closed when something has been seen
}

// Policy6 is how a router and server answers. It can be changed at any time.
type Policy6 struct {
	NoRouter                   bool // solicitations are not answered
	Managed, Other, Autonomous bool // what the router says
	RDNSS                      netip.Addr
	Valid                      time.Duration // lifetime of addresses; 0: an hour
	T1, T2                     time.Duration
	Silent                     bool                         // no message is answered
	Mute                       dhcpv6.MessageType           // none of this kind
	Status                     map[dhcpv6.MessageType]Codes // in place of an address
	DNS                        net.IP
}

// Codes are how often an answer is to be a code.
type Codes struct {
	Code  iana.StatusCode
	Times int
}

// Seen6 is a message that a client has sent.
type Seen6 struct {
	*dhcpv6.Message
	At time.Time
}

// Router is the link-local address of a Server6.
const Router = "fe80::1"

// Start6 has a server answer on a link of the namespace, with the address, which the link is given. It ends with the test.
func Start6(t testing.TB, ns *nstest.NS, link, addr string, p Policy6) *Server6 {
	t.Helper()
	ns.Run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
	ns.Run("ip", "addr", "replace", addr, "dev", link, "nodad")
	ns.Run("ip", "addr", "replace", Router+"/64", "dev", link, "nodad")
	ns.Run("ip", "link", "set", link, "up")
	s := &Server6{
		prefix: netip.MustParsePrefix(addr).Masked(), policy: p, held: map[string]netip.Addr{}, changed: make(chan struct{}),
		serve: make(chan struct{}), route: make(chan struct{}),
	}
	s.next = s.prefix.Addr()
	for range 100 {
		s.next = s.next.Next()
	}
	err := ns.Do(func() (err error) {
		if s.udp, s.icmp, err = listen6(link); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	go s.serveDHCP()
	go s.answerSolicitations()
	t.Cleanup(func() {
		_, _ = s.udp.Close(), s.icmp.Close()
		<-s.serve
		<-s.route
	})
	return s
}

func listen6(link string) (*net.UDPConn, *net.IPConn, error) {
	dev, err := net.InterfaceByName(link)
	if err != nil {
		return nil, nil, err
	}
	config := func(group string) *net.ListenConfig {
		return &net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
			controlErr := raw.Control(func(fd uintptr) {
				join := &unix.IPv6Mreq{Multiaddr: netip.MustParseAddr(group).As16(), Interface: uint32(dev.Index)}
				err = errors.Join(
					unix.BindToDevice(int(fd), link), unix.SetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, join),
					unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, dev.Index),
					unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
				)
			})
			return errors.Join(controlErr, err)
		}}
	}
	u, err := config("ff02::1:2").ListenPacket(context.Background(), "udp6", "[::]:547")
	if err != nil {
		return nil, nil, err
	}
	i, err := config("ff02::2").ListenPacket(context.Background(), "ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, nil, errors.Join(err, u.Close())
	}
	udp, _ := u.(*net.UDPConn)
	icmp, _ := i.(*net.IPConn)
	return udp, icmp, nil
}

// Set changes how the server answers.
func (s *Server6) Set(p Policy6) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.policy = p
}

// Forget has the server begin anew, with addresses that it has not given out before.
func (s *Server6) Forget() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	clear(s.held)
}

// Held are the addresses that are leased.
func (s *Server6) Held() (all []netip.Addr) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, a := range s.held {
		all = append(all, a)
	}
	return all
}

// Seen are the messages of the kind that have come.
func (s *Server6) Seen(kind dhcpv6.MessageType) (out []Seen6) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, m := range s.seen {
		if m.MessageType == kind {
			out = append(out, m)
		}
	}
	return out
}

// Await waits until there is a message of the kind, come since then.
func (s *Server6) Await(t testing.TB, since time.Time, limit time.Duration, kind dhcpv6.MessageType) Seen6 {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		s.mutex.Lock()
		changed := s.changed
		s.mutex.Unlock()
		for _, m := range s.Seen(kind) {
			if m.At.After(since) {
				return m
			}
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("the server has not seen a message %s in %s", kind, limit)
		}
	}
}

// answerSolicitations answers hosts that ask for routers.
func (s *Server6) answerSolicitations() {
	defer close(s.route)
	const routerSolicitation = 133
	buf := make([]byte, 2048)
	for {
		n, _, err := s.icmp.ReadFrom(buf)
		if err != nil {
			return
		}
		if n == 0 || buf[0] != routerSolicitation {
			continue
		}
		s.mutex.Lock()
		p := s.policy
		s.mutex.Unlock()
		if !p.NoRouter {
			_, _ = s.icmp.WriteTo(s.advertisement(&p), &net.IPAddr{IP: net.ParseIP("ff02::1")})
		}
	}
}

// advertisement is a router's (RFC 4861, section 4.2; RFC 8106). The kernel fills in its checksum.
func (s *Server6) advertisement(p *Policy6) []byte {
	flag := func(is bool, bit byte) byte {
		if is {
			return bit
		}
		return 0
	}
	out := []byte{134, 0, 0, 0, 64, flag(p.Managed, 0x80) | flag(p.Other, 0x40), 1800 >> 8, 1800 & 0xff, 0, 0, 0, 0, 0, 0, 0, 0}
	out = append(out, 3, 4, byte(s.prefix.Bits()), 0x80|flag(p.Autonomous, 0x40))
	out = binary.BigEndian.AppendUint32(out, 3600)
	out = binary.BigEndian.AppendUint32(out, 1800)
	out = append(append(out, 0, 0, 0, 0), s.prefix.Addr().AsSlice()...)
	if p.RDNSS.IsValid() {
		out = binary.BigEndian.AppendUint32(append(out, 25, 3, 0, 0), 600)
		out = append(out, p.RDNSS.AsSlice()...)
	}
	return out
}

func (s *Server6) serveDHCP() {
	defer close(s.serve)
	buf := make([]byte, 64<<10)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		m, err := dhcpv6.MessageFromBytes(buf[:n])
		if err != nil {
			continue
		}
		if reply := s.answer(m); reply != nil {
			_, _ = s.udp.WriteToUDPAddrPort(reply.ToBytes(), netip.AddrPortFrom(from.Addr().WithZone(""), from.Port()))
		}
	}
}

func (s *Server6) answer(m *dhcpv6.Message) *dhcpv6.Message {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.seen = append(s.seen, Seen6{m, time.Now()})
	close(s.changed)
	s.changed = make(chan struct{})
	if s.policy.Silent || s.policy.Mute == m.MessageType {
		return nil
	}
	kind := dhcpv6.MessageTypeReply
	if m.MessageType == dhcpv6.MessageTypeSolicit {
		kind = dhcpv6.MessageTypeAdvertise
	}
	reply := &dhcpv6.Message{MessageType: kind, TransactionID: m.TransactionID}
	reply.AddOption(dhcpv6.OptClientID(m.Options.ClientID()))
	reply.AddOption(dhcpv6.OptServerID(&dhcpv6.DUIDOpaque{Type: dhcpv6.DUID_EN, Data: []byte("server")}))
	if s.policy.DNS != nil {
		reply.AddOption(dhcpv6.OptDNS(s.policy.DNS))
	}
	client := string(m.Options.ClientID().ToBytes())
	ia := m.Options.OneIANA()
	switch {
	case m.MessageType == dhcpv6.MessageTypeRelease:
		delete(s.held, client)
	case ia != nil:
		reply.AddOption(s.association(m, client, ia.IaId))
	}
	return reply
}

// association is what the client is given: the address that it has, or the next one, or a code.
func (s *Server6) association(m *dhcpv6.Message, client string, id [4]byte) *dhcpv6.OptIANA {
	out := &dhcpv6.OptIANA{IaId: id, T1: s.policy.T1, T2: s.policy.T2}
	if c := s.policy.Status[m.MessageType]; c.Times > 0 {
		s.policy.Status[m.MessageType] = Codes{c.Code, c.Times - 1}
		out.Options.Add(&dhcpv6.OptStatusCode{StatusCode: c.Code})
		return out
	}
	if _, ok := s.held[client]; !ok {
		s.held[client] = s.next
		s.next = s.next.Next()
	}
	valid := s.policy.Valid
	if valid == 0 {
		valid = time.Hour
	}
	out.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: s.held[client].AsSlice(), PreferredLifetime: valid, ValidLifetime: valid})
	return out
}
