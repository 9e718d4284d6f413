package nft

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// standing is a rule that stands in the kernel.
type standing struct {
	handle  uint64
	comment string
	exprs   []byte // attributes: its expressions
}

// expressions calls visit with the name and the attributes of each of a rule's expressions.
func (r *standing) expressions(visit func(name string, data []byte)) {
	rawnl.Each(r.exprs, func(_ uint16, e []byte) {
		visit(rawnl.String(rawnl.Find(e, unix.NFTA_EXPR_NAME)), rawnl.Find(e, unix.NFTA_EXPR_DATA))
	})
}

// jump is the chain that a rule leads to; empty if there is none.
func (r *standing) jump() (to string) {
	r.expressions(func(name string, data []byte) {
		if name == "immediate" {
			verdict := rawnl.Find(rawnl.Find(data, unix.NFTA_IMMEDIATE_DATA), unix.NFTA_DATA_VERDICT)
			to = rawnl.String(rawnl.Find(verdict, unix.NFTA_VERDICT_CHAIN))
		}
	})
	return to
}

// text is the rule's comment, wherever it stands: iptables-restore has made an extension of it.
func (r *standing) text() string {
	text := r.comment
	r.expressions(func(name string, data []byte) {
		if name == "match" && rawnl.String(rawnl.Find(data, unix.NFTA_MATCH_NAME)) == "comment" {
			text, _, _ = strings.Cut(string(rawnl.Find(data, unix.NFTA_MATCH_INFO)), "\x00")
		}
	})
	return text
}

// refuses tells whether the rule drops or rejects whatever comes to it.
func (r *standing) refuses() bool {
	always, refuses := true, false
	r.expressions(func(name string, data []byte) {
		switch name {
		case "counter", "log", "limit":
			always = always && name != "limit"
		case "reject":
			refuses = true
		case "immediate":
			code := rawnl.Find(rawnl.Find(rawnl.Find(data, unix.NFTA_IMMEDIATE_DATA), unix.NFTA_DATA_VERDICT), unix.NFTA_VERDICT_CODE)
			refuses = len(code) == 4 && number(code) == verdictDrop
		case "target":
			target := rawnl.String(rawnl.Find(data, unix.NFTA_TARGET_NAME))
			refuses = target == "REJECT" || target == "DROP"
		case "match":
			always = always && rawnl.String(rawnl.Find(data, unix.NFTA_MATCH_NAME)) == "comment"
		default:
			always = false
		}
	})
	return always && refuses
}
