package store

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/plainfile"
	"github.com/cnibox/cnibox/netutil/trace"
)

// maxIndex bounds what is believed to be an index, in bytes: ten million records.
const maxIndex = headerSize + 10_000_000*recordSize

// signature tells one state of the network's folder from all others. The times are in nanoseconds.
type signature struct {
	mtime, ctime  int64
	inode, device uint64
	boot          [bootIDSize]byte
}

func (t *txn) indexPath() string { return filepath.Join(t.side, "index") }

// signed is the folder's signature as it is.
func (t *txn) signed() (signature, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(t.folder.Fd()), &st); err != nil {
		return signature{}, &os.PathError{Op: "stat", Path: t.dir, Err: err}
	}
	return signature{mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(), inode: st.Ino, device: uint64(st.Dev), boot: t.boot}, nil
}

// sign gives the folder a signature. A change of the folder sets its mtime to the present; we set it to a moment two seconds
// ago, at a nanosecond of our own. Nobody can set the ctime, so even a folder put back with its mtime has another signature,
// once the kernel's tick (at most 10 ms) has passed.
func (t *txn) sign() (signature, error) {
	now := uint64(time.Now().UnixNano())
	nano := recordSum(key{now, uint64(os.Getpid())}, t.index.sum) % uint64(time.Second)
	second := int64(time.Second)
	mtime := unix.NsecToTimespec((int64(now)/second-2)*second + int64(nano))
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, t.dir, times, 0); err != nil {
		return signature{}, &os.PathError{Op: "utimensat", Path: t.dir, Err: err}
	}
	return t.signed() // filesystems may round
}

// bootID is this boot's random name (random(4)); all zero where there is no /proc.
func bootID() (id [bootIDSize]byte) {
	f, err := os.Open("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id
	}
	_, _ = io.ReadFull(f, id[:36])
	_ = f.Close()
	return id
}

// load reads the index, and makes it anew if it does not describe the folder as it is.
func (t *txn) load() error {
	sign, err := t.signed()
	if err != nil {
		return errcode.Errorf(errcode.Storage, "cannot read the network's folder: %w", err)
	}
	f, err := os.OpenFile(t.indexPath(), os.O_RDWR|plainfile.NoLink, 0)
	if err != nil {
		return t.rebuild()
	}
	t.file = f
	t.mapped = mapIndex(f)
	if t.index = parseIndex(t.mapped); t.index == nil || t.index.sign != sign {
		return t.rebuild()
	}
	return nil
}

// mapIndex is the file in memory; nil if it cannot be an index. What is written to the memory does not reach the file.
// Mapping costs 0.05 ms for 60,000 records, and reading 0.7 ms, nearly all for fresh memory. Where the filesystem cannot map,
// the index is made anew each time.
func mapIndex(f *os.File) []byte {
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() < headerSize || st.Size() > maxIndex {
		return nil
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	return data
}

// parseIndex is nil if data is no sound index. It keeps data. Bytes behind the records are room to grow.
func parseIndex(data []byte) (x *index) {
	defer func(before bool) {
		debug.SetPanicOnFault(before)
		if recover() != nil {
			x = nil
		}
	}(debug.SetPanicOnFault(true)) // a mapped file that is truncated, or whose disk fails, faults when it is read
	if len(data) < headerSize {
		return nil
	}
	head, recs := data[:headerSize], data[headerSize:]
	u64 := binary.BigEndian.Uint64
	n := u64(head[16:])
	sound := string(head[:8]) == indexMagic &&
		binary.BigEndian.Uint32(head[8:]) == indexVersion &&
		binary.BigEndian.Uint32(head[12:]) == recordSize &&
		n <= uint64(len(recs)/recordSize) &&
		u64(head[24:]) <= n &&
		u64(head[112:]) == headerSum(head)
	if !sound {
		return nil
	}
	x = &index{recs: recs[:n*recordSize], used: int(u64(head[24:])), sum: u64(head[32:])}
	x.sign = signature{mtime: int64(u64(head[40:])), ctime: int64(u64(head[48:])), inode: u64(head[56:]), device: u64(head[64:])}
	copy(x.sign.boot[:], head[72:])
	if sum, ordered := x.check(); sum != x.sum || !ordered {
		return nil
	}
	return x
}

// header is what parseIndex reads.
func (x *index) header() []byte {
	b := make([]byte, headerSize)
	copy(b, indexMagic)
	binary.BigEndian.PutUint32(b[8:], indexVersion)
	binary.BigEndian.PutUint32(b[12:], recordSize)
	for i, v := range []uint64{
		uint64(x.len()), uint64(x.used), x.sum, uint64(x.sign.mtime), uint64(x.sign.ctime), x.sign.inode, x.sign.device,
	} {
		binary.BigEndian.PutUint64(b[16+8*i:], v)
	}
	copy(b[72:], x.sign.boot[:])
	binary.BigEndian.PutUint64(b[112:], headerSum(b))
	return b
}

func headerSum(head []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(head[:112])
	return h.Sum64()
}

// save writes to the index what changed since load: first the records, then the folder's new signature, then the header. A
// process that dies on the way leaves a folder whose signature is not the header's. So does a failure, which is therefore not
// the caller's: the next one makes the index anew.
func (t *txn) save() {
	if t.index == nil || t.index.from == t.index.to && !t.remade {
		return
	}
	defer trace.Start("write", "", "index").End()
	if t.index.compact() || t.remade || t.file == nil {
		_ = t.saveWhole()
		return
	}
	x := t.index
	if t.at("records") != nil {
		return
	}
	if _, err := t.file.WriteAt(x.recs[x.from:x.to], int64(headerSize+x.from)); err != nil {
		return
	}
	if headerSize+len(x.recs) > len(t.mapped) && t.file.Truncate(roomFor(len(x.recs))) != nil {
		return
	}
	if t.at("signature") != nil {
		return
	}
	var err error
	if x.sign, err = t.sign(); err != nil || t.at("header") != nil {
		return
	}
	_, _ = t.file.WriteAt(x.header(), 0)
}

// roomFor is the size of a file for that many bytes of records: there is always room for more, as a record that goes beyond
// what is mapped costs a copy of all of them.
func roomFor(recs int) int64 {
	const step = 1 << 16
	return int64((headerSize+recs)/step+1) * step
}

// saveWhole replaces the index's file.
func (t *txn) saveWhole() error {
	if err := t.at("index"); err != nil {
		return err
	}
	if err := os.MkdirAll(t.side, 0o700); err != nil {
		return err
	}
	if t.index.from != t.index.to { // the folder has changed since it was signed
		sign, err := t.sign()
		if err != nil {
			return err
		}
		t.index.sign = sign
	}
	temp := t.indexPath() + ".new"
	_ = os.Remove(temp)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = f.Write(append(t.index.header(), t.index.recs...))
		err = errors.Join(err, f.Truncate(roomFor(len(t.index.recs))), f.Close())
	}
	if err == nil {
		err = t.at("replace")
	}
	if err == nil {
		err = os.Rename(temp, t.indexPath())
	}
	if err != nil {
		_ = os.Remove(temp)
	}
	return err
}

// rebuild makes the index from the files. The folder is signed first, so that a change while its files are read, by somebody
// who does not lock, shows the next time.
func (t *txn) rebuild() error {
	t.index, t.remade = &index{}, true
	sign, err := t.sign()
	if err == nil {
		t.index.sign = sign
	} // else it will be made anew each time: slow, but right
	names, err := t.names()
	if err != nil {
		return errcode.Errorf(errcode.Storage, "cannot read the network's folder: %w", err)
	}
	type record struct {
		key   key
		owner uint64
	}
	records := make([]record, 0, len(names))
	for _, name := range names {
		addr, ok := parseName(name)
		if !ok {
			continue
		}
		owner := ownerUnknown
		text, err := t.read(addr)
		switch {
		case err == nil:
			owner = ownerOf(text)
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
			// It could be read at another time. Taken for somebody's, it would stay reserved after the DEL of whose it is.
			return errcode.Errorf(errcode.Storage, "cannot tell who holds %s: %w", addr, err)
		}
		records = append(records, record{keyOf(addr), owner})
	}
	slices.SortFunc(records, func(a, b record) int {
		if a.key.less(b.key) {
			return -1
		}
		return 1 // names are unique
	})
	t.index.recs = make([]byte, len(records)*recordSize, (len(records)+4)*recordSize)
	for i, r := range records {
		putRecord(t.index.recs[i*recordSize:], r.key, r.owner)
		t.index.sum += recordSum(r.key, r.owner)
	}
	t.index.used = len(records)
	return nil
}

// names is all names in the network's folder, in no order.
func (t *txn) names() ([]string, error) {
	if _, err := t.folder.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return t.folder.Readdirnames(-1)
}
