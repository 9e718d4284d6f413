package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// uninstall removes the symlinks and the executable, and puts backups in their place. It goes on after a failure. Of other
// programs it touches nothing.
func (f *farm) uninstall() (removed, restored []string, err error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	var names []string
	for _, e := range entries {
		name, isBackup := strings.CutSuffix(e.Name(), backupSuffix)
		if own, err := f.installed(name); err != nil {
			errs = append(errs, err)
		} else if own || isBackup {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	// The executable goes last: until then every symlink leads somewhere.
	slices.SortStableFunc(names, func(a, b string) int { return boolInt(a == executableName) - boolInt(b == executableName) })
	for _, name := range names {
		wasOwn, wasBackup, err := f.uninstallOne(name)
		if err != nil {
			errs = append(errs, err)
		}
		if wasOwn {
			removed = append(removed, name)
		}
		if wasBackup {
			restored = append(restored, name)
		}
	}
	return removed, restored, errors.Join(errs...)
}

func (f *farm) uninstallOne(name string) (removed, restored bool, err error) {
	path, backup := f.path(name), f.path(name+backupSuffix)
	own, err := f.installed(name)
	if err != nil {
		return false, false, err
	}
	if _, err := os.Lstat(path); !own && err == nil {
		return false, false, fmt.Errorf("%s is not cnibox's; its backup stays as %s", path, backup)
	}
	err = os.Rename(backup, path)
	if err == nil {
		return own, true, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Remove(path)
	}
	return own && err == nil, false, err
}

// installed tells whether a name of the folder is one that install made: the executable, or another name of it.
func (f *farm) installed(name string) (bool, error) {
	info, err := os.Lstat(f.path(name))
	if err != nil || info.IsDir() {
		return false, ignoreNotExist(err)
	}
	if name == executableName {
		return f.owns(name, info)
	}
	if target, err := os.Readlink(f.path(name)); err == nil && target == executableName {
		return true, nil
	}
	executable, err := os.Stat(f.path(executableName))
	if err != nil {
		return false, ignoreNotExist(err)
	}
	if info, err = os.Stat(f.path(name)); err != nil {
		return false, ignoreNotExist(err)
	}
	return os.SameFile(info, executable), nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
