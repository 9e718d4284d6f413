package nft

import (
	"strconv"

	"github.com/cnibox/cnibox/netutil/owner"
)

// conditionalChain is that of an owner's ith port mapping, which has conditions.
func conditionalChain(o owner.Owner, i int, e PortEntry) (chain, error) {
	f := familyOf(e.Addr)
	ch := chain{name: "if-" + o.LinkName() + "-" + strconv.Itoa(i)}
	for _, cond := range e.Conditions {
		r, err := cond.unless(f)
		if err != nil {
			return chain{}, err
		}
		ch.rules = append(ch.rules, commented{"", join(f.is(), r, leave())})
	}
	ch.rules = append(ch.rules, commented{"", join(f.is(), l4protoIs(e.Protocol), f.dnatTo(e.Addr, e.Port))})
	return ch, nil
}
