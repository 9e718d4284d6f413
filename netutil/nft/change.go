package nft

import (
	"bytes"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/trace"
)

// change is one atomic batch.
type change struct {
	add, del []*element
	chains   []wantedChain // of conditions, which nobody else has
	rules    []*sharedRule // made unless they stand
	always   bool          // rules may be missing although all elements are there

	yielded map[*element]bool // what another attachment of the container has
	waits   []wait            // for that

	elsewhere []string // tables of other programs that got rules by it
	refused   error    // why they could not be changed, while all else was
}

// chunk is how many elements go into one message: of more than 64 KiB in one the kernel would see only the first.
const chunk = 200

// commit makes the change: all of it or nothing.
func (c *conn) commit(ch *change) error {
	if len(ch.add)+len(ch.del) == 0 && !ch.always {
		return nil
	}
	defer trace.Start("nft change", "", "").Counted(len(ch.add) + len(ch.del)).End()
	own, others := &batch{}, &batch{}
	come, err := c.begin(own, ch)
	if err != nil {
		return err
	}
	own.elements(unix.NFT_MSG_DELSETELEM, 0, ch.del)
	own.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, ch.add)
	for _, e := range ch.del {
		if e.chain != "" { // of conditions, which nobody else has
			(&chain{name: e.chain}).remove(own, e.set.table)
		}
	}
	gone, err := c.dropShared(own, ch.del, ch.add)
	if err != nil {
		return err
	}
	if ch.always || ch.forwards() {
		if ch.elsewhere, err = c.admit(others, come, gone, ch.strict()); err != nil {
			return err
		}
	}
	err = c.runBoth(own, others, ch)
	if errors.Is(err, unix.ENOBUFS) { // answers were lost; what they would have said can be seen
		return c.committed(ch)
	}
	if errors.Is(err, unix.EPROTO) {
		return errcode.Errorf(errcode.Kernel, "packet filter: this kernel has no connection tracking for bridges (module nf_conntrack_bridge): %w", err)
	}
	return kernelError(err, "change it")
}

// yield leaves out an element of the owner's, as another attachment of its container has it.
func (ch *change) yield(e, held *element, o owner.Owner) {
	if ch.yielded == nil {
		ch.yielded = map[*element]bool{}
	}
	ch.yielded[e] = true
	ch.waits = append(ch.waits, wait{linkOf(held.comment), o.LinkName()})
	ch.chains = without(ch.chains, e.chain)
}

// begin makes what elements lead to, and returns the rules that did not stand.
func (c *conn) begin(b *batch, ch *change) (come []*sharedRule, err error) {
	for _, w := range ch.chains {
		w.add(b, w.in)
		w.flush(b, w.in)
		if err := w.addRules(b, w.in); err != nil {
			return nil, err
		}
	}
	for _, r := range ch.rules {
		if stands, err := c.stands(r); err != nil {
			return nil, err
		} else if stands {
			continue
		}
		if err := r.add(b); err != nil {
			return nil, err
		}
		come = append(come, r)
	}
	return come, nil
}

// strict tells whether the change must be made in other programs' tables too. They may be such that they cannot be changed: that must not
// keep anything from being deleted or restored.
func (ch *change) strict() bool { return len(ch.add) > 0 && !ch.always }

// runBoth carries out what is to be done in our tables and in those of others, or if it need not be strict, what is to be done in ours.
func (c *conn) runBoth(own, others *batch, ch *change) error {
	err := c.run(&batch{append(slices.Clone(own.messages), others.messages...)})
	if err == nil || ch.strict() || len(others.messages) == 0 || errors.Is(err, unix.ENOBUFS) {
		return err
	}
	if alone := c.run(own); alone != nil {
		return alone
	}
	ch.elsewhere = nil
	ch.refused = errcode.Errorf(errcode.Kernel, "packet filter: change the rules for pods in other programs' tables: %w", err)
	if ch.always { // who restores tells of it
		return nil
	}
	return ch.refused
}

// elements puts the elements into messages, set by set.
func (b *batch) elements(kind int, flags uint16, elements []*element) {
	for len(elements) > 0 {
		s := elements[0].set
		var now, rest []*element
		for _, e := range elements {
			if e.set == s && len(now) < chunk {
				now = append(now, e)
			} else {
				rest = append(rest, e)
			}
		}
		b.put(kind, flags, s.table, s.list(now...))
		elements = rest
	}
}

// committed tells by what stands whether the change has been made.
func (c *conn) committed(ch *change) error {
	fresh, err := dial(c.open)
	if err != nil {
		return err
	}
	c.Close()
	*c = *fresh
	have, err := c.find(ch.add...)
	if err != nil {
		return err
	}
	notDone := errcode.Errorf(errcode.Kernel, "packet filter: change it: %w", unix.ENOBUFS)
	for i, e := range ch.add {
		if have[i] == nil || have[i].comment != e.comment {
			return notDone
		}
	}
	left, err := c.find(ch.del...)
	if err != nil {
		return err
	}
	for i, e := range ch.del {
		replaced := slices.ContainsFunc(ch.add, func(a *element) bool { return a.set == e.set && bytes.Equal(a.key, e.key) })
		if left[i] != nil && !replaced {
			return notDone
		}
	}
	return nil
}
