package store

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"sort"
)

// The index is one file: a header, then one record for each address that is, or was, reserved, in the order of the addresses.
// All numbers are big endian.
//
//	header  0 magic, 8 version, 12 record size, 16 records, 24 records in use, 32 sum of the records,
//	        40 mtime, 48 ctime, 56 inode, 64 device of the network's folder, 72 boot ID, 112 FNV-1a of all that
//	record  0 address (IPv4 mapped into IPv6), 16 owner
//
// It describes the folder that has that inode and those times, and no other: after each of our own changes we set the folder's
// mtime to a value that no change of somebody else's produces (see signature). A crash between a file and the index shows in
// the same way. The sum shows a file that is torn or damaged, the boot ID one that a power failure may have torn.
//
// A record is never taken out when its address is released: it is marked free, which changes eight bytes, and serves again
// when the round robin comes back.
const (
	indexMagic   = "cniboxIX"
	indexVersion = 1
	headerSize   = 120
	recordSize   = 24
	bootIDSize   = 40
)

// Owners that are no hash.
const (
	ownerNone    uint64 = iota // the address is free
	ownerEmpty                 // there is a file without text: free too, and GC removes it
	ownerUnknown               // there is something that cannot be read: taken
	ownerFirst                 // the least hash
)

// ownerOf is the FNV-1a hash of an address file's text.
func ownerOf(text string) uint64 {
	if text == "" {
		return ownerEmpty
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	return max(h.Sum64(), ownerFirst)
}

// key is an address as a number.
type key struct{ hi, lo uint64 }

func keyOf(addr netip.Addr) key {
	b := addr.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (k key) addr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
	return netip.AddrFrom16(b).Unmap()
}

func (k key) less(than key) bool {
	return k.hi < than.hi || k.hi == than.hi && k.lo < than.lo
}

func (k key) next() key {
	k.lo++
	if k.lo == 0 {
		k.hi++
	}
	return k
}

// index is the index in memory: the records as they are in the file.
type index struct {
	recs []byte
	used int    // records whose owner is not ownerNone
	sum  uint64 // of all records
	from int    // the first and
	to   int    // behind the last byte of recs that the file does not have
	sign signature
}

func (x *index) len() int { return len(x.recs) / recordSize }

func (x *index) key(i int) key {
	b := x.recs[i*recordSize : i*recordSize+16]
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (x *index) owner(i int) uint64 {
	return binary.BigEndian.Uint64(x.recs[i*recordSize+16:])
}

// taken tells whether record i keeps its address from being given out.
func (x *index) taken(i int) bool { return x.owner(i) >= ownerUnknown }

// search is the first record whose address is not less than k, and whether it is k's.
func (x *index) search(k key) (int, bool) {
	i := sort.Search(x.len(), func(i int) bool { return !x.key(i).less(k) })
	return i, i < x.len() && x.key(i) == k
}

// set makes owner the owner of k.
func (x *index) set(k key, owner uint64) {
	i, found := x.search(k)
	at := i * recordSize
	switch {
	case found:
		x.sum -= recordSum(k, x.owner(i))
		if x.owner(i) != ownerNone {
			x.used--
		}
		x.touch(at, at+recordSize)
	case owner == ownerNone:
		return
	default:
		x.recs = append(x.recs, make([]byte, recordSize)...)
		copy(x.recs[at+recordSize:], x.recs[at:])
		x.touch(at, len(x.recs))
	}
	putRecord(x.recs[at:], k, owner)
	x.sum += recordSum(k, owner)
	if owner != ownerNone {
		x.used++
	}
}

// touch notes that the file does not have recs[from:to].
func (x *index) touch(from, to int) {
	if x.from == x.to {
		x.from, x.to = from, to
		return
	}
	x.from, x.to = min(x.from, from), max(x.to, to)
}

// owned is the addresses of the records with one of the owners.
func (x *index) owned(a, b uint64) []key {
	var keys []key
	for at := 16; at < len(x.recs); at += recordSize {
		if owner := binary.BigEndian.Uint64(x.recs[at:]); owner == a || owner == b {
			keys = append(keys, x.key(at/recordSize))
		}
	}
	return keys
}

// compact drops the records that are free, where those are most of a large index. An IPv6 pool would else grow for ever.
func (x *index) compact() bool {
	if n := x.len(); n < 1024 || x.used > n/2 {
		return false
	}
	kept := x.recs[:0]
	for i := range x.len() {
		if x.owner(i) != ownerNone {
			kept = append(kept, x.recs[i*recordSize:(i+1)*recordSize]...)
		}
	}
	x.recs = kept
	x.sum, _ = x.check()
	return true
}

// check is the sum of the records, and whether they are in order.
//
// Every call of the plugin comes through here, so it goes through the bytes in one simple loop: 60,000 records take 0.15 ms.
func (x *index) check() (sum uint64, ordered bool) {
	var before key
	ordered = true
	u64 := binary.BigEndian.Uint64
	for rest := x.recs; len(rest) >= recordSize; rest = rest[recordSize:] {
		rec := rest[:recordSize:recordSize]
		k := key{u64(rec[0:8]), u64(rec[8:16])}
		if !before.less(k) && len(rest) < len(x.recs) {
			ordered = false
		}
		before = k
		sum += recordSum(k, u64(rec[16:24]))
	}
	return sum, ordered
}

// recordSum spreads a record over 64 bits. The sum of all of them tells one set of records from another, in any order, so that
// a change of one record is a change of the sum by two terms.
func recordSum(k key, owner uint64) uint64 {
	h := k.hi*0x9e3779b97f4a7c15 ^ k.lo
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	h ^= owner
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	return h ^ h>>32
}

func putRecord(b []byte, k key, owner uint64) {
	binary.BigEndian.PutUint64(b[0:8], k.hi)
	binary.BigEndian.PutUint64(b[8:16], k.lo)
	binary.BigEndian.PutUint64(b[16:24], owner)
}
