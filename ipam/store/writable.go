package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/eintr"
	"github.com/cnibox/cnibox/netutil/errcode"
)

// Writable tells whether Acquire could write: nil, or why not. It looks at the network's folder, or at the folder in which that
// would be made, and makes nothing.
func (s *Store) Writable() error {
	for path := s.dir; ; path = filepath.Dir(path) {
		st, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) && path != filepath.Dir(path) {
			continue
		}
		if err == nil && !st.IsDir() {
			err = &os.PathError{Op: "stat", Path: path, Err: unix.ENOTDIR}
		}
		if err == nil {
			err = writable(path)
		}
		if err != nil {
			return errcode.Errorf(errcode.Storage, "%w", err)
		}
		return nil
	}
}

func writable(dir string) error {
	err := eintr.Retry(func() error { return unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS) })
	if err != nil {
		return &os.PathError{Op: "access", Path: dir, Err: err}
	}
	var st unix.Statfs_t
	err = eintr.Retry(func() error { return unix.Statfs(dir, &st) })
	if err == nil && (st.Blocks > 0 && st.Bfree == 0 || st.Files > 0 && st.Ffree == 0) {
		err = unix.ENOSPC
	}
	if err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return nil
}
