package nft

import (
	"strings"

	"github.com/cnibox/cnibox/netutil/owner"
)

// The journal says which elements an attachment has: DEL must find them with nothing but the attachment's name, and listing
// maps of thousands of elements to find a few would cost more than the change. It is a set in the table itself, so it comes and goes with
// what it tells of. The key of a record is the name of the owner's link, the feature, and a number that counts from 0; its comment is
// the owner, the name of a set, and the key of an element there.

// record is an entry of the journal.
type record struct {
	*element // in the journal itself

	owner string
	// what it tells of; nil if that cannot be read
	set *set
	key []byte
}

// ownerInJournal is the longest text for an owner there, in bytes. Of the 127 that a comment may have, the longest names of a set and a
// key take 75.
const ownerInJournal = 50

// mostRecords of one feature are what the key has numbers for.
const mostRecords = 1 << 16

func journalKey(link string, f Feature, i int) []byte {
	return pack(packName(link), packMark(uint32(f)<<16|uint32(i)))
}

// records makes the owner's records for elements of a feature.
func (t *table) records(o owner.Owner, f Feature, elements []*element) []*element {
	out := make([]*element, len(elements))
	for i, e := range elements {
		out[i] = &element{
			set: t.set(setJournal), key: journalKey(o.LinkName(), f, i),
			comment: o.Text(ownerInJournal) + " " + e.set.name + " " + formatKey(e.set.key, e.key),
		}
	}
	return out
}

// read makes a record of an element of the journal.
func (t *table) read(e *element) *record {
	r := &record{element: e}
	var name, key string
	r.owner, name, _ = strings.Cut(e.comment, " ")
	name, key, _ = strings.Cut(name, " ")
	if s := t.set(name); s != nil {
		if k, ok := parseKey(s.key, key); ok {
			r.set, r.key = s, k
		}
	}
	return r
}

// link is the name of the owner's link.
func (r *record) link() string { return ifname.format(r.element.key[:ifname.size()]) }

// holding is where an attachment's records of a feature are.
type holding struct {
	table   *table
	feature Feature
	link    string
}

// journal is the records of the holdings. All are asked for together: most have one or two (of both families), if any.
func (c *conn) journal(holdings ...holding) (out []*record, err error) {
	type ask struct {
		holding
		from int
	}
	var asks []ask
	for _, h := range holdings {
		asks = append(asks, ask{h, 0})
	}
	for n := 3; len(asks) > 0; n = min(8*n, atOnce) {
		var keys []*element
		for _, a := range asks {
			for i := range n {
				keys = append(keys, &element{set: a.table.set(setJournal), key: journalKey(a.link, a.feature, a.from+i)})
			}
		}
		found, err := c.find(keys...)
		if err != nil {
			return nil, err
		}
		var more []ask
		for i, e := range found {
			a := asks[i/n]
			if e == nil {
				continue
			}
			out = append(out, a.table.read(e))
			if i%n == n-1 {
				more = append(more, ask{a.holding, a.from + n})
			}
		}
		asks = more
	}
	return out, nil
}

// held is the elements that the records tell of, without those that are gone or have become another's.
func (c *conn) held(records []*record) (out []*element, err error) {
	var keys []*element
	var links []string
	for _, r := range records {
		if r.set != nil {
			keys, links = append(keys, &element{set: r.set, key: r.key}), append(links, r.link())
		}
	}
	found, err := c.find(keys...)
	for i, e := range found {
		if e != nil && linkOf(e.comment) == links[i] {
			out = append(out, e)
		}
	}
	return out, err
}
