package netutil

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Shaper limits how fast a link of the host sends. A link that has a queueing discipline of somebody else's is left alone, with an error.
type Shaper struct {
	Link         string
	Rate, Burst  uint64         // bytes per second, bytes
	FairQueue    bool           // what waits, waits in a queue for each flow (fq_codel)
	Only, Except []netip.Prefix // limit only packets of these addresses, or all but those; not both
	Source       bool           // the addresses are packets' sources, not their destinations
}

// Redirect has what a link of the host receives sent out of another one, and received again behind that: an ifb, which is there to be shaped.
type Redirect struct {
	Link, To string
}

// latency is how long a packet may wait, in seconds: as long as with the reference plugin.
const latency = 0.025

func (s *Shaper) shape() rtnl.Shape {
	limit := float64(s.Rate)*latency + float64(s.Burst)
	return rtnl.Shape{Rate: s.Rate, Burst: s.Burst, Limit: uint32(min(limit, math.MaxUint32))}
}

// classful tells whether some packets go past the limit.
func (s *Shaper) classful() bool { return len(s.Only)+len(s.Except) > 0 }

// filters tell apart what is limited.
func (s *Shaper) filters(link int) (out []rtnl.Filter) {
	for _, p := range s.Only {
		out = append(out, rtnl.Filter{Link: link, Parent: rtnl.RootQdisc, Addr: p.Masked(), Source: s.Source, Class: rtnl.ShapedClass})
	}
	for _, p := range s.Except {
		out = append(out, rtnl.Filter{Link: link, Parent: rtnl.RootQdisc, Addr: p.Masked(), Source: s.Source, Class: rtnl.RootQdisc})
	}
	return out
}

// shape limits what the plan limits.
func (a *applier) shape(context.Context) error {
	for i := range a.plan.Shapers {
		s := &a.plan.Shapers[i]
		l, err := a.link(Host, s.Link)
		if err != nil {
			return err
		}
		requests := s.requests(l)
		if err := a.exclusively(l, "queueing discipline", requests[0], rtnl.DelQdisc(l.Index, rtnl.RootQdisc)); err != nil {
			return err
		}
		if _, err := a.kernel.Host.do(requests[1:]...); err != nil {
			return err
		}
	}
	for i := range a.plan.Redirects {
		if err := a.redirect(&a.plan.Redirects[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) redirect(r *Redirect) error {
	from, err := a.link(Host, r.Link)
	if err != nil {
		return err
	}
	to, err := a.link(Host, r.To)
	if err != nil {
		return err
	}
	ingress := request{Message: rtnl.NewIngress(from.Index), explain: shapeError(r.Link, "ingress")}
	if err := a.exclusively(from, "ingress queueing discipline", ingress, rtnl.DelIngress(from.Index)); err != nil {
		return err
	}
	_, err = a.kernel.Host.do(request{
		Message: rtnl.NewFilter(rtnl.Filter{Link: from.Index, Parent: rtnl.IngressQdisc, Class: 1<<16 | 1, To: to.Index}),
		explain: shapeError(r.Link, "mirred"),
	})
	return err
}

// exclusively makes what nobody else may have made there, and records how it is removed.
func (a *applier) exclusively(l *rtnl.Link, what string, creation request, inverse rawnl.Message) error {
	made := true
	a.undo.Push(what+" of "+l.Name, func() error {
		if !made {
			return nil
		}
		_, err := a.kernel.Host.do(request{Message: inverse, optional: true}) // it may be gone with its link
		return err
	})
	_, err := a.kernel.Host.do(creation)
	if errors.Is(err, unix.EEXIST) {
		made = false
		return errcode.Errorf(errcode.AlreadyExists, "host interface %s has a %s already", l.Name, what)
	}
	return err
}

// requests make the discipline, and below it what it needs; the first can be refused because there is one.
func (s *Shaper) requests(l *rtnl.Link) []request {
	shape := s.shape()
	if !s.classful() {
		out := []request{{Message: rtnl.NewTBF(l.Index, shape), explain: shapeError(l.Name, "tbf")}}
		if s.FairQueue {
			out = append(out, request{Message: rtnl.NewFairQueue(l.Index), explain: shapeError(l.Name, "fq_codel")})
		}
		return out
	}
	out := []request{
		{Message: rtnl.NewHTB(l.Index, len(s.Except) > 0), explain: shapeError(l.Name, "htb")},
		{Message: rtnl.NewHTBClass(l.Index, shape), explain: shapeError(l.Name, "htb")},
	}
	if s.FairQueue {
		out = append(out, request{Message: rtnl.NewFairQueue(l.Index), explain: shapeError(l.Name, "fq_codel")})
	} else {
		out = append(out, request{Message: rtnl.NewFIFO(l.Index, shape), explain: shapeError(l.Name, "bfifo")})
	}
	for _, f := range s.filters(l.Index) {
		out = append(out, request{Message: rtnl.NewFilter(f), explain: shapeError(l.Name, "u32")})
	}
	return out
}

// shapeError explains what the kernel's answer most often means: it knows no discipline, filter or action of the kind.
func shapeError(link, kind string) func(error) error {
	return func(err error) error {
		module := "sch_" + kind
		switch kind {
		case "u32":
			module = "cls_u32"
		case "mirred":
			module = "act_mirred and cls_u32"
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
			return errcode.Errorf(errcode.Kernel, "this kernel has no %s (module %s): %w", kind, module, err)
		}
		return errcode.Errorf(errcode.Kernel, "limit host interface %s: %s: %w", link, kind, err)
	}
}

// Unshape takes away what Apply has put on a link of the host. It succeeds if there is none, or no link.
func Unshape(host *Namespace, link string) error {
	l, err := host.findLink(link)
	if l == nil || err != nil {
		return err
	}
	answers, err := host.ask(rtnl.GetRoot(l.Index))
	if err != nil {
		return err
	}
	requests := []request{{Message: rtnl.DelIngress(l.Index), optional: true}}
	for _, b := range answers[0].Bodies {
		if q := rtnl.ParseQdisc(b); q != nil && (q.Handle == rtnl.RootQdisc || q.Kind == "tbf") { // tbf: the reference plugin's
			requests = append(requests, request{Message: rtnl.DelQdisc(l.Index, q.Handle), optional: true})
		}
	}
	_, err = host.do(requests...)
	return err
}

// shapes compares the limits with the kernel's.
func (v *verifier) shapes() error {
	for i := range v.plan.Shapers {
		if err := v.shaper(&v.plan.Shapers[i]); err != nil {
			return err
		}
	}
	for i := range v.plan.Redirects {
		r := &v.plan.Redirects[i]
		from, err := v.applier.link(Host, r.Link)
		if err != nil {
			return err
		}
		to, err := v.applier.link(Host, r.To)
		if err != nil {
			return err
		}
		have, err := v.filters(from, rtnl.IngressQdisc)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(have, func(f rtnl.Filter) bool { return f.To == to.Index && !f.Addr.IsValid() }) {
			return differs("host interface %s: what it receives does not go to %s", r.Link, r.To)
		}
	}
	return nil
}

func (v *verifier) shaper(s *Shaper) error {
	l, err := v.applier.link(Host, s.Link)
	if err != nil {
		return err
	}
	answers, err := v.kernel.Host.ask(rtnl.GetRoot(l.Index), rtnl.GetChild(l.Index), rtnl.GetClass(l.Index))
	if err != nil {
		return err
	}
	var got [3]*rtnl.Qdisc // nil where the kernel has none
	for i := range answers {
		for _, b := range answers[i].Bodies {
			got[i] = rtnl.ParseQdisc(b)
		}
	}
	root, child, class := got[0], got[1], got[2]
	limiter, kind := root, "tbf"
	if s.classful() {
		limiter, kind = class, "htb"
	}
	switch {
	case root == nil || root.Kind != kind || limiter == nil:
		return differs("host interface %s has no limit (%s)", s.Link, kind)
	case limiter.Rate != s.Rate:
		return differs("host interface %s is limited to %d bytes per second, not %d", s.Link, limiter.Rate, s.Rate)
	case !sameBurst(s.shape(), limiter.Buffer):
		return differs("host interface %s has a burst of %d ticks, not %d", s.Link, limiter.Buffer, rtnl.Ticks(s.shape()))
	case s.FairQueue && (child == nil || child.Kind != "fq_codel"):
		return differs("host interface %s has no fq_codel", s.Link)
	}
	have, err := v.filters(l, rtnl.RootQdisc)
	if err != nil {
		return err
	}
	for _, want := range s.filters(l.Index) {
		if !slices.Contains(have, want) {
			return differs("host interface %s: no filter for %s", s.Link, want.Addr)
		}
	}
	return nil
}

// sameBurst compares a burst with what the kernel tells of it: a time, rounded, of which it tells 32 bits.
func sameBurst(s rtnl.Shape, ticks uint32) bool {
	want := rtnl.Ticks(s)
	if want >= math.MaxUint32 {
		return true
	}
	return math.Abs(float64(want)-float64(ticks)) <= 2+float64(want)/1e6
}

func (v *verifier) filters(l *rtnl.Link, parent uint32) ([]rtnl.Filter, error) {
	bodies, err := v.kernel.Host.list("filters of "+l.Name, rtnl.GetFilters(l.Index, parent))
	var out []rtnl.Filter
	for _, b := range bodies {
		if f, ok := rtnl.ParseFilter(b); ok {
			out = append(out, f)
		}
	}
	return out, err
}
