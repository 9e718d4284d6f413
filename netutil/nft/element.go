package nft

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/owner"
)

// set is a set or a map of one of our tables.
type set struct {
	table *table
	name  string
	key   []field
	value []field // of a map; nil: a set, or a verdict map
	// verdicts makes it a map whose values are chains to go on in.
	verdicts bool
}

// element is an element of a set. All of ours carry a comment that tells whose they are, see tag.
type element struct {
	set     *set
	key     []byte
	value   []byte // of a map
	chain   string // of a verdict map
	jump    bool   // come back from the chain; else it is the end
	comment string
}

func (e *element) String() string {
	return formatKey(e.set.key, e.key) + " in " + e.set.table.String() + " " + e.set.name
}

// same tells whether two elements do the same, whoever they belong to.
func (e *element) same(other *element) bool {
	return bytes.Equal(e.key, other.key) && bytes.Equal(e.value, other.value) && e.chain == other.chain
}

// The longest comments that nft(8) reads again, in bytes without the final NUL.
const commentLimit = 127

// tag is the comment of an owner's elements: who it is, for people, and the name of its link, which it is told by.
func tag(o owner.Owner) string {
	link := o.LinkName()
	return o.Text(commentLimit-len(link)-1) + " " + link
}

// linkOf and ownerOf are the two parts of a tag.
func linkOf(comment string) string  { return comment[strings.LastIndexByte(comment, ' ')+1:] }
func ownerOf(comment string) string { text, _, _ := strings.Cut(comment, " "); return text }

func (s *set) is(table *table, name string) bool { return s.table == table && s.name == name }

// library is the set as the nftables library knows it.
func (s *set) library() *nftables.Set {
	out := &nftables.Set{
		Table: s.table.library(), Name: s.name, IsMap: s.verdicts || s.value != nil,
		KeyType: datatype(s.key), KeyByteOrder: binaryutil.BigEndian,
	}
	if s.key[0] == ifname {
		out.KeyByteOrder = binaryutil.NativeEndian
	}
	switch {
	case s.verdicts:
		out.DataType = nftables.TypeVerdict
	case s.value != nil:
		out.DataType = datatype(s.value)
	}
	return out
}

func datatype(fields []field) nftables.SetDatatype {
	if len(fields) == 1 {
		return fields[0].datatype()
	}
	types := make([]nftables.SetDatatype, len(fields))
	for i, f := range fields {
		types[i] = f.datatype()
	}
	// It fails for more than five types, which no set of the layout has.
	out, _ := nftables.ConcatSetType(types...)
	return out
}

func (e *element) library() nftables.SetElement {
	out := nftables.SetElement{Key: e.key, Val: e.value, Comment: e.comment}
	if e.chain != "" {
		kind := expr.VerdictGoto
		if e.jump {
			kind = expr.VerdictJump
		}
		out.VerdictData = &expr.Verdict{Kind: kind, Chain: e.chain}
	}
	return out
}

// find looks one element up by its key: nil if there is none. It costs the same in a set of any size.
func (c *conn) find(s *set, key []byte) (*element, error) {
	msgs, err := c.get(unix.NFT_MSG_GETSETELEM, s.table.family, func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.NFTA_SET_ELEM_LIST_TABLE, text(tableName))
		e.Bytes(unix.NFTA_SET_ELEM_LIST_SET, text(s.name))
		e.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(e *netlink.AttributeEncoder) error {
			e.Nested(unix.NFTA_LIST_ELEM, func(e *netlink.AttributeEncoder) error {
				e.Nested(unix.NFTA_SET_ELEM_KEY, func(e *netlink.AttributeEncoder) error {
					e.Bytes(unix.NFTA_DATA_VALUE, key)
					return nil
				})
				return nil
			})
			return nil
		})
	})
	if err != nil {
		return nil, kernelError(err, "look up %s", (&element{set: s, key: key}).String())
	}
	found, err := s.elements(msgs)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// list is all elements of a set, in no order. It takes the longer the more there are: only for GC.
func (c *conn) list(s *set) ([]*element, error) {
	msgs, err := c.dump(unix.NFT_MSG_GETSETELEM, s.table.family, func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.NFTA_SET_ELEM_LIST_TABLE, text(tableName))
		e.Bytes(unix.NFTA_SET_ELEM_LIST_SET, text(s.name))
	})
	if err != nil {
		return nil, kernelError(err, "list %s %s", s.table, s.name)
	}
	return s.elements(msgs)
}

// elements reads the kernel's answer.
func (s *set) elements(msgs []netlink.Message) (out []*element, err error) {
	for _, m := range msgs {
		err := decode(payload(m), func(d *netlink.AttributeDecoder) error {
			if d.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				return nil
			}
			return decode(d.Bytes(), func(d *netlink.AttributeDecoder) error {
				e, err := s.element(d.Bytes())
				out = append(out, e)
				return err
			})
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *set) element(attrs []byte) (*element, error) {
	e := &element{set: s}
	err := decode(attrs, func(d *netlink.AttributeDecoder) (err error) {
		switch d.Type() {
		case unix.NFTA_SET_ELEM_KEY:
			e.key, err = value(d.Bytes())
		case unix.NFTA_SET_ELEM_DATA:
			if s.verdicts {
				return e.readVerdict(d.Bytes())
			}
			e.value, err = value(d.Bytes())
		case unix.NFTA_SET_ELEM_USERDATA:
			e.comment = readComment(d.Bytes())
		}
		return err
	})
	return e, err
}

// value is the bytes of a key or a value.
func value(attrs []byte) (out []byte, err error) {
	err = decode(attrs, func(d *netlink.AttributeDecoder) error {
		if d.Type() == unix.NFTA_DATA_VALUE {
			out = d.Bytes()
		}
		return nil
	})
	return out, err
}

func (e *element) readVerdict(attrs []byte) error {
	return decode(attrs, func(d *netlink.AttributeDecoder) error {
		if d.Type() != unix.NFTA_DATA_VERDICT {
			return nil
		}
		return decode(d.Bytes(), func(d *netlink.AttributeDecoder) error {
			switch d.Type() {
			case unix.NFTA_VERDICT_CODE:
				if code := d.Bytes(); len(code) == 4 {
					e.jump = int32(binary.BigEndian.Uint32(code)) == unix.NFT_JUMP
				}
			case unix.NFTA_VERDICT_CHAIN:
				e.chain = d.String()
			}
			return nil
		})
	})
}

// readComment finds the comment among what nft(8) keeps with an element: pieces of a type, a length and that many bytes. The
// library's own reader does not bear pieces that are cut short.
func readComment(pieces []byte) string {
	for len(pieces) >= 2 {
		kind, n := pieces[0], int(pieces[1])
		if len(pieces) < 2+n {
			return ""
		}
		if kind == byte(userdata.NFTNL_UDATA_SET_ELEM_COMMENT) {
			return strings.TrimRight(string(pieces[2:2+n]), "\x00")
		}
		pieces = pieces[2+n:]
	}
	return ""
}
