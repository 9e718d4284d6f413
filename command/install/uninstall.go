package install

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
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
	slices.SortStableFunc(names, func(a, b string) int { return boolInt(a == ui.Program) - boolInt(b == ui.Program) })
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
	if name == ui.Program {
		return f.owns(name, info)
	}
	if target, err := os.Readlink(f.path(name)); err == nil && target == ui.Program {
		return true, nil
	}
	executable, err := os.Stat(f.path(ui.Program))
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

// UninstallCommand is `cnibox uninstall`.
func UninstallCommand() *cli.Command {
	return &cli.Command{
		Name:        "uninstall",
		Usage:       "remove what install made",
		Description: ui.Describe("Removes the symlinks and the program, and puts kept programs back. Nothing else is touched.", "cnibox uninstall"),
		Flags:       []cli.Flag{dirFlag()},
		Action:      func(c *cli.Context) error { return uninstall(c.App.Writer, c.String("dir")) },
	}
}

// uninstall takes the farm away and says what it did.
func uninstall(out io.Writer, dir string) (err error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		_, _ = fmt.Fprintf(out, "nothing of cnibox in %s\n", dir)
		return nil
	}
	f, err := openFarm(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	removed, restored, err := f.uninstall()
	if len(removed)+len(restored) == 0 && err == nil {
		_, _ = fmt.Fprintf(out, "nothing of cnibox in %s\n", dir)
	}
	if len(removed) > 0 {
		_, _ = fmt.Fprintf(out, "removed from %s: %s\n", dir, strings.Join(removed, ", "))
	}
	if len(restored) > 0 {
		_, _ = fmt.Fprintf(out, "put back: %s\n", strings.Join(restored, ", "))
	}
	return err
}
