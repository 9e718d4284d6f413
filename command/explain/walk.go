package explain

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/cnibox/cnibox/netutil/nft"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nft/eval"
)

// walker leads a packet through the spaces. Each hop does one thing to it and tells what comes next; nil ends the way.
type walker struct {
	world   *world
	report  *Report
	p       *eval.Packet
	outer   []*tunnelled // packets that are in p
	doubts  []string
	mtu     int        // the least of all links that the packet goes out by
	tag     uint16     // VLAN that the frame bears; 0: none
	follows bool       // it is a packet of an established connection that is led
	answer  bool       // it is an answer that is led
	at      *space     // where it has arrived
	first   eval.Tuple // as it set out
}

// tunnelled is a packet inside of another.
type tunnelled struct {
	p    *eval.Packet
	vni  uint32
	port uint16
}

type hop func() (hop, error)

// mostSteps bounds a way that goes in circles.
const mostSteps = 80

// walk goes all hops.
func (w *walker) walk(next hop) (err error) {
	w.first = w.p.Tuple()
	for next != nil {
		if len(w.report.Steps) > mostSteps {
			_, err := w.drop(w.last(), "it goes round in circles")
			return err
		}
		if next, err = next(); err != nil {
			return err
		}
	}
	return nil
}

// step adds one.
func (w *walker) step(s *space, kind, format string, args ...any) *Step {
	w.report.Steps = append(w.report.Steps, Step{
		Number: len(w.report.Steps) + 1, Kind: kind, Where: s.name, Text: fmt.Sprintf(format, args...),
	})
	return w.last()
}

func (w *walker) last() *Step { return &w.report.Steps[len(w.report.Steps)-1] }

func (s *Step) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// drop ends the way at a step.
func (w *walker) drop(s *Step, reason string) (hop, error) {
	s.Drop = true
	if reason != "" {
		s.note("%s", reason)
	}
	text := s.Text
	if reason != "" {
		text = reason
	}
	w.end(Dropped, s.Where, fmt.Sprintf("DROPPED at step %d, in %s: %s", s.Number, s.Where, text))
	return nil, nil
}

func (w *walker) end(verdict, at, text string) {
	w.report.Verdict, w.report.At, w.report.Text = verdict, at, text
	for i := len(w.outer) - 1; i >= 0; i-- {
		w.report.Text += " (inside: " + describe(w.outer[i].p) + ")"
	}
	if w.doubts != nil {
		w.report.Doubt = "not certain: " + strings.Join(w.doubts, "; ")
	}
}

// describe is a packet in words: "tcp 10.1.0.5 -> 10.1.0.7:80".
func describe(p *eval.Packet) string {
	to := p.Dst.String()
	if p.DstPort != 0 {
		to = netip.AddrPortFrom(p.Dst, p.DstPort).String()
	}
	from := "?"
	if p.Src.IsValid() {
		from = p.Src.String()
	}
	return nft.ProtocolName(p.Proto) + " " + from + " -> " + to
}

// remember keeps a connection that a space tracks, for when its packets or their answers come again.
func (s *space) remember(c *eval.Conn) {
	for _, have := range s.conns {
		if have == c {
			return
		}
	}
	s.conns = append(s.conns, c)
}

// enter has the packet come into a space: its connection is looked for, and what another has kept beside it is gone.
func (w *walker) enter(s *space, in *link) {
	p := w.p
	p.Conn, p.NoTrack, p.Reply = nil, false, w.answer
	p.Follows = w.follows && w.outer == nil
	p.In, p.Out, p.Received = in.device(), eval.Device{}, in != nil
	for _, c := range s.conns {
		t := p.Tuple()
		if c.Proto != p.Proto {
			continue
		}
		if !p.Reply && t == c.First || p.Reply && t == c.Now.Reversed() {
			p.Conn = c
		}
	}
}

// crossed forgets what only one namespace knows of a packet.
func (w *walker) crossed(from, to *space) {
	if from != to {
		w.p.Mark, w.p.NoMark = 0, false
	}
}

// send has a space send the packet itself.
func (w *walker) send(s *space) hop {
	return func() (hop, error) {
		w.enter(s, nil)
		q := question{to: w.p.Dst, from: w.p.Src, p: w.p}
		r, err := s.lookUp(q)
		if err != nil {
			return nil, err
		}
		if r.failed != 0 {
			step := w.step(s, "route", "sends %s", describe(w.p))
			w.hint(step, s, w.p.Dst)
			return w.drop(step, s.whyNoRoute(q, r))
		}
		if !w.p.Src.IsValid() {
			w.p.Src = r.Source
			if !w.p.Src.IsValid() {
				w.p.Src = env{s, r.nextHop(w.p.Dst)}.AddrOf(r.Link, w.p.Dst)
			}
		}
		if w.outer == nil {
			w.first = w.p.Tuple()
		}
		step := w.step(s, "route", "sends %s: route %s", describe(w.p), s.words(q, r))
		if t := r.Type; t == unix.RTN_BROADCAST || t == unix.RTN_MULTICAST {
			w.end(Unknown, s.name, fmt.Sprintf("UNKNOWN from step %d on: it goes to many", step.Number))
			return nil, nil
		} else if t != unix.RTN_UNICAST && t != unix.RTN_LOCAL {
			return w.drop(step, "the route's type is "+typeName(t))
		}
		return w.output(s, r)
	}
}

// output takes a packet of the space's own through its hooks.
func (w *walker) output(s *space, r route) (hop, error) {
	if r.Type == unix.RTN_LOCAL {
		r.Link = loopbackOf(s)
	}
	w.p.Out = s.links[r.Link].device()
	was, mark := w.p.Dst, w.p.Mark
	if ok, err := w.filter(s, false, unix.NF_INET_LOCAL_OUT, r.nextHop(w.p.Dst)); !ok || err != nil {
		return nil, err
	}
	if w.p.Dst != was || w.p.Mark != mark {
		q := question{to: w.p.Dst, from: w.p.Src, p: w.p}
		again, err := s.lookUp(q)
		if err != nil {
			return nil, err
		}
		step := w.step(s, "route", "is routed anew: %s", describe(w.p))
		if again.failed != 0 {
			return w.drop(step, s.whyNoRoute(q, again))
		}
		step.Text += ": route " + s.words(q, again)
		if r = again; r.Type == unix.RTN_LOCAL {
			r.Link = loopbackOf(s)
		}
	}
	return w.leave(s, r)
}

func loopbackOf(s *space) int {
	for i, l := range s.links {
		if l.Flags&unix.IFF_LOOPBACK != 0 {
			return i
		}
	}
	return 0
}

// leave takes a packet through the last hook, and out by a link.
func (w *walker) leave(s *space, r route) (hop, error) {
	out := s.links[r.Link]
	if out == nil {
		return w.drop(w.last(), "the route leads to no link")
	}
	w.p.Out = out.device()
	if ok, err := w.filter(s, false, unix.NF_INET_POST_ROUTING, r.nextHop(w.p.Dst)); !ok || err != nil {
		return nil, err
	}
	if out.Flags&unix.IFF_LOOPBACK != 0 {
		if why := out.broken(); why != "" {
			return w.drop(w.step(s, "link", "%s", out.Name), why)
		}
		w.p.In, w.p.Out, w.p.Received = out.device(), eval.Device{}, true
		return w.input(s, out, false), nil
	}
	return w.transmit(out, r.nextHop(w.p.Dst)), nil
}
