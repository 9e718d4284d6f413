package nft

import (
	"bytes"
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rawnl"
)

// element is an element of a set. All of ours carry a comment that tells whose they are, see tag.
type element struct {
	set     *set
	key     []byte
	value   []byte // of a map
	chain   string // of a verdict map: jump there
	end     bool   // of a set of intervals: the first key behind one
	comment string
}

func (e *element) String() string {
	return formatKey(e.set.key, e.key) + " in " + e.set.table.String() + " " + e.set.name
}

// same tells whether two elements do the same, whoever they belong to.
func (e *element) same(other *element) bool {
	return bytes.Equal(e.key, other.key) && bytes.Equal(e.value, other.value) && e.chain == other.chain
}

// commentLimit is the longest comment that nft(8) reads again, in bytes without the final NUL.
const commentLimit = 127

// tag is the comment of an owner's elements: who it is, for people, and the name of its link, which it is told by.
func tag(o owner.Owner) string {
	link := o.LinkName()
	return o.Text(commentLimit-len(link)-1) + " " + link
}

// linkOf and ownerOf are the two parts of a tag.
func linkOf(comment string) string  { return comment[strings.LastIndexByte(comment, ' ')+1:] }
func ownerOf(comment string) string { text, _, _ := strings.Cut(comment, " "); return text }

// encode writes the element as the kernel takes it, and as nft(8) reads it.
func (e *element) encode(a *rawnl.Attrs) {
	if e.end {
		a.Uint32BE(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	a.Nested(unix.NFTA_SET_ELEM_KEY, func(a *rawnl.Attrs) { a.Bytes(unix.NFTA_DATA_VALUE, e.key) })
	switch {
	case e.chain != "":
		a.Nested(unix.NFTA_SET_ELEM_DATA, func(a *rawnl.Attrs) { a.Nested(unix.NFTA_DATA_VERDICT, e.encodeVerdict) })
	case e.value != nil:
		a.Nested(unix.NFTA_SET_ELEM_DATA, func(a *rawnl.Attrs) { a.Bytes(unix.NFTA_DATA_VALUE, e.value) })
	}
	if e.comment != "" {
		a.Bytes(unix.NFTA_SET_ELEM_USERDATA, comment(elementComment, e.comment))
	}
}

func (e *element) encodeVerdict(a *rawnl.Attrs) {
	code := int32(unix.NFT_JUMP)
	a.Uint32BE(unix.NFTA_VERDICT_CODE, uint32(code))
	a.Text(unix.NFTA_VERDICT_CHAIN, e.chain)
}

// What nft(8) keeps in "user data" is pieces of a kind, a length and that many bytes (libnftnl/udata.h). These are the kinds.
const (
	elementComment = 0 // NFTNL_UDATA_SET_ELEM_COMMENT
	ruleComment    = 0 // NFTNL_UDATA_RULE_COMMENT
	setByteOrder   = 0 // NFTNL_UDATA_SET_KEYBYTEORDER
	setKeyTypeOf   = 3 // NFTNL_UDATA_SET_KEY_TYPEOF
)

func comment(kind byte, text string) []byte {
	return append([]byte{kind, byte(len(text) + 1)}, text+"\x00"...)
}

func readComment(pieces []byte) string {
	for len(pieces) >= 2 {
		kind, n := pieces[0], int(pieces[1])
		if len(pieces) < 2+n {
			return ""
		}
		if kind == elementComment {
			return rawnl.String(pieces[2 : 2+n])
		}
		pieces = pieces[2+n:]
	}
	return ""
}

// decode reads an element as the kernel gives it.
func (s *set) decode(attrs []byte) *element {
	e := &element{set: s}
	rawnl.Each(attrs, func(kind uint16, value []byte) {
		switch kind {
		case unix.NFTA_SET_ELEM_KEY:
			e.key = rawnl.Find(value, unix.NFTA_DATA_VALUE)
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = len(value) == 4 && binary.BigEndian.Uint32(value)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_DATA:
			e.value = rawnl.Find(value, unix.NFTA_DATA_VALUE)
			verdict := rawnl.Find(value, unix.NFTA_DATA_VERDICT)
			e.chain = rawnl.String(rawnl.Find(verdict, unix.NFTA_VERDICT_CHAIN))
		case unix.NFTA_SET_ELEM_USERDATA:
			e.comment = readComment(value)
		}
	})
	return e
}

// elements reads the kernel's list of elements.
func (s *set) elements(attrs []byte) (out []*element) {
	rawnl.Each(rawnl.Find(attrs, unix.NFTA_SET_ELEM_LIST_ELEMENTS), func(_ uint16, value []byte) {
		// A key of another size would be another program's set under our name.
		if e := s.decode(value); len(e.key) == size(s.key) {
			out = append(out, e)
		}
	})
	return out
}

// list encodes elements of one set.
func (s *set) list(elements ...*element) (a rawnl.Attrs) {
	a.Text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	a.Text(unix.NFTA_SET_ELEM_LIST_SET, s.name)
	a.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(a *rawnl.Attrs) {
		for _, e := range elements {
			a.Nested(unix.NFTA_LIST_ELEM, e.encode)
		}
	})
	return a
}

// find looks the elements up by their keys: nil where there is none. It costs the same in sets of any size.
func (c *conn) find(keys ...*element) ([]*element, error) {
	requests := make([]rawnl.Message, len(keys))
	for i, k := range keys {
		requests[i] = message(unix.NFT_MSG_GETSETELEM, 0, k.set.table.family, k.set.list(&element{key: k.key}))
	}
	answers, err := c.ask(requests)
	if err != nil {
		return nil, kernelError(err, "look up elements")
	}
	out := make([]*element, len(keys))
	for i, attrs := range answers {
		if found := keys[i].set.elements(attrs); len(found) > 0 {
			out[i] = found[0]
		}
	}
	return out, nil
}

// all is all elements of a set, in no order. It takes the longer the more there are: only for GC.
func (c *conn) all(s *set) (out []*element, err error) {
	var a rawnl.Attrs
	a.Text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	a.Text(unix.NFTA_SET_ELEM_LIST_SET, s.name)
	bodies, err := c.dump(unix.NFT_MSG_GETSETELEM, s.table.family, a)
	for _, b := range bodies {
		out = append(out, s.elements(attributes(b))...)
	}
	return out, kernelError(err, "list %s %s", s.table, s.name)
}
