// Package dhcptest is a DHCP server for tests: without a ping before it offers, with leases of seconds, and with the whims of real ones.
package dhcptest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// Server gives out the addresses of its network from the tenth on. It knows clients by their identifiers.
type Server struct {
	conn  *net.UDPConn
	addr  netip.Prefix
	ended chan struct{}

	mutex   sync.Mutex
	policy  Policy
	held    map[string]netip.Addr // client identifier -> address
	next    netip.Addr
	seen    []Seen
	changed chan struct{} // closed when something has been seen
}

// Policy is how a server answers. It can be changed at any time.
type Policy struct {
	Lease  time.Duration   // 0: an hour
	T1, T2 time.Duration   // 0: not said
	Silent bool            // nothing is answered
	Mute   bool            // nothing is answered to who has an address
	Refuse bool            // the next who wants more time gets a NAK, and another address when it asks again
	Extra  []dhcpv4.Option // in offers and acknowledgements, in place of mask and router where they are the same
}

// Seen is a message that a client has sent.
type Seen struct {
	*dhcpv4.DHCPv4
	From    netip.Addr
	Unicast bool // sent to the server's own address
	At      time.Time
}

// Start has a server answer on a link of the namespace, with the address, which the link is given. It ends with the test, or by Close.
func Start(t testing.TB, ns *nstest.NS, link, addr string, p Policy) *Server {
	t.Helper()
	ns.Run("ip", "addr", "replace", addr, "dev", link)
	ns.Run("ip", "link", "set", link, "up")
	s := &Server{
		addr: netip.MustParsePrefix(addr), policy: p, held: map[string]netip.Addr{}, ended: make(chan struct{}), changed: make(chan struct{}),
	}
	s.next = s.addr.Masked().Addr()
	for range 10 {
		s.next = s.next.Next()
	}
	err := ns.Do(func() (err error) {
		s.conn, err = listen(link)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	go s.serve()
	t.Cleanup(s.Close)
	return s
}

// listen opens the server's port on a link.
func listen(link string) (*net.UDPConn, error) {
	options := func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1), unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1), unix.BindToDevice(int(fd), link),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20),
			)
		})
		return errors.Join(controlErr, err)
	}
	c, err := (&net.ListenConfig{Control: options}).ListenPacket(context.Background(), "udp4", ":67")
	u, _ := c.(*net.UDPConn)
	return u, err
}

// Close ends the server. It may be called twice.
func (s *Server) Close() {
	_ = s.conn.Close()
	<-s.ended
}

// Set changes how the server answers.
func (s *Server) Set(p Policy) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.policy = p
}

// Forget has the server begin anew, with addresses that it has not given out before.
func (s *Server) Forget() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	clear(s.held)
}

// Held are the leases, by client identifier as text.
func (s *Server) Held() map[string]netip.Addr {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	out := map[string]netip.Addr{}
	for id, a := range s.held {
		out[id] = a
	}
	return out
}

// Count is how many messages of the kind have come.
func (s *Server) Count(kind dhcpv4.MessageType) int { return len(s.Seen(kind)) }

// Seen are the messages of the kind that have come.
func (s *Server) Seen(kind dhcpv4.MessageType) (out []Seen) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, m := range s.seen {
		if m.MessageType() == kind {
			out = append(out, m)
		}
	}
	return out
}

// Await waits until there is a message, come since then, for which want is true.
func (s *Server) Await(t testing.TB, since time.Time, limit time.Duration, what string, want func(Seen) bool) Seen {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		s.mutex.Lock()
		for _, m := range s.seen {
			if m.At.After(since) && want(m) {
				s.mutex.Unlock()
				return m
			}
		}
		changed := s.changed
		s.mutex.Unlock()
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("%s: the server has not seen it in %s", what, limit)
		}
	}
}

func (s *Server) serve() {
	defer close(s.ended)
	buf, control := make([]byte, 64<<10), make([]byte, 128)
	for {
		n, k, _, from, err := s.conn.ReadMsgUDPAddrPort(buf, control)
		if err != nil {
			return
		}
		m, err := dhcpv4.FromBytes(buf[:n])
		if err != nil || m.OpCode != dhcpv4.OpcodeBootRequest {
			continue
		}
		reply := s.answer(Seen{m, from.Addr().Unmap(), sentTo(control[:k]) == s.addr.Addr(), time.Now()})
		if reply == nil {
			continue
		}
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 68)
		if ip, ok := netip.AddrFromSlice(m.ClientIPAddr.To4()); ok && !ip.IsUnspecified() && reply.MessageType() != dhcpv4.MessageTypeNak {
			to = netip.AddrPortFrom(ip, 68)
		}
		_, _ = s.conn.WriteToUDPAddrPort(reply.ToBytes(), to)
	}
}

// sentTo is the destination of a packet, as the control message has it.
func sentTo(control []byte) netip.Addr {
	messages, err := unix.ParseSocketControlMessage(control)
	const info = 12 // struct in_pktinfo: index, local address, destination
	if err != nil || len(messages) == 0 || len(messages[0].Data) < info {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(messages[0].Data[8:info]))
}

func (s *Server) answer(m Seen) *dhcpv4.DHCPv4 {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.seen = append(s.seen, m)
	close(s.changed)
	s.changed = make(chan struct{})
	id := string(m.Options.Get(dhcpv4.OptionClientIdentifier))
	if id != "" {
		id = id[1:]
	}
	renews := m.MessageType() == dhcpv4.MessageTypeRequest && !m.ClientIPAddr.IsUnspecified()
	switch {
	case s.policy.Silent, s.policy.Mute && renews:
		return nil
	case m.MessageType() == dhcpv4.MessageTypeRelease:
		delete(s.held, id)
		return nil
	case m.MessageType() == dhcpv4.MessageTypeDiscover:
		return s.reply(m.DHCPv4, dhcpv4.MessageTypeOffer, s.addressOf(id))
	case m.MessageType() != dhcpv4.MessageTypeRequest:
		return nil
	}
	asked := m.RequestedIPAddress()
	if renews {
		asked = m.ClientIPAddr
	}
	want, _ := netip.AddrFromSlice(asked.To4())
	if has := s.held[id]; has != want || s.policy.Refuse && renews {
		s.policy.Refuse = false
		delete(s.held, id)
		return s.reply(m.DHCPv4, dhcpv4.MessageTypeNak, netip.Addr{})
	}
	return s.reply(m.DHCPv4, dhcpv4.MessageTypeAck, want)
}

func (s *Server) addressOf(id string) netip.Addr {
	if a, ok := s.held[id]; ok {
		return a
	}
	s.held[id] = s.next
	s.next = s.next.Next()
	return s.held[id]
}

func (s *Server) reply(to *dhcpv4.DHCPv4, kind dhcpv4.MessageType, address netip.Addr) *dhcpv4.DHCPv4 {
	own := net.IP(s.addr.Addr().AsSlice())
	modifiers := []dhcpv4.Modifier{dhcpv4.WithMessageType(kind), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(own))}
	if kind != dhcpv4.MessageTypeNak {
		lease := s.policy.Lease
		if lease == 0 {
			lease = time.Hour
		}
		options := []dhcpv4.Option{
			dhcpv4.OptIPAddressLeaseTime(lease), dhcpv4.OptSubnetMask(net.CIDRMask(s.addr.Bits(), 32)), dhcpv4.OptRouter(own),
		}
		if s.policy.T1 > 0 {
			options = append(options, dhcpv4.OptRenewTimeValue(s.policy.T1))
		}
		if s.policy.T2 > 0 {
			options = append(options, dhcpv4.OptRebindingTimeValue(s.policy.T2))
		}
		modifiers = append(modifiers, dhcpv4.WithYourIP(address.AsSlice()))
		for _, o := range append(options, s.policy.Extra...) {
			modifiers = append(modifiers, dhcpv4.WithOption(o))
		}
	}
	m, err := dhcpv4.NewReplyFromRequest(to, modifiers...)
	if err != nil {
		return nil
	}
	return m
}
