package nft

import (
	"errors"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// change is one atomic batch.
type change struct {
	add, del []*element
	chains   []wantedChain // made unless they stand
}

// chunk is how many elements go into one message: of more than 64 KiB in one the kernel would see only the first.
const chunk = 200

// commit makes the change: all of it or nothing.
func (c *conn) commit(ch *change) error {
	if len(ch.add)+len(ch.del) == 0 {
		return nil
	}
	lost, err := c.lostChains(ch)
	if err != nil {
		return err
	}
	for _, w := range ch.chains {
		_, found, err := c.uses(w.table, w.name)
		if err != nil {
			return err
		}
		if !found {
			c.addChain(w.table, &w.chain)
			c.addRules(w.table, &w.chain)
		}
	}
	if err := inChunks(ch.del, c.SetDeleteElements); err != nil {
		return err
	}
	if err := inChunks(ch.add, c.SetAddElements); err != nil {
		return err
	}
	for _, l := range lost {
		c.DelChain(l.chain.library(l.table))
	}
	err = c.Flush()
	if errors.Is(err, unix.ENOBUFS) { // answers were lost; what they would have said can be seen
		return c.committed(ch)
	}
	return kernelError(err, "change the packet filter")
}

// inChunks calls do for the elements, set by set, some at a time.
func inChunks(elements []*element, do func(*nftables.Set, []nftables.SetElement) error) error {
	for len(elements) > 0 {
		s := elements[0].set
		var now []nftables.SetElement
		var rest []*element
		for _, e := range elements {
			if e.set == s && len(now) < chunk {
				now = append(now, e.library())
			} else {
				rest = append(rest, e)
			}
		}
		if err := do(s.library(), now); err != nil {
			return err
		}
		elements = rest
	}
	return nil
}

// committed tells by what stands whether the change has been made.
func (c *conn) committed(ch *change) error {
	fresh, err := dial(c.NetNS)
	if err != nil {
		return err
	}
	c.close()
	*c = *fresh
	for _, e := range ch.add {
		have, err := c.find(e.set, e.key)
		if err != nil {
			return err
		}
		if have == nil || have.comment != e.comment {
			return errcode.Errorf(errcode.Kernel, "change the packet filter: %w", unix.ENOBUFS)
		}
	}
	return nil
}

// lostChains are those to which nothing leads once the change is made.
func (c *conn) lostChains(ch *change) (lost []wantedChain, err error) {
	leads := func(list []*element, t *table, name string) (n int) {
		for _, e := range list {
			if e.set.table == t && e.chain == name {
				n++
			}
		}
		return n
	}
	for _, e := range ch.del {
		t := e.set.table
		seen := slices.ContainsFunc(lost, func(l wantedChain) bool { return l.table == t && l.name == e.chain })
		if e.chain == "" || e.chain == chainMappedAll || seen || leads(ch.add, t, e.chain) > 0 {
			continue
		}
		uses, found, err := c.uses(t, e.chain)
		if err != nil {
			return nil, err
		}
		left := uses - leads(ch.del, t, e.chain)
		const mostRules = 64 // of a chain of ours; if there is more, elements lead there
		if !found || left > mostRules {
			continue
		}
		rules, err := c.rules(t, e.chain)
		if err != nil {
			return nil, err
		}
		if left == rules {
			lost = append(lost, wantedChain{t, chain{name: e.chain}})
		}
	}
	return lost, nil
}

// kernelError gives an error of the kernel its code and says what was asked of it; nil stays nil.
func kernelError(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	if missing(err) {
		err = errors.Join(err, errors.New("does this kernel have nftables (CONFIG_NF_TABLES, _INET, _NAT, CONFIG_NFT_FIB_INET, CONFIG_NF_TABLES_BRIDGE)?"))
	}
	return errcode.Errorf(errcode.Kernel, "packet filter: "+format+": %w", append(args, err)...)
}

// missing tells whether the kernel lacks what it was asked for.
func missing(err error) bool {
	for _, e := range []unix.Errno{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
