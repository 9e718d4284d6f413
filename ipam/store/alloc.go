package store

import (
	"errors"
	"io/fs"
	"math"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// Range is the addresses from First to Last, both included. They are of one family, and First is not above Last.
type Range struct {
	First, Last netip.Addr
}

// Contains tells whether addr is in the range.
func (r Range) Contains(addr netip.Addr) bool {
	return addr.BitLen() == r.First.BitLen() && r.First.Compare(addr) <= 0 && addr.Compare(r.Last) <= 0
}

func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }

// Set is a range set: ranges that an attachment gets one address from.
type Set struct {
	Ranges []Range
	Skip   []netip.Addr // never given out: gateways
	Want   netip.Addr   // the one to give out, which must be in a range; the zero Addr for the next free one
}

// Contains tells whether addr is in a range of the set.
func (s Set) Contains(addr netip.Addr) bool {
	return slices.ContainsFunc(s.Ranges, func(r Range) bool { return r.Contains(addr) })
}

func (s Set) String() string {
	parts := make([]string, len(s.Ranges))
	for i, r := range s.Ranges {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}

// Size is how many addresses the set can give out, at most the largest uint64.
func (s Set) Size() uint64 {
	var size uint64
	for _, r := range s.Ranges {
		first, last := keyOf(r.First), keyOf(r.Last)
		n := last.lo - first.lo + 1
		if last.hi-first.hi > 1 || last.hi != first.hi && last.lo >= first.lo || n == 0 || size+n < size {
			return math.MaxUint64
		}
		size += n
	}
	for i, addr := range s.Skip {
		if s.Contains(addr) && !slices.Contains(s.Skip[:i], addr) {
			size--
		}
	}
	return size
}

// acquire chooses an address of each set, makes their files, and takes those back if one of them cannot be made.
func (t *txn) acquire(h Holder, sets []Set) (_ []netip.Addr, err error) {
	held, err := t.held(h)
	if err != nil {
		return nil, err
	}
	for _, r := range held {
		if i := slices.IndexFunc(sets, func(s Set) bool { return s.Contains(r.Addr) }); i >= 0 {
			return nil, errcode.Errorf(errcode.AlreadyExists, "%s holds %s of range set %d already", r.Holder, r.Addr, i)
		}
	}
	picks := make([]netip.Addr, len(sets))
	for i, set := range sets {
		if picks[i], err = t.pick(i, set); err != nil {
			return nil, err
		}
		if slices.Contains(picks[:i], picks[i]) {
			return nil, errcode.Errorf(errcode.InvalidConfig, "range sets overlap at %s", picks[i])
		}
	}
	defer func() {
		if err == nil {
			return
		}
		for _, addr := range picks {
			err = errors.Join(err, t.takeBack(addr, h))
		}
	}()
	for _, addr := range picks {
		if err := t.create(addr, h); err != nil {
			return nil, err
		}
		t.index.set(keyOf(addr), ownerOf(h.text()))
	}
	for i, addr := range picks {
		t.setLast(i, addr)
	}
	return picks, nil
}

// takeBack removes an address file that this call has made. The index does not tell: a file may be there though its making failed.
func (t *txn) takeBack(addr netip.Addr, h Holder) error {
	text, err := t.read(addr)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && text != h.text():
		return nil
	case err != nil:
		return errcode.Errorf(errcode.Storage, "cannot take %s back: %w", addr, err)
	}
	return t.remove(addr)
}

// pick chooses an address of set i.
func (t *txn) pick(i int, set Set) (netip.Addr, error) {
	if !set.Want.IsValid() {
		addr, ok := t.index.next(set, t.last(i))
		if !ok {
			return addr, errcode.Errorf(errcode.PoolExhausted, "range set %d (%s) is exhausted: %d of its %d addresses are reserved",
				i, set, t.index.reserved(set), set.Size())
		}
		return addr, nil
	}
	if !set.Contains(set.Want) || slices.Contains(set.Skip, set.Want) {
		return netip.Addr{}, errcode.Errorf(errcode.InvalidConfig, "%s cannot be given out by range set %d (%s)", set.Want, i, set)
	}
	r, found := t.index.search(keyOf(set.Want))
	if !found || !t.index.taken(r) {
		return set.Want, nil
	}
	text, err := t.read(set.Want)
	if err != nil && t.index.owner(r) == ownerUnknown {
		return netip.Addr{}, errcode.Errorf(errcode.AddressTaken, "%s is taken, and by whom cannot be read: %w", set.Want, err)
	}
	if err != nil || ownerOf(text) != t.index.owner(r) {
		return netip.Addr{}, errStale
	}
	return netip.Addr{}, errcode.Errorf(errcode.AddressTaken, "%s is held by %s", set.Want, holderOf(text))
}

// held is the reservations of the holder, and those of its container ID alone, as old versions of the reference wrote them.
func (t *txn) held(h Holder) ([]Reservation, error) {
	full, old := h.text(), Holder{ContainerID: h.ContainerID}.text()
	var held []Reservation
	for _, k := range t.index.owned(ownerOf(full), ownerOf(old)) {
		addr := k.addr()
		text, err := t.read(addr)
		i, _ := t.index.search(k)
		if err != nil || ownerOf(text) != t.index.owner(i) {
			return nil, errStale
		}
		if text == full || text == old {
			held = append(held, Reservation{addr, holderOf(text)})
		}
	}
	return held, nil
}

// chosen leaves out the reservations by container ID alone if there are others.
func chosen(held []Reservation) []Reservation {
	isNew := func(r Reservation) bool { return r.Holder.IfName != "" }
	if !slices.ContainsFunc(held, isNew) {
		return held
	}
	return slices.DeleteFunc(held, func(r Reservation) bool { return !isNew(r) })
}

// retain is Retain. It goes through the index, and opens only the files that it may remove.
func (t *txn) retain(valid []Holder) (released []Reservation, err error) {
	keep := make(map[uint64]bool, 2*len(valid))
	for _, h := range valid {
		keep[ownerOf(h.text())] = true
		keep[ownerOf(Holder{ContainerID: h.ContainerID}.text())] = true
	}
	var errs []error
	for i := range t.index.len() {
		owner := t.index.owner(i)
		if owner == ownerNone || keep[owner] {
			continue
		}
		addr := t.index.key(i).addr()
		text, err := t.read(addr)
		switch {
		case owner == ownerUnknown && (errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ELOOP)):
			continue // no file, and none of ours
		case owner == ownerUnknown && err != nil:
			errs = append(errs, errcode.Errorf(errcode.Storage, "cannot tell who holds %s: %w", addr, err))
			continue
		case err != nil || ownerOf(text) != owner:
			return released, errStale
		}
		if err := t.remove(addr); err != nil {
			errs = append(errs, err)
			continue
		}
		if owner != ownerEmpty {
			released = append(released, Reservation{addr, holderOf(text)})
		}
	}
	return released, errors.Join(errs...)
}

// next is the first free address behind last, going round the set. It looks at the index only.
func (x *index) next(set Set, last netip.Addr) (netip.Addr, bool) {
	at := slices.IndexFunc(set.Ranges, func(r Range) bool { return last.IsValid() && r.Contains(last) })
	if at < 0 {
		return x.nextIn(set.Ranges, set.Skip)
	}
	r := set.Ranges[at]
	var turn []Range
	if last != r.Last {
		turn = append(turn, Range{last.Next(), r.Last})
	}
	turn = append(turn, set.Ranges[at+1:]...)
	turn = append(turn, set.Ranges[:at]...)
	return x.nextIn(append(turn, Range{r.First, last}), set.Skip)
}

// nextIn is the first free address of the ranges.
func (x *index) nextIn(ranges []Range, skip []netip.Addr) (netip.Addr, bool) {
	for _, r := range ranges {
		k, last := keyOf(r.First), keyOf(r.Last)
		i, _ := x.search(k)
		for ; !last.less(k); k = k.next() {
			taken := false
			if i < x.len() && x.key(i) == k {
				taken = x.taken(i)
				i++
			}
			if !taken && !slices.ContainsFunc(skip, func(s netip.Addr) bool { return keyOf(s) == k }) {
				return k.addr(), true
			}
			if k == last { // next would overflow at the end of the IPv6 addresses
				break
			}
		}
	}
	return netip.Addr{}, false
}

// reserved counts the reservations in the set.
func (x *index) reserved(set Set) int {
	n := 0
	for _, r := range set.Ranges {
		first, last := keyOf(r.First), keyOf(r.Last)
		for i, _ := x.search(first); i < x.len() && !last.less(x.key(i)); i++ {
			if x.taken(i) {
				n++
			}
		}
	}
	return n
}
