package overlay

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/plainfile"
)

// Peer is a node of the overlay as others know it.
type Peer struct {
	Name     string
	Underlay []netip.Addr     // at most one of each family
	Subnets  []netip.Prefix   // of its pods; bridged: without meaning
	MAC      net.HardwareAddr // of its device, where it does not follow from the subnets; nil: it does
}

// peerText is a peer as a configuration has it. Addresses are text, so that an error can name the key.
type peerText struct {
	Name     string   `json:"name"`
	Underlay []string `json:"underlay"`
	Subnets  []string `json:"subnets"`
	MAC      string   `json:"mac"`
}

// ParsePeers takes the peers from a list in JSON. The error has the code errcode.InvalidConfig, and names the key, which begins with at; the peers are
// then those that there were.
func (c *Config) ParsePeers(at string, text []byte) error {
	var list []json.RawMessage
	if err := json.Unmarshal(text, &list); err != nil {
		return errcode.Errorf(errcode.InvalidConfig, "%s: no list of peers: %w", at, err)
	}
	peers := make([]Peer, len(list))
	for i := range list {
		var t peerText
		here := at + "[" + strconv.Itoa(i) + "]"
		err := t.read(here, list[i])
		if err == nil {
			peers[i], err = t.parse(here)
		}
		if err == nil && len(t.Subnets) == 0 && !c.bridged() {
			err = errcode.Errorf(errcode.InvalidConfig, "%s.subnets: missing; %s has no pods then", here, t.Name)
		}
		if err != nil {
			return err
		}
	}
	if err := unequal(at, peers); err != nil {
		return err
	}
	if !c.bridged() {
		if err := disjoint(at, peers); err != nil {
			return err
		}
	}
	c.Peers = peers
	return nil
}

// MostPeers bounds a PeersFile, in bytes: some 60,000 peers.
const MostPeers = 8 << 20

// ReadPeers takes the peers from PeersFile, like ParsePeers.
func (c *Config) ReadPeers() error {
	text, err := plainfile.ReadTrusted(c.PeersFile, MostPeers)
	if err != nil {
		return errcode.Errorf(errcode.InvalidConfig, "peersFile: %w", err)
	}
	return c.ParsePeers("peersFile "+c.PeersFile+": peers", text)
}

func (t *peerText) read(at string, text []byte) error {
	err := json.Unmarshal(text, t)
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &kind) && kind.Field != "":
		return errcode.Errorf(errcode.InvalidConfig, "%s.%s: it is a JSON %s, where a %s belongs", at, kind.Field, kind.Value, kind.Type)
	}
	return errcode.Errorf(errcode.InvalidConfig, "%s: no peer: %w", at, err)
}

func (t *peerText) parse(at string) (p Peer, err error) {
	bad := func(key, value, want string) error {
		return errcode.Errorf(errcode.InvalidConfig, "%s.%s: %q is no %s", at, key, value, want)
	}
	if p.Name = t.Name; p.Name == "" || strings.ContainsAny(p.Name, "\n\t ") {
		return p, bad("name", t.Name, "name of a node")
	}
	for i, s := range t.Underlay {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return p, bad("underlay["+strconv.Itoa(i)+"]", s, "address of a host")
		}
		a = a.Unmap()
		if slices.ContainsFunc(p.Underlay, func(other netip.Addr) bool { return other.Is4() == a.Is4() }) {
			return p, bad("underlay["+strconv.Itoa(i)+"]", s, "address of another family than those before")
		}
		p.Underlay = append(p.Underlay, a)
	}
	if len(p.Underlay) == 0 {
		return p, errcode.Errorf(errcode.InvalidConfig, "%s.underlay: missing; %s cannot be reached", at, p.Name)
	}
	for i, s := range t.Subnets {
		subnet, err := netip.ParsePrefix(s)
		if err != nil || subnet.Masked() != subnet || subnet.Bits() == 0 || subnet.Addr().Is4In6() {
			return p, bad("subnets["+strconv.Itoa(i)+"]", s, "subnet, such as 10.244.1.0/24 or fd00:1::/64")
		}
		p.Subnets = append(p.Subnets, subnet)
	}
	if t.MAC != "" {
		if p.MAC, err = net.ParseMAC(t.MAC); err != nil || len(p.MAC) != 6 || p.MAC[0]&1 != 0 {
			return p, bad("mac", t.MAC, "MAC address of a device")
		}
	}
	return p, nil
}

// unequal refuses two peers with one name or one underlay address.
func unequal(at string, peers []Peer) error {
	names, underlay := map[string]int{}, map[netip.Addr]int{}
	for i := range peers {
		p := &peers[i]
		if other, ok := names[p.Name]; ok {
			return errcode.Errorf(errcode.InvalidConfig, "%s[%d].name: %s is the name of %s[%d] as well", at, i, p.Name, at, other)
		}
		names[p.Name] = i
		for _, a := range p.Underlay {
			if other, ok := underlay[a]; ok {
				return errcode.Errorf(errcode.InvalidConfig, "%s[%d].underlay: %s of %s is the address of %s as well", at, i, a, p.Name, peers[other].Name)
			}
			underlay[a] = i
		}
	}
	return nil
}

// disjoint refuses two peers with overlapping subnets.
func disjoint(at string, peers []Peer) error {
	var subnets []claim
	for i := range peers {
		for _, s := range peers[i].Subnets {
			subnets = append(subnets, claim{s, peers[i].Name})
		}
	}
	if a, b, overlap := overlapping(subnets); overlap {
		return errcode.Errorf(errcode.InvalidConfig, "%s: the subnets %s of %s and %s of %s overlap", at, a.subnet, a.by, b.subnet, b.by)
	}
	return nil
}

// claim is a subnet and the node that has it.
type claim struct {
	subnet netip.Prefix
	by     string
}

// overlapping finds two subnets that overlap. Of subnets in order, one that overlaps any before it overlaps the one that reaches furthest.
func overlapping(claims []claim) (a, b claim, found bool) {
	slices.SortFunc(claims, func(a, b claim) int { return a.subnet.Compare(b.subnet) })
	for i := 1; i < len(claims); i++ {
		if claims[i-1].subnet.Overlaps(claims[i].subnet) {
			return claims[i-1], claims[i], true
		}
	}
	return a, b, false
}

// mac is the address of the peer's device: its own, or the one that follows from its first subnet, by which a node is known whatever becomes of its
// device and of its underlay address.
func (p *Peer) mac(vni uint32) net.HardwareAddr {
	if p.MAC != nil {
		return p.MAC
	}
	return deviceMAC(vni, p.Subnets)
}

// reachedBy is its underlay address of the family of like; the zero Addr if it has none.
func (p *Peer) reachedBy(like netip.Addr) netip.Addr {
	for _, a := range p.Underlay {
		if a.Is4() == like.Is4() {
			return a
		}
	}
	return netip.Addr{}
}
