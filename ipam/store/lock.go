package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/eintr"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/plainfile"
	"github.com/cnibox/cnibox/netutil/trace"
)

// errStale tells that a file is not what the index says.
var errStale = errors.New("the address files are being changed by a program that does not lock them")

// lockTries bounds how often a folder may be replaced while its lock is waited for.
const lockTries = 10

// txn is the store while its lock is held.
type txn struct {
	*Store
	lock   *os.File // flocked
	folder *os.File // the network's folder
	index  *index
	file   *os.File // the index's file, nil if there is none
	mapped []byte   // that file in memory, nil if it is no index
	remade bool     // the index was made anew and must be written as a whole
	boot   [bootIDSize]byte
}

// begin locks the network's folder. Without create it returns nil if there is none.
func (s *Store) begin(create bool) (*txn, error) {
	for range lockTries {
		if create {
			if err := os.MkdirAll(s.dir, 0o700); err != nil {
				return nil, errcode.Errorf(errcode.Storage, "cannot make the network's folder: %w", err)
			}
		}
		t, err := s.tryBegin()
		if err == nil && t != nil {
			return t, nil
		}
		if !create && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENAMETOOLONG)) {
			return nil, nil // where there can be no folder, there is none
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was made
		}
		if err != nil {
			return nil, errcode.Errorf(errcode.Storage, "cannot lock the network's folder: %w", err)
		}
	}
	return nil, errcode.Errorf(errcode.Storage, "cannot lock the network's folder: %s is being replaced again and again", s.dir)
}

// tryBegin waits for the lock. It returns nil if what it then holds is no longer the lock of that folder.
func (s *Store) tryBegin() (t *txn, err error) {
	folder, err := os.OpenFile(s.dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.dir, "lock")
	lock, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|plainfile.NoLink, 0o600)
	if err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	t = &txn{Store: s, lock: lock, folder: folder, boot: bootID()}
	span := trace.Start("lock", "", path)
	err = eintr.Retry(func() error { return unix.Flock(int(lock.Fd()), unix.LOCK_EX) })
	span.End()
	if err != nil {
		t.end()
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
	var held, now, opened, current unix.Stat_t
	same := unix.Fstat(int(lock.Fd()), &held) == nil && unix.Lstat(path, &now) == nil &&
		unix.Fstat(int(folder.Fd()), &opened) == nil && unix.Stat(s.dir, &current) == nil &&
		held.Ino == now.Ino && held.Dev == now.Dev && opened.Ino == current.Ino && opened.Dev == current.Dev
	if !same {
		t.end()
		return nil, nil
	}
	return t, nil
}

// end unlocks.
func (t *txn) end() {
	if t.mapped != nil {
		t.index = nil // which may lie there
		_ = unix.Munmap(t.mapped)
	}
	if t.file != nil {
		_ = t.file.Close()
	}
	_ = t.folder.Close()
	_ = t.lock.Close() // and with it the lock
}

// at marks a step that changes the disk, for tests.
func (s *Store) at(name string) error {
	if s.step == nil {
		return nil
	}
	return s.step(name)
}
