package overlay

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Spot looks at the device and at some of the peers, each thing by its key, so that it costs the same however many there are. It tells whether all
// that it has seen is right. c has only those peers.
func Spot(n *netutil.Namespace, c *Config) (right bool, s *Status, err error) {
	d, err := prepare(n, c)
	if err != nil {
		return false, nil, err
	}
	r := &reconciler{n: n, desired: d}
	s = &Status{Underlay: d.addr, MTU: d.tunnel.mtu}
	if ok, err := r.devicesStand(); !ok || err != nil {
		return false, s, err
	}
	questions := slices.Concat(r.addressQuestions(), r.routeQuestions(), r.entryQuestions())
	asks := make([]rawnl.Message, len(questions))
	for i := range questions {
		asks[i] = questions[i].Message
	}
	answers, err := netutil.Ask(n, asks...)
	if err != nil {
		return false, s, err
	}
	for i := range answers {
		if !questions[i].right(&answers[i]) {
			return false, s, nil
		}
	}
	right, err = netutil.NFT(n).SpotOverlay(d.filter(c))
	return right, s, err
}

// question asks the kernel for one thing by its key; right looks at the answer.
type question struct {
	rawnl.Message
	right func(a *rawnl.Answer) bool
}

func (r *reconciler) addressQuestions() (out []question) {
	link := r.link
	if r.hub != nil {
		link = r.hub
	}
	for p := range r.addrs {
		out = append(out, question{rtnl.GetEntry(p.Addr()), func(a *rawnl.Answer) bool {
			return anyRoute(a, func(have *rtnl.Route) bool {
				return have.Type == unix.RTN_LOCAL && have.Dst.Addr() == p.Addr() && have.Dst.IsSingleIP() && have.Link == link.Index
			})
		}})
	}
	return out
}

func (r *reconciler) routeQuestions() (out []question) {
	for dst, w := range r.routes {
		want := r.route(dst, w)
		some := dst.Addr()
		if !dst.IsSingleIP() { // a subnet's first address may be taken for another entry's
			some = some.Next()
		}
		out = append(out, question{rtnl.GetEntry(some), func(a *rawnl.Answer) bool {
			return anyRoute(a, func(have *rtnl.Route) bool { return *have == want })
		}})
	}
	return out
}

func (r *reconciler) entryQuestions() (out []question) {
	for addr, mac := range r.neighbors {
		out = append(out, question{rtnl.GetNeighbor(r.link.Index, addr), func(a *rawnl.Answer) bool {
			have, ok := first(a, rtnl.ParseNeighbor)
			return ok && have.Permanent() && have.MAC.String() == mac
		}})
	}
	for mac, remote := range r.forwards {
		out = append(out, question{rtnl.GetFDB(r.link.Index, macOf(mac)), func(a *rawnl.Answer) bool {
			have, ok := first(a, rtnl.ParseFDB)
			return ok && have.Remote == remote && have.External
		}})
	}
	if len(r.flood) > 0 { // the kernel tells of one host by the key; of the others, only together with all that the device has learnt
		out = append(out, question{rtnl.GetFDB(r.link.Index, rtnl.ForAll), func(a *rawnl.Answer) bool {
			_, ok := first(a, rtnl.ParseFDB)
			return ok
		}})
	}
	return out
}

// devicesStand looks at the devices.
func (r *reconciler) devicesStand() (bool, error) {
	steps := []func() error{r.tunnelDevice}
	if r.bridge != nil {
		steps = append(steps, r.bridgeDevice, r.tunnelPort)
	}
	for _, step := range steps {
		if err := step(); err != nil || len(r.found) > 0 {
			return false, err
		}
	}
	return true, nil
}

func first[T any](a *rawnl.Answer, parse func([]byte) (T, bool)) (v T, ok bool) {
	if a.Err != nil || len(a.Bodies) == 0 {
		return v, false
	}
	return parse(a.Bodies[0])
}

func anyRoute(a *rawnl.Answer, is func(*rtnl.Route) bool) bool {
	for _, b := range a.Bodies {
		for _, have := range rtnl.ParseRoute(b) {
			if is(&have) {
				return true
			}
		}
	}
	return false
}

// Look finds this node's place in the underlay, and tells why it has none, or why others stand in the way.
func Look(n *netutil.Namespace, c *Config) (*Status, error) {
	d, err := prepare(n, c)
	if err != nil {
		return nil, err
	}
	r := &reconciler{n: n, desired: d}
	return &Status{Underlay: d.addr, MTU: d.tunnel.mtu}, r.judge()
}
