package netutil

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// request is a message to the kernel with what to say if it fails.
type request struct {
	rawnl.Message
	what     string     // "add address 10.0.0.5/24 to ..."
	harmless unix.Errno // an answer that is as good as success
	optional bool       // whatever the answer is
	explain  func(error) error
}

// failed is the error that the answer stands for, nil if it is none.
func (r *request) failed(a *rawnl.Answer) error {
	switch {
	case a.Err == nil, r.optional, r.harmless != 0 && errors.Is(a.Err, r.harmless):
		return nil
	case r.explain != nil:
		return r.explain(a.Err)
	}
	return errcode.Errorf(errcode.Kernel, "%s: %w", r.what, a.Err)
}

// ask sends the messages together and returns the answers.
func (n *Namespace) ask(messages ...rawnl.Message) ([]rawnl.Answer, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	if n.route == nil {
		s, err := n.socket(unix.NETLINK_ROUTE)
		if err != nil {
			return nil, err
		}
		n.route = s
	}
	answers, err := n.route.Exchange(messages...)
	if err != nil {
		n.route.Close() // what it may still hold are answers to nobody's questions
		n.route = nil
		return nil, errcode.Errorf(errcode.Kernel, "netlink in %s: %w", n.path, err)
	}
	return answers, nil
}

// Ask sends messages of NETLINK_ROUTE to the kernel together and returns the answers, for packages that have requests of their own.
func Ask(n *Namespace, messages ...rawnl.Message) ([]rawnl.Answer, error) { return n.ask(messages...) }

// List makes a dump. what names it in errors.
func List(n *Namespace, what string, m rawnl.Message) ([][]byte, error) { return n.list(what, m) }

// do sends the requests together. The kernel carries out all of them, whichever fail; the first failure is returned.
func (n *Namespace) do(requests ...request) ([]rawnl.Answer, error) {
	messages := make([]rawnl.Message, len(requests))
	for i := range requests {
		messages[i] = requests[i].Message
	}
	answers, err := n.ask(messages...)
	if err != nil {
		return nil, err
	}
	for i := range answers {
		if err := requests[i].failed(&answers[i]); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// list makes a dump.
func (n *Namespace) list(what string, m rawnl.Message) ([][]byte, error) {
	a, err := rawnl.Dump(n.ask, m)
	switch {
	case err != nil:
		return nil, err
	case a.Interrupted:
		return nil, errcode.Errorf(errcode.TryAgainLater, "list %s: they change faster than they can be listed", what)
	case a.Err != nil:
		return nil, errcode.Errorf(errcode.Kernel, "list %s: %w", what, a.Err)
	}
	return a.Bodies, nil
}

// find looks links up by their names: nil where there is none.
func (n *Namespace) find(names ...string) ([]*rtnl.Link, error) {
	requests := make([]request, len(names))
	for i, name := range names {
		requests[i] = request{Message: rtnl.GetLink(name), what: "interface " + name, harmless: unix.ENODEV}
	}
	answers, err := n.do(requests...)
	if err != nil {
		return nil, err
	}
	out := make([]*rtnl.Link, len(names))
	for i := range answers {
		if len(answers[i].Bodies) > 0 {
			out[i] = rtnl.ParseLink(answers[i].Bodies[0])
		}
	}
	return out, nil
}

// findLink is find for one link.
func (n *Namespace) findLink(name string) (*rtnl.Link, error) {
	found, err := n.find(name)
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// links is all links.
func (n *Namespace) links() ([]*rtnl.Link, error) {
	bodies, err := n.list("interfaces", rtnl.GetLinks())
	if err != nil {
		return nil, err
	}
	out := make([]*rtnl.Link, 0, len(bodies))
	for _, b := range bodies {
		if l := rtnl.ParseLink(b); l != nil {
			out = append(out, l)
		}
	}
	return out, nil
}
