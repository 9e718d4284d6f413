package nft

import (
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/owner"
)

// This file is who may send to the nodes' tunnels, and by what other programs' chains, which can use no sets of ours, know the pods of other
// nodes: those of an overlay may begin connections to its pods here. What comes out of the tunnel is told by its device, since nobody but the nodes sends to the tunnel. What comes
// beside it can only be told by the address that it is from.

// strange matches what comes to this node's tunnels from elsewhere than their nodes.
func (f family) strange() rule {
	return join(f.is(), udp(), in(setTunnels, destPort(), tunnelID()), notIn(of(setTunnelPeers, f), f.address(f.source), destPort(), tunnelID()))
}

// intoTunnel matches UDP that is forwarded to another node's tunnel and is not from one of the nodes: masqueraded, a pod's packet would be taken there for
// this node's.
func (f family) intoTunnel() rule {
	peers := of(setTunnelPeers, f)
	return join(f.is(), in(peers, f.address(f.dest), destPort(), tunnelID()), notIn(peers, f.address(f.source), destPort(), tunnelID()))
}

func udp() rule { return l4protoIs(unix.IPPROTO_UDP) }

// vniOffset is where a VXLAN packet has the VNI, in bytes behind IP's header: behind UDP's and VXLAN's flags (RFC 7348, section 5).
const vniOffset = 8 + 4

func tunnelID() load { return transportLoad(vniOffset, uint32(vni.bytes())) }

// admits tells from where the group's pods are connected to: the names of links, and subnets.
func (w *way) admits(g group) (from []string) {
	if !slices.ContainsFunc(w.local, g.subnet.Overlaps) {
		return nil
	}
	if from = []string{w.device}; w.device == "" {
		from = nil
	}
	for _, p := range merged(w.direct) {
		if p.Addr().Is4() == g.subnet.Addr().Is4() {
			from = append(from, p.String())
		}
	}
	return from
}

// way is how the pods of an overlay's other nodes come to those of this one.
type way struct {
	tag           string // of the overlay's elements
	device        string
	local, direct []netip.Prefix
}

// ways are those of all overlays.
func (c *conn) ways() (all []way, err error) {
	t := inetTable()
	devices, err := c.all(t.set(setTunnelDevices))
	if err != nil || len(devices) == 0 { // as on most hosts
		return nil, err
	}
	for _, d := range devices {
		all = append(all, way{tag: d.comment, device: strings.TrimRight(string(d.key), "\x00")})
	}
	for _, f := range families() {
		for name, list := range map[string]func(*way) *[]netip.Prefix{
			setLocal: func(w *way) *[]netip.Prefix { return &w.local }, setDirect: func(w *way) *[]netip.Prefix { return &w.direct },
		} {
			elements, err := c.all(t.set(of(name, f)))
			if err != nil {
				return nil, err
			}
			for _, e := range elements {
				for i := range all {
					if p, ok := e.subnetOf(all[i].tag); ok {
						*list(&all[i]) = append(*list(&all[i]), p)
					}
				}
			}
		}
	}
	return all, nil
}

// subnetOf is the subnet that an element of the overlay stands for.
func (e *element) subnetOf(tag string) (netip.Prefix, bool) {
	text, ours := strings.CutPrefix(e.comment, tag+" ")
	p, err := netip.ParsePrefix(text)
	return p, ours && !e.end && err == nil
}

// merged are the fewest prefixes that hold just the same addresses.
func merged(prefixes []netip.Prefix) (out []netip.Prefix) {
	prefixes = slices.Clone(prefixes)
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	for _, p := range prefixes {
		if len(out) > 0 && out[len(out)-1].Overlaps(p) { // it holds p
			continue
		}
		for len(out) > 0 && p.Bits() > 0 {
			whole := netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked()
			if last := out[len(out)-1]; last.Bits() != p.Bits() || !whole.Contains(last.Addr()) {
				break
			}
			out, p = out[:len(out)-1], whole
		}
		out = append(out, p)
	}
	return out
}

// overlayTag is the comment of a network's elements.
func overlayTag(network string) string { return overlayComment + owner.NetworkText(network, 64) }

// sources tells from where a group's pods are connected to by other nodes' pods: the names of links, and subnets.
func sources(ways []way, g group) (from []string) {
	for i := range ways {
		from = append(from, ways[i].admits(g)...)
	}
	return from
}
