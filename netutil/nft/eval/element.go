package eval

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// Element is an element of a set.
type Element struct {
	Key, End []byte // End: the last key of an interval, as far as it is known
	Value    []byte
	Verdict  []byte // attributes (NFTA_VERDICT_)
	Comment  string
	exprs    []byte
	rest     bool // it stands for all keys that no other element is, or holds: "*"
}

// applies tells whether an element that fits counts: one with a limit may not.
func (e *Element) applies() answer {
	out := yes
	rawnl.Each(e.exprs, func(_ uint16, v []byte) {
		name := rawnl.String(rawnl.Find(v, unix.NFTA_EXPR_NAME))
		if name != "" && name != "counter" && name != "last" {
			out = maybe
		}
	})
	return out
}

// Comment is the comment in what nft(8) keeps with a rule or an element: pieces of a kind, a length and that many bytes (libnftnl/udata.h).
func Comment(pieces []byte) string {
	for len(pieces) >= 2 {
		kind, n := pieces[0], int(pieces[1])
		if len(pieces) < 2+n {
			return ""
		}
		if kind == 0 {
			return rawnl.String(pieces[2 : 2+n])
		}
		pieces = pieces[2+n:]
	}
	return ""
}

// catchAll is NFT_SET_ELEM_CATCHALL.
const catchAll = 2

// Element asks the kernel for the element of a set that a key is, or falls into, or else for that of all other keys; nil if there is none.
func (x Exchange) Element(s *Set, key []byte) (*Element, error) {
	found, err := x.element(s, key, 0)
	if found == nil && err == nil {
		return x.rest(s)
	}
	if err != nil || s.Flags&unix.NFT_SET_INTERVAL == 0 || found.End != nil {
		return found, err
	}
	// Where the interval ends is an element of its own, unless the key has several parts. It is told to people only.
	if end, err := x.element(s, key, unix.NFT_SET_ELEM_INTERVAL_END); err == nil && end != nil {
		found.End = before(end.Key)
	}
	return found, nil
}

// rest is the element that stands for all other keys. Kernels before 5.13 know of none, and refuse to look for it.
func (x Exchange) rest(s *Set) (*Element, error) {
	found, err := x.element(s, nil, catchAll)
	if errors.Is(err, unix.EINVAL) {
		return nil, nil
	}
	return found, err
}

// element asks for one by its key; of that of all other keys, which flags tell of, there is none.
func (x Exchange) element(s *Set, key []byte, flags uint32) (*Element, error) {
	var a rawnl.Attrs
	a.Text(unix.NFTA_SET_ELEM_LIST_TABLE, s.Table.Name)
	a.Text(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
	a.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(a *rawnl.Attrs) {
		a.Nested(unix.NFTA_LIST_ELEM, func(a *rawnl.Attrs) {
			if flags != 0 {
				a.Uint32BE(unix.NFTA_SET_ELEM_FLAGS, flags)
			}
			if key != nil {
				a.Nested(unix.NFTA_SET_ELEM_KEY, func(a *rawnl.Attrs) { a.Bytes(unix.NFTA_DATA_VALUE, key) })
			}
		})
	})
	answers, err := x(message(unix.NFT_MSG_GETSETELEM, 0, s.Table.Family, a))
	if err != nil {
		return nil, err
	}
	switch answer := answers[0]; {
	case errors.Is(answer.Err, unix.ENOENT):
		return nil, nil
	case answer.Err != nil:
		return nil, answer.Err
	case len(answer.Bodies) == 0 || len(answer.Bodies[0]) < 4:
		return nil, nil
	default:
		if all := decodeElements(answer.Bodies[0][4:]); len(all) > 0 {
			return all[0], nil
		}
		return nil, nil
	}
}

// Elements lists all elements of a set.
func (x Exchange) Elements(s *Set) (out []*Element, err error) {
	var a rawnl.Attrs
	a.Text(unix.NFTA_SET_ELEM_LIST_TABLE, s.Table.Name)
	a.Text(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
	err = x.dump(unix.NFT_MSG_GETSETELEM, s.Table.Family, a, func(_ byte, attrs []byte) { out = append(out, decodeElements(attrs)...) })
	return out, err
}

func decodeElements(attrs []byte) (out []*Element) {
	const keyEnd, expressions = 10, 11 // NFTA_SET_ELEM_KEY_END, NFTA_SET_ELEM_EXPRESSIONS
	rawnl.Each(rawnl.Find(attrs, unix.NFTA_SET_ELEM_LIST_ELEMENTS), func(_ uint16, v []byte) {
		data := rawnl.Find(v, unix.NFTA_SET_ELEM_DATA)
		e := &Element{
			Key: dataAt(v, unix.NFTA_SET_ELEM_KEY), End: dataAt(v, keyEnd),
			Value: rawnl.Find(data, unix.NFTA_DATA_VALUE), Verdict: rawnl.Find(data, unix.NFTA_DATA_VERDICT),
			Comment: Comment(rawnl.Find(v, unix.NFTA_SET_ELEM_USERDATA)), rest: uint32At(v, unix.NFTA_SET_ELEM_FLAGS)&catchAll != 0,
		}
		if one := rawnl.Find(v, unix.NFTA_SET_ELEM_EXPR); one != nil {
			var a rawnl.Attrs
			a.Bytes(unix.NFTA_LIST_ELEM, one)
			e.exprs = a
		}
		if more := rawnl.Find(v, expressions); more != nil {
			e.exprs = more
		}
		out = append(out, e)
	})
	return out
}

// before is the key in front of one.
func before(key []byte) []byte {
	out := slices.Clone(key)
	for i := len(out) - 1; i >= 0; i-- {
		out[i]--
		if out[i] != 0xff {
			break
		}
	}
	return out
}

// text is the element as nft(8) writes it.
func (e *Element) text(s *Set) string {
	words := formatKey(s.kinds, e.Key)
	if e.rest {
		words = "*"
	}
	if end := formatKey(s.kinds, e.End); e.End != nil && end != words {
		words += "-" + end
	}
	switch {
	case e.Verdict != nil:
		m := machine{}
		m.setVerdict(e.Verdict)
		words += " : " + m.verdict.String()
	case e.Value != nil:
		words += " : " + formatKey(s.values, e.Value)
	}
	return words
}
