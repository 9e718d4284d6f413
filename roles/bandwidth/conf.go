package bandwidth

import (
	"math"
	"net/netip"
	"strings"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// limits are the keys that the configuration, or the runtime, has.
type limits struct {
	IngressRate     *uint64  `json:"ingressRate" min:"8" doc:"what the container may receive, in bits per second, from 8"`
	IngressBurst    *uint64  `json:"ingressBurst" min:"1" max:"34359738367" doc:"how much it may receive at once after it was idle, in bits: at least a frame, at most 2^35 - 1. Rate and burst go together"`
	EgressRate      *uint64  `json:"egressRate" min:"8" doc:"what it may send, in bits per second, from 8"`
	EgressBurst     *uint64  `json:"egressBurst" min:"1" max:"34359738367" doc:"how much it may send at once after it was idle, in bits"`
	ShapedSubnets   []string `json:"shapedSubnets" doc:"only traffic with these addresses of the outside is limited"`
	UnshapedSubnets []string `json:"unshapedSubnets" doc:"all traffic but that with these addresses of the outside is limited; not together with 'shapedSubnets'"`
}

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	limits
	Qdisc         string `json:"qdisc" enum:"fq_codel" doc:"'fq_codel': packets that wait do so in a queue for each connection, and are dropped early, so that a download does not delay all else"`
	RuntimeConfig struct {
		Bandwidth *limits `json:"bandwidth" doc:"capability 'bandwidth': the same keys but 'qdisc', from the runtime; where the configuration has any of them itself, that counts"`
	} `json:"runtimeConfig"`

	ingress, egress *netutil.Shaper // nil: no limit
	at              string          // where their keys are, for errors
}

// load reads and checks the configuration.
func load(r *roles.Request) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	switch c.Qdisc {
	case "", "fq_codel":
	default:
		return nil, errcode.Errorf(errcode.InvalidConfig, "qdisc: %q is not fq_codel", c.Qdisc)
	}
	// The operator's limits stand before what the runtime asks for.
	chosen := &c.limits
	if c.RuntimeConfig.Bandwidth != nil && !c.isSet() {
		chosen, c.at = c.RuntimeConfig.Bandwidth, "runtimeConfig.bandwidth."
	}
	only, except, err := chosen.subnets(c.at)
	if err != nil {
		return nil, err
	}
	if c.ingress, err = shaper(c.at+"ingress", chosen.IngressRate, chosen.IngressBurst); err != nil {
		return nil, err
	}
	if c.egress, err = shaper(c.at+"egress", chosen.EgressRate, chosen.EgressBurst); err != nil {
		return nil, err
	}
	for _, s := range []*netutil.Shaper{c.ingress, c.egress} {
		if s != nil {
			s.FairQueue, s.Only, s.Except, s.Source = c.Qdisc != "", only, except, s == c.ingress
		}
	}
	return c, nil
}

// isSet tells whether any of the keys is there.
func (l *limits) isSet() bool {
	return l.IngressRate != nil || l.IngressBurst != nil || l.EgressRate != nil || l.EgressBurst != nil ||
		l.ShapedSubnets != nil || l.UnshapedSubnets != nil
}

// subnets reads the keys that tell which traffic is limited; at begins the key in errors.
func (l *limits) subnets(at string) (only, except []netip.Prefix, err error) {
	if len(l.ShapedSubnets) > 0 && len(l.UnshapedSubnets) > 0 {
		return nil, nil, errcode.Errorf(errcode.InvalidConfig, "%sshapedSubnets: not together with unshapedSubnets", at)
	}
	if only, err = parse(at+"shapedSubnets", l.ShapedSubnets); err == nil {
		except, err = parse(at+"unshapedSubnets", l.UnshapedSubnets)
	}
	return only, except, err
}

func parse(key string, texts []string) (out []netip.Prefix, err error) {
	for i, text := range texts {
		p, err := roles.ParsePrefix(roles.Elem(key, i), text)
		if err != nil {
			return nil, err
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

const (
	// unasked is the burst that runtimes send where nobody asked for one.
	unasked = math.MaxUint32
	// mostBurst is what the kernel counts in 32 bits, in bytes; of that size again is what may wait.
	mostBurst = math.MaxUint32
)

// shaper checks a pair of keys, in bits per second and in bits. The result is nil if there is no limit.
func shaper(key string, rate, burst *uint64) (*netutil.Shaper, error) {
	r, b := value(rate), value(burst)
	switch {
	case r == 0 && b == 0:
		return nil, nil
	case b == 0:
		return nil, errcode.Errorf(errcode.InvalidConfig, "%sBurst: missing; %[1]sRate needs it", key)
	case r == 0:
		return nil, errcode.Errorf(errcode.InvalidConfig, "%sRate: missing; %[1]sBurst is of no use without", key)
	case r < 8:
		return nil, errcode.Errorf(errcode.InvalidConfig, "%sRate: %d is less than 8 bits per second", key, r)
	case b/8 > mostBurst:
		return nil, errcode.Errorf(errcode.InvalidConfig, "%sBurst: %d is more than %d bits", key, b, uint64(mostBurst)*8)
	}
	s := &netutil.Shaper{Rate: r / 8, Burst: b / 8}
	if b == unasked {
		const leastBurst = 128 << 10 // bytes: what one send of a container can be (the largest segment that is offloaded, twice)
		s.Burst = min(max(s.Rate/10, leastBurst), mostBurst)
	}
	return s, nil
}

func value(n *uint64) uint64 {
	if n == nil {
		return 0
	}
	return *n
}

// checkBurst refuses a burst that no frame of the link would fit into, since nothing would ever pass.
func (c *conf) checkBurst(mtu int) error {
	const header = 14 // bytes, Ethernet
	for key, s := range map[string]*netutil.Shaper{"ingressBurst": c.ingress, "egressBurst": c.egress} {
		if s != nil && s.Burst < uint64(mtu+header) {
			return errcode.Errorf(errcode.InvalidConfig, "%s: %d bits are less than a frame of the interface's %d bytes", c.at+key, s.Burst*8, mtu+header)
		}
	}
	return nil
}

// isReferenceIFB tells the names that the reference plugin gives to its devices.
func isReferenceIFB(name string) bool { return strings.HasPrefix(name, "bwp") }
