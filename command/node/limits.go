package node

import (
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// readLimits lists the disciplines of the host's links that limit, and asks for the class of those that have classes.
func (r *reader) readLimits() {
	s, err := rawnl.Open(unix.NETLINK_ROUTE)
	if err != nil {
		r.problem("limits", err)
		return
	}
	defer s.Close()
	all, err := rawnl.Dump(s.Exchange, rtnl.GetQdiscs())
	if err == nil {
		err = all.Err
	}
	if err != nil {
		r.problem("limits", err)
		return
	}
	for _, b := range all.Bodies {
		q := rtnl.ParseQdisc(b)
		switch {
		case q == nil:
		case q.Kind == "tbf":
			r.limits[q.Link] = *q
		case q.Kind == "htb" && q.Handle == rtnl.RootQdisc:
			answers, err := s.Exchange(rtnl.GetClass(q.Link))
			if err != nil {
				return
			}
			for _, b := range answers[0].Bodies {
				if class := rtnl.ParseQdisc(b); class != nil {
					r.limits[q.Link] = *class
				}
			}
		}
	}
}

// limitsOf are an attachment's limits; nil if it has none. A link limits what it sends: the host's end what the pod receives.
func (r *reader) limitsOf(a *Attachment) *Limits {
	const bits = 8 // in a byte
	l := Limits{}
	if a.HostLink != nil {
		l.In = r.limits[a.HostLink.Index].Rate * bits
	}
	ifb := a.sources.ifb
	if ifb == nil {
		ifb = r.referenceIFB(a)
	}
	if ifb != nil {
		l.Out, l.Device = r.limits[ifb.Index].Rate*bits, ifb.Name
	}
	if l == (Limits{}) {
		return nil
	}
	return &l
}

// referenceIFB is the device that the reference's bandwidth plugin has made, which only the result tells.
func (r *reader) referenceIFB(a *Attachment) *Link {
	for _, name := range a.sources.hostLinks {
		if l := r.node.Host.Named(name); l != nil && l.Kind == "ifb" {
			return l
		}
	}
	return nil
}
