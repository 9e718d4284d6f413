// Package store keeps the addresses of a network on disk, in the files of the reference's host-local plugin: the two can take
// turns on one folder, while pods run.
//
//	<dataDir>/<network>/                     0700 where we make it; the reference, 0755, is root as well
//	<dataDir>/<network>/<address>            0600, "<containerID>\r\n<ifname>", without a final newline
//	<dataDir>/<network>/last_reserved_ip.<n> the address that range set n gave out last
//	<dataDir>/<network>/lock                 flocked by whoever reads or changes the folder
//	<dataDir>/.cnibox/<network>/index        ours: what the address files hold, see index.go
//	<dataDir>/.cnibox/<network>/new          ours: an address file before it gets its name, see tempFiles
//
// The files are the truth and the index is a copy of it, in which an address or an owner is found without opening a file
// for each reservation. Whatever is wrong with the index, the answer is to make it anew from the files.
package store

import (
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/trace"
)

// DefaultDir is where host-local keeps its networks if the configuration names no dataDir.
const DefaultDir = "/var/lib/cni/networks"

// sideDir holds what is ours. No network has its name: those begin with a letter or a digit (CNI spec, "Network configuration").
const sideDir = ".cnibox"

// Store is the reservations of one network. Its methods lock the network's folder among all processes, and may be called by
// many goroutines. Errors carry errcode.Storage where nothing else is said.
type Store struct {
	dir  string // the network's folder
	side string // our folder beside it

	// step, in tests, is called before each change of the disk, by the change's name. An error is that step's failure.
	step func(name string) error
}

// Holder is who holds an address. Files of old versions of the reference have no IfName.
type Holder struct {
	ContainerID string
	IfName      string
}

// String is the holder as people read it, on one line whatever a foreign file holds.
func (h Holder) String() string {
	s := "container " + h.ContainerID
	if h.IfName != "" {
		s += ", interface " + h.IfName
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// Reservation is an address and who holds it.
type Reservation struct {
	Addr   netip.Addr
	Holder Holder
}

// New is the store of a network below dataDir (DefaultDir if empty). It touches nothing.
func New(dataDir, network string) (*Store, error) {
	if dataDir == "" {
		dataDir = DefaultDir
	}
	if network == "" || network[0] == '.' || strings.ContainsAny(network, "/\x00") {
		return nil, errcode.Errorf(errcode.InvalidConfig, "name: %q cannot name a network's folder", network)
	}
	return &Store{
		dir:  filepath.Join(dataDir, network),
		side: filepath.Join(dataDir, sideDir, network),
	}, nil
}

// Acquire reserves one address of each set for the holder, in the order of the sets: all of them, or none.
// The codes of its errors: AlreadyExists if the holder has an address in one of the sets, AddressTaken if another has the one
// that a set wants, PoolExhausted if a set has no free one. After each of them the folder is as it was.
func (s *Store) Acquire(h Holder, sets []Set) ([]netip.Addr, error) {
	var got []netip.Addr
	err := s.locked(true, func(t *txn) (err error) {
		got, err = t.acquire(h, sets)
		return err
	})
	return got, err
}

// Release gives back all addresses of the holder, whatever ranges they are of, and returns them. It is no error if there are
// none. After a failure it goes on with the next address.
func (s *Store) Release(h Holder) ([]netip.Addr, error) {
	var released []netip.Addr
	err := s.locked(false, func(t *txn) error {
		t.tidy()
		held, err := t.held(h)
		if err != nil {
			return err
		}
		var errs []error
		for _, r := range chosen(held) {
			if err := t.remove(r.Addr); err != nil {
				errs = append(errs, err)
				continue
			}
			released = append(released, r.Addr)
		}
		return errors.Join(errs...)
	})
	return released, err
}

// Held is all addresses of the holder.
func (s *Store) Held(h Holder) ([]netip.Addr, error) {
	var addrs []netip.Addr
	err := s.locked(false, func(t *txn) error {
		held, err := t.held(h)
		for _, r := range chosen(held) {
			addrs = append(addrs, r.Addr)
		}
		return err
	})
	return addrs, err
}

// Retain gives back what nobody in valid holds, and the empty files that a crash may leave, and returns what it gave back.
// A file with a container ID only is valid if any holder in valid has that ID. After a failure it goes on with the next address.
func (s *Store) Retain(valid []Holder) ([]Reservation, error) {
	var released []Reservation
	err := s.locked(false, func(t *txn) (err error) {
		t.tidy()
		var more []Reservation
		more, err = t.retain(valid)
		released = append(released, more...)
		return err
	})
	return released, err
}

// Usage is how many addresses of a set are reserved, of how many, and whether Acquire would find none.
type Usage struct {
	Reserved  int
	Size      uint64
	Exhausted bool
}

// Usage counts the reservations in each of the sets. It reads, and makes, no file but the index.
func (s *Store) Usage(sets []Set) ([]Usage, error) {
	usage := make([]Usage, len(sets))
	for i, set := range sets {
		usage[i] = Usage{Size: set.Size(), Exhausted: set.Size() == 0}
	}
	err := s.locked(false, func(t *txn) error {
		for i, set := range sets {
			_, free := t.index.next(set, netip.Addr{})
			usage[i].Reserved, usage[i].Exhausted = t.index.reserved(set), !free
		}
		return nil
	})
	return usage, err
}

// locked runs do with the folder locked and the index loaded, and writes the index back. Without create it does nothing where
// there is no folder. If do finds that the files are not what the index says, it runs a second time, with a new index.
func (s *Store) locked(create bool, do func(*txn) error) error {
	defer trace.Start("store", "", s.dir).End()
	t, err := s.begin(create)
	if t == nil || err != nil {
		return err
	}
	defer t.end()
	if err := t.load(); err != nil {
		return err
	}
	err = do(t)
	if errors.Is(err, errStale) {
		if err := t.rebuild(); err != nil {
			return err
		}
		if err = do(t); errors.Is(err, errStale) {
			err = errcode.Errorf(errcode.Storage, "%s: %w", s.dir, err)
		}
	}
	t.save()
	return err
}
