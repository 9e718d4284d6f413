package nft

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// chain is a chain with its rules.
type chain struct {
	name  string
	hook  *hook // nil: only reached from other chains
	rules []commented
	jumps int  // to it, from other static chains
	grows bool // rules of subnets come behind its own
}

// hook is where packets enter a base chain.
type hook struct {
	kind     string
	number   uint32
	priority int32
}

// Priorities of hooks (linux/netfilter_ipv4.h).
const (
	priorityRaw       = -300
	priorityDestNAT   = -100
	priorityFilter    = 0
	prioritySourceNAT = 100
)

// commented is a rule with what nft(8) shows behind it.
type commented struct {
	comment string
	rule
}

// add makes the chain unless it is there, without its rules.
func (ch *chain) add(b *batch, t *table) {
	var a rawnl.Attrs
	a.Text(unix.NFTA_CHAIN_TABLE, t.name)
	a.Text(unix.NFTA_CHAIN_NAME, ch.name)
	if ch.hook != nil {
		a.Nested(unix.NFTA_CHAIN_HOOK, func(a *rawnl.Attrs) {
			a.Uint32BE(unix.NFTA_HOOK_HOOKNUM, ch.hook.number)
			a.Uint32BE(unix.NFTA_HOOK_PRIORITY, uint32(ch.hook.priority))
		})
		a.Text(unix.NFTA_CHAIN_TYPE, ch.hook.kind)
	}
	b.put(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, t, a)
}

// flush removes the chain's rules.
func (ch *chain) flush(b *batch, t *table) {
	var a rawnl.Attrs
	a.Text(unix.NFTA_RULE_TABLE, t.name)
	a.Text(unix.NFTA_RULE_CHAIN, ch.name)
	b.put(unix.NFT_MSG_DELRULE, 0, t, a)
}

// addRules adds the chain's rules behind those that it has.
func (ch *chain) addRules(b *batch, t *table) error { return ch.putRules(b, t, unix.NLM_F_APPEND) }

// insertRules puts them in front, the last of them first.
func (ch *chain) insertRules(b *batch, t *table) error { return ch.putRules(b, t, 0) }

func (ch *chain) putRules(b *batch, t *table, where uint16) error {
	for _, r := range ch.rules {
		var a rawnl.Attrs
		a.Text(unix.NFTA_RULE_TABLE, t.name)
		a.Text(unix.NFTA_RULE_CHAIN, ch.name)
		var failed error
		a.Nested(unix.NFTA_RULE_EXPRESSIONS, func(a *rawnl.Attrs) {
			for _, e := range r.rule {
				encoded, err := expr.Marshal(t.family, e)
				if err != nil {
					failed = err
				}
				a.Bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, encoded)
			}
		})
		if failed != nil {
			return failed
		}
		if r.comment != "" {
			a.Bytes(unix.NFTA_RULE_USERDATA, comment(ruleComment, r.comment))
		}
		b.put(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|where, t, a)
	}
	return nil
}

// remove takes the chain away, with its rules. Nothing must lead to it.
func (ch *chain) remove(b *batch, t *table) {
	var a rawnl.Attrs
	a.Text(unix.NFTA_CHAIN_TABLE, t.name)
	a.Text(unix.NFTA_CHAIN_NAME, ch.name)
	b.put(unix.NFT_MSG_DELCHAIN, 0, t, a)
}

// lookUp asks for a chain of the table.
func (t *table) lookUp(chain string) rawnl.Message {
	var a rawnl.Attrs
	a.Text(unix.NFTA_CHAIN_TABLE, t.name)
	a.Text(unix.NFTA_CHAIN_NAME, chain)
	return message(unix.NFT_MSG_GETCHAIN, 0, t.family, a)
}

// uses is how many rules each of the chains has, and how many rules and elements lead to it, together; -1 for one that is not there.
func (c *conn) uses(t *table, names ...string) ([]int, error) {
	requests := make([]rawnl.Message, len(names))
	for i, name := range names {
		requests[i] = t.lookUp(name)
	}
	answers, err := c.ask(requests)
	if err != nil {
		return nil, kernelError(err, "look up chains of %s", t)
	}
	out := make([]int, len(names))
	for i, attrs := range answers {
		out[i] = -1
		if uses := rawnl.Find(attrs, unix.NFTA_CHAIN_USE); len(uses) == 4 {
			out[i] = int(binary.BigEndian.Uint32(uses))
		}
	}
	return out, nil
}

// rules lists the rules of a chain.
func (c *conn) rules(t *table, name string) (out []standing, err error) {
	var a rawnl.Attrs
	a.Text(unix.NFTA_RULE_TABLE, t.name)
	a.Text(unix.NFTA_RULE_CHAIN, name)
	bodies, err := c.dump(unix.NFT_MSG_GETRULE, t.family, a)
	for _, b := range bodies {
		r := standing{
			comment: readComment(rawnl.Find(attributes(b), unix.NFTA_RULE_USERDATA)),
			exprs:   rawnl.Find(attributes(b), unix.NFTA_RULE_EXPRESSIONS),
		}
		if h := rawnl.Find(attributes(b), unix.NFTA_RULE_HANDLE); len(h) == 8 {
			r.handle = binary.BigEndian.Uint64(h)
		}
		out = append(out, r)
	}
	return out, kernelError(err, "list the rules of chain %s in %s", name, t)
}

// removeRule removes one rule of the chain.
func (ch *chain) removeRule(b *batch, t *table, r standing) {
	var a rawnl.Attrs
	a.Text(unix.NFTA_RULE_TABLE, t.name)
	a.Text(unix.NFTA_RULE_CHAIN, ch.name)
	a.Bytes(unix.NFTA_RULE_HANDLE, binary.BigEndian.AppendUint64(nil, r.handle))
	b.put(unix.NFT_MSG_DELRULE, 0, t, a)
}
