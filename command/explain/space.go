package explain

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft/eval"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// space is a network namespace that a packet may come through. What is asked of it is asked once.
type space struct {
	*netutil.Namespace
	host   bool
	number int             // by which the host knows it; rtnl.NoNamespace: none
	name   string          // for people
	seen   *node.Namespace // as it was in the snapshot; nil: the host
	loaded bool
	failed bool // it could not be loaded: it goes at this moment, perhaps

	links  map[int]*link
	addrs  []rtnl.Addr
	filter *rawnl.Socket
	rules  *eval.Ruleset
	conns  []*eval.Conn
	fdb    map[int][]fdbEntry // of bridges, by index
	vlans  map[int][]vlan     // of bridge ports, by index
}

// link is an interface of a space.
type link struct {
	*rtnl.Device
	space     *space
	portState uint8  // of a bridge's port, BR_STATE_
	body      []byte // as the kernel told of it
}

// What linux/if_link.h has beyond package rtnl.
const (
	infoSlaveData = 5 // IFLA_INFO_SLAVE_DATA
	portStateAttr = 1 // IFLA_BRPORT_STATE
	forwarding    = 3 // BR_STATE_FORWARDING
)

// device is the link as rules know it.
func (l *link) device() eval.Device {
	if l == nil {
		return eval.Device{}
	}
	return eval.Device{Index: l.Index, Name: l.Name, Kind: l.Kind, Group: l.Group}
}

// works is why a link carries nothing; empty if it does.
func (l *link) broken() string {
	switch {
	case !l.Up():
		return "the link is down"
	case l.Flags&unix.IFF_LOWER_UP == 0:
		return "the link has no carrier: its other end is down"
	}
	return ""
}

// load reads the space's links and addresses, which refer to other spaces by numbers.
func (s *space) load() error {
	bodies, err := netutil.List(s.Namespace, "list links", rtnl.GetLinks())
	if err != nil {
		return err
	}
	s.links = map[int]*link{}
	for _, b := range bodies {
		if l := parseLink(s, b); l != nil {
			s.links[l.Index] = l
		}
	}
	for _, like := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		bodies, err := netutil.List(s.Namespace, "list addresses", rtnl.GetAddrs(0, like))
		if err != nil {
			return err
		}
		for _, b := range bodies {
			if a, ok := rtnl.ParseAddr(b); ok {
				s.addrs = append(s.addrs, a)
			}
		}
	}
	s.loaded = true
	return nil
}

func parseLink(s *space, b []byte) *link {
	parsed := rtnl.ParseDevice(b)
	if parsed == nil {
		return nil
	}
	attrs := b[unix.SizeofIfInfomsg:]
	l := &link{Device: parsed, space: s, body: b, portState: forwarding}
	port := rawnl.Find(rawnl.Find(attrs, unix.IFLA_LINKINFO), infoSlaveData)
	if v := rawnl.Find(port, portStateAttr); len(v) == 1 && l.Master != 0 {
		l.portState = v[0]
	}
	return l
}

// ready loads the space unless it is.
func (s *space) ready() bool {
	if !s.loaded && !s.failed {
		s.failed = s.load() != nil
	}
	return s.loaded
}

// has tells whether the space had a link of a kind.
func (s *space) has(kind string) bool {
	return s.seen == nil || slices.ContainsFunc(s.seen.Links, func(l *node.Link) bool { return l.Kind == kind })
}

// at tells whether an address is one of the space's own, and on which link.
func (s *space) at(a netip.Addr) (*link, bool) {
	if !s.ready() {
		return nil, false
	}
	for _, own := range s.addrs {
		if own.Prefix.Addr() == a {
			return s.links[own.Link], s.links[own.Link] != nil
		}
	}
	return nil, false
}

// named is the link of a name; nil if there is none.
func (s *space) named(name string) *link {
	for _, l := range s.links {
		if l.Name == name {
			return l
		}
	}
	return nil
}

// sysctl is a value below /proc/sys/net; empty if there is none.
func (s *space) sysctl(parts ...string) string {
	value, err := s.Sysctl(append([]string{"net"}, parts...)...)
	if err != nil {
		return ""
	}
	return value
}

// conf is a value of net.ipv4.conf or net.ipv6.conf.
func (s *space) conf(six bool, linkName, key string) string {
	family := "ipv4"
	if six {
		family = "ipv6"
	}
	return s.sysctl(family, "conf", linkName, key)
}

// ask makes one request of rtnetlink. missing: the kernel has answered that there is none.
func (s *space) ask(m rawnl.Message) (body []byte, failed unix.Errno, err error) {
	answers, err := netutil.Ask(s.Namespace, m)
	if err != nil {
		return nil, 0, err
	}
	if a := &answers[0]; a.Err != nil {
		var errno unix.Errno
		errors.As(a.Err, &errno)
		return nil, errno, nil
	}
	if len(answers[0].Bodies) == 0 {
		return nil, unix.ENOENT, nil
	}
	return answers[0].Bodies[0], 0, nil
}

// exchange is the space's socket of the packet filter.
func (s *space) exchange(messages ...rawnl.Message) ([]rawnl.Answer, error) {
	if s.filter == nil {
		var err error
		if s.filter, err = s.socket(unix.NETLINK_NETFILTER); err != nil {
			return nil, err
		}
	}
	return s.filter.Exchange(messages...)
}

func (s *space) socket(protocol int) (sock *rawnl.Socket, err error) {
	err = s.Do(func() (err error) {
		sock, err = rawnl.Open(protocol)
		return err
	})
	return sock, err
}

// ruleset is the space's packet filter. A kernel without nftables has none.
func (s *space) ruleset() (*eval.Ruleset, error) {
	if s.rules == nil {
		rules, err := eval.Read(s.exchange)
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EPROTONOSUPPORT) {
			return nil, err
		}
		s.rules = rules
	}
	return s.rules, nil
}

func (s *space) close() {
	s.filter.Close()
	s.Close()
}
