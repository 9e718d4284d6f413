package install

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cnibox/cnibox/command/ui"

	"github.com/cnibox/cnibox/netutil"
)

const (
	backupSuffix = ".cnibox-backup"
	tempPrefix   = ".cnibox-" // of names that exist only while the folder is locked
	defaultFarm  = "/opt/cni/bin"
)

// buildPath stands in the build information of every build of this program, whatever its version, and in no other program's.
const buildPath = "path\tgithub.com/cnibox/cnibox\n"

// maxProgram bounds what is read to tell an older cnibox from a foreign program.
const maxProgram = 64 << 20

// farm is a folder that holds the executable and, for each role, a relative symlink to it. Its methods need it locked.
type farm struct {
	dir  string
	lock *os.File
}

// openFarm locks the folder against other installs, and clears what an interrupted one left.
func openFarm(dir string) (*farm, error) {
	lock, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	f := &farm{dir: dir, lock: lock}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), lock.Close())
	}
	if err := f.sweep(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return f, nil
}

// close gives the lock back, with all changes on disk.
func (f *farm) close() error {
	return errors.Join(f.sweep(), f.lock.Sync(), f.lock.Close())
}

func (f *farm) sweep() error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			errs = append(errs, os.Remove(f.path(e.Name())))
		}
	}
	return errors.Join(errs...)
}

func (f *farm) path(name string) string { return filepath.Join(f.dir, name) }

// install puts the executable and a symlink for each name into the folder: all of them or, after a failure, none. Without
// force, a foreign program under one of the names is an error before anything is touched; with it, the program is kept as a
// backup. It returns the names that were backed up.
func (f *farm) install(self *os.File, names []string, force bool) (backups []string, err error) {
	all := []string{ui.Program}
	for _, name := range names {
		if name != ui.Program { // a role's name too
			all = append(all, name)
		}
	}
	foreign, err := f.foreign(all)
	if err != nil {
		return nil, err
	}
	if len(foreign) > 0 && !force {
		return nil, fmt.Errorf("%s: not cnibox's, so left alone: %s (--force replaces them and keeps backups, --skip-foreign leaves them out)",
			f.dir, strings.Join(foreign, ", "))
	}
	if err := f.backupsFree(foreign); err != nil {
		return nil, err
	}
	var undo netutil.Undo
	for _, name := range all {
		if err := f.installOne(self, name, slices.Contains(foreign, name), &undo); err != nil {
			return nil, errors.Join(err, undo.Run())
		}
	}
	return foreign, nil
}

// without is the names in whose place no foreign program stands, and the others.
func (f *farm) without(names []string) (free, foreign []string, err error) {
	if foreign, err = f.foreign(names); err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		// A foreign program of the executable's own name stops install: without that there is nothing.
		if name == ui.Program || !slices.Contains(foreign, name) {
			free = append(free, name)
		}
	}
	return free, slices.DeleteFunc(foreign, func(name string) bool { return name == ui.Program }), nil
}

// installOne makes one name of the farm, under a temporary name first, and puts it in place.
func (f *farm) installOne(self *os.File, name string, foreign bool, undo *netutil.Undo) error {
	temp := f.path(tempPrefix + "new-" + name)
	if name == ui.Program {
		if same, err := sameFile(self, f.path(name)); err != nil || same {
			return err
		}
		if err := copyProgram(self, temp); err != nil {
			return err
		}
	} else {
		if target, err := os.Readlink(f.path(name)); err == nil && target == ui.Program {
			return nil
		}
		if err := os.Symlink(ui.Program, temp); err != nil {
			return err
		}
	}
	kept := f.path(tempPrefix + "old-" + name)
	if foreign {
		kept = f.path(name + backupSuffix)
	}
	return place(temp, f.path(name), kept, undo)
}

// place gives the file temp its lasting name in one step, so that a runtime finds either the old file or the new one, and
// keeps an old one as kept. A running program is never written to: its file lives on until it ends.
func place(temp, path, kept string, undo *netutil.Undo) error {
	err := os.Link(path, kept)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Unlike a rename, a link never replaces what someone else put there meanwhile.
		if err := os.Link(temp, path); err != nil {
			return err
		}
		undo.Push("install "+path, func() error { return os.Remove(path) })
		return os.Remove(temp)
	case err != nil && !errors.Is(err, fs.ErrExist): // it exists after an install that was killed at this point
		return err
	}
	undo.Push("keep "+kept, func() error { return removeIfExists(kept) })
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	undo.Push("replace "+path, func() error { return os.Rename(kept, path) })
	return nil
}

// foreign is those of the names that stand in the folder and are not cnibox's.
func (f *farm) foreign(names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		info, err := os.Lstat(f.path(name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, err
		case info.IsDir():
			return nil, fmt.Errorf("%s is a folder", f.path(name))
		}
		if own, err := f.owns(name, info); err != nil {
			return nil, err
		} else if !own {
			out = append(out, name)
		}
	}
	return out, nil
}

// owns tells whether a file of the folder is a build of this program, or a symlink to one.
func (f *farm) owns(name string, info fs.FileInfo) (bool, error) {
	path := f.path(name)
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(path)
		if err != nil {
			return false, err
		}
		if target == ui.Program && name != ui.Program {
			return true, nil
		}
		if info, err = os.Stat(path); err != nil { // it leads nowhere, which is not our way
			return false, nil //nolint:nilerr // a broken symlink is an answer, not a failure
		}
	}
	if !info.Mode().IsRegular() || info.Size() > maxProgram {
		return false, nil
	}
	program, err := os.ReadFile(path)
	return bytes.Contains(program, []byte(buildPath)), err
}

// backupsFree fails if a backup of an earlier install would be lost.
func (f *farm) backupsFree(names []string) error {
	for _, name := range names {
		backup, err := os.Lstat(f.path(name + backupSuffix))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		now, err := os.Lstat(f.path(name))
		if err != nil {
			return err
		}
		if !os.SameFile(backup, now) {
			return fmt.Errorf("%s: a backup of another %s stands there already", f.path(name+backupSuffix), name)
		}
	}
	return nil
}

// openSelf opens the running program: by the kernel's own link to it or, where no /proc is mounted, by the path it was called by.
func openSelf(argv0 string) (*os.File, error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil && strings.Contains(argv0, "/") {
		self, err = os.Open(argv0)
	}
	if err != nil {
		return nil, fmt.Errorf("find this program: %w (without /proc, call it by its path)", err)
	}
	return self, nil
}

func copyProgram(from *os.File, path string) (err error) {
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	if err := to.Chmod(0o755); err != nil { // whatever the umask
		return err
	}
	return to.Sync()
}

func sameFile(file *os.File, path string) (bool, error) {
	a, err := file.Stat()
	if err != nil {
		return false, err
	}
	b, err := os.Stat(path)
	if err != nil {
		return false, ignoreNotExist(err)
	}
	return os.SameFile(a, b), nil
}

func removeIfExists(path string) error { return ignoreNotExist(os.Remove(path)) }

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
