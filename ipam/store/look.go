package store

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// File is an address file as Files finds it.
type File struct {
	Reservation
	Since time.Time // when it was written
	// Wrong is why the file is nobody's reservation although its name is an address: empty, no regular file, unreadable.
	Wrong string
}

// Empty is what is wrong with a file without a text.
const Empty = "it is empty"

// Networks are the networks that have a folder below dataDir (DefaultDir if empty), sorted. It is no error if there is none.
func Networks(dataDir string) ([]string, error) {
	if dataDir == "" {
		dataDir = DefaultDir
	}
	entries, err := os.ReadDir(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errcode.Errorf(errcode.Storage, "list the networks with addresses: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Files is all address files of the network, in the order of the addresses. It neither locks nor writes anything: what comes and goes meanwhile
// may be in it or not.
func (s *Store) Files() ([]File, error) {
	folder, err := os.Open(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errcode.Errorf(errcode.Storage, "list the addresses: %w", err)
	}
	defer func() { _ = folder.Close() }()
	t := &txn{Store: s, folder: folder}
	names, err := t.names()
	if err != nil {
		return nil, errcode.Errorf(errcode.Storage, "list the addresses: %w", err)
	}
	var files []File
	for _, name := range names {
		addr, ok := parseName(name)
		if !ok {
			continue
		}
		if f, there := t.look(addr); there {
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b File) int { return a.Addr.Compare(b.Addr) })
	return files, nil
}

// look reads one address file, and tells whether it is still there.
func (t *txn) look(addr netip.Addr) (f File, there bool) {
	f.Addr = addr
	if info, err := os.Lstat(filepath.Join(t.dir, addr.String())); err == nil {
		f.Since = info.ModTime()
	}
	text, err := t.read(addr)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, false
	case errors.Is(err, unix.ELOOP):
		f.Wrong = "it is a link"
	case err != nil:
		f.Wrong = "it cannot be read: " + innermost(err).Error()
	case text == "":
		f.Wrong = Empty
	default:
		f.Holder = holderOf(text)
	}
	return f, true
}

// innermost is the error without the path, which the caller tells.
func innermost(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// Drop gives back just these addresses, each unless somebody else than the holder named has it by now, and returns those that it gave back. An
// empty holder stands for an empty file. After a failure it goes on with the next address.
func (s *Store) Drop(reservations ...Reservation) (dropped []Reservation, err error) {
	err = s.locked(false, func(t *txn) error {
		var errs []error
		for _, r := range reservations {
			text, err := t.read(r.Addr)
			if errors.Is(err, fs.ErrNotExist) || err == nil && text != r.Holder.text() {
				continue
			}
			if err == nil {
				err = t.remove(r.Addr)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			dropped = append(dropped, r)
		}
		return errors.Join(errs...)
	})
	return dropped, err
}
