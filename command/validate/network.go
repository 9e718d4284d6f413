package validate

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/roles"
)

// network is what is remembered of a plugin, to be compared with other networks'.
type network struct {
	p      *plugin
	link   string // the bridge with its VLAN, or the master, that pods are on; empty: none that others could share
	isGW   bool   // the bridge has the gateways' addresses
	force  bool
	ranges []hostlocal.Range
}

// remember keeps what other networks could clash with, and looks at the size of pools.
func (p *plugin) remember() {
	if p.ipam.n == nil || p.ipamKind() != "host-local" || p.set != nil {
		return
	}
	conf, err := p.conf(nil, nil)
	if err != nil {
		return
	}
	ranges, err := hostlocal.Ranges(roles.Rehearse(p.network, p.version, conf))
	if err != nil {
		return // told already
	}
	n := network{p: p, ranges: ranges}
	switch p.kind {
	case "bridge":
		n.link = "bridge " + p.n.str("bridge")
		if p.n.str("bridge") == "" {
			n.link = "bridge cni0"
		}
		if v := p.n.get("vlan"); v != nil && v.text != "0" {
			n.link += " VLAN " + v.text
		}
		n.isGW, n.force = p.n.isTrue("isGateway") || p.n.isTrue("isDefaultGateway"), p.n.isTrue("forceAddress")
	case "macvlan", "ipvlan", "vlan":
		n.link = "master " + p.n.str("master")
	}
	p.networks = append(p.networks, n)
	p.poolSizes(ranges)
}

// poolSizes compares the number of addresses of each range set with that of pods.
func (p *plugin) poolSizes(ranges []hostlocal.Range) {
	if p.maxPods == 0 {
		return
	}
	sizes, keys := map[int]uint64{}, map[int]string{}
	for _, r := range ranges {
		if keys[r.Set] == "" {
			keys[r.Set] = r.Key
		}
		n := size(r.First, r.Last)
		for i, other := range ranges {
			gw := other.Gateway
			again := slices.ContainsFunc(ranges[:i], func(o hostlocal.Range) bool { return o.Gateway == gw })
			if !again && gw.BitLen() == r.First.BitLen() && gw.Compare(r.First) >= 0 && gw.Compare(r.Last) <= 0 {
				n--
			}
		}
		sizes[r.Set] = min(sizes[r.Set]+n, 1<<62)
	}
	for set := range len(sizes) {
		if sizes[set] < p.maxPods {
			found, _, _ := p.n.resolve(keys[set], "")
			p.f.report(Error, found.pos, p.path(keys[set]), "", "it has %d addresses for pods, and the node may have %d pods", sizes[set], p.maxPods)
		}
	}
}

// size is the number of addresses from first to last, at most 2^62.
func size(first, last netip.Addr) uint64 {
	a, b := first.As16(), last.As16()
	if [8]byte(a[:8]) != [8]byte(b[:8]) {
		return 1 << 62
	}
	n := binary.BigEndian.Uint64(b[8:]) - binary.BigEndian.Uint64(a[8:])
	return min(n, 1<<62-1) + 1
}

// compare finds networks that get in each other's way. What is wrong is told of the latter.
func (c *checker) compare() {
	for i := range c.networks {
		for j := range i {
			a, b := &c.networks[j], &c.networks[i]
			if a.p.f == b.p.f || a.p.network == b.p.network {
				continue
			}
			b.clash(a)
		}
	}
}

// clash tells of what a network has in common with another.
func (b *network) clash(a *network) {
	toldBridge := false
	for _, r := range b.ranges {
		for _, q := range a.ranges {
			found, _, _ := b.p.n.resolve(r.Key, "")
			at := b.p.path(r.Key)
			overlap := r.First.BitLen() == q.First.BitLen() && r.First.Compare(q.Last) <= 0 && q.First.Compare(r.Last) <= 0
			switch {
			case overlap:
				b.p.f.report(Error, found.pos, at, "", "%s-%s: the network %s (%s) gives out addresses of these too, %s-%s",
					r.First, r.Last, a.p.network, a.p.f.path, q.First, q.Last)
			case r.Subnet.Overlaps(q.Subnet) && (a.link == "" || a.link != b.link):
				b.p.f.report(Warning, found.pos, at, "", "the subnet %s is on another link in the network %s (%s): %s",
					r.Subnet, a.p.network, a.p.f.path, q.Subnet)
			}
			sameBridge := a.link == b.link && a.isGW && b.isGW && r.Subnet.Addr().BitLen() == q.Subnet.Addr().BitLen()
			if sameBridge && !toldBridge && (r.Gateway != q.Gateway || r.Subnet != q.Subnet) {
				toldBridge = true
				b.onOneBridge(a, r, q)
			}
		}
	}
}

// onOneBridge tells that two networks want different addresses for one bridge.
func (b *network) onOneBridge(a *network, r, q hostlocal.Range) {
	severity, what := Error, "so ADD to the one fails after ADD to the other"
	if b.force || a.force {
		severity, what = Warning, "so with forceAddress they take it from each other"
	}
	key := "bridge"
	if b.p.n.get(key) == nil {
		key = "type"
	}
	b.p.f.report(severity, b.p.valueAt(key).pos, b.p.path("bridge"), "", "the %s has the gateway %s/%s here, and %s/%s in the network %s (%s), %s",
		b.link, r.Gateway, strconv.Itoa(r.Subnet.Bits()), q.Gateway, strconv.Itoa(q.Subnet.Bits()), a.p.network, a.p.f.path, what)
}
