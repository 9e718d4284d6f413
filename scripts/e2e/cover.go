package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// covered are the folders that a package manager writes to. What is written goes to others, which end with the program.
func covered() []string { return []string{"/usr", "/etc", "/opt"} }

const covers = home + "/covers"

// rpmFolders are folders that every distribution of RPM's has, and Debian not.
func rpmFolders() []string { return []string{"/usr/share/licenses", "/usr/share/zsh/site-functions"} }

// coverFolders lays an empty folder over each folder that packages have files in, and over dpkg's data base.
func coverFolders() (string, error) {
	for _, dir := range covered() {
		if err := cover(dir, dir); err != nil {
			return "", err
		}
	}
	for _, dir := range rpmFolders() {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	for _, dir := range []string{"/var/log", "/var/cache"} {
		if err := unix.Mount("private", dir, "tmpfs", 0, "mode=755"); err != nil {
			return "", fmt.Errorf("mount on %s: %w", dir, err)
		}
	}
	// The machine's /var/lib is hidden; it is seen once more where its root is.
	machine := home + "/machine"
	if err := errors.Join(os.Mkdir(machine, 0o755), unix.Mount("/", machine, "", unix.MS_BIND, "")); err != nil {
		return "", err
	}
	if err := errors.Join(cover(machine+"/var/lib/dpkg", "/var/lib/dpkg"), unix.Unmount(machine, unix.MNT_DETACH)); err != nil {
		return "", err
	}
	packages, err := run("dpkg-query", "--show")
	return fmt.Sprintf("%d packages of Debian's are installed", strings.Count(packages, "\n")), errors.Join(err, os.MkdirAll("/var/lib/rpm", 0o755))
}

// cover has a folder seen at a path. What is written there goes to another.
func cover(dir, at string) error {
	upper, work := filepath.Join(covers, at, "upper"), filepath.Join(covers, at, "work")
	if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755), os.MkdirAll(at, 0o755)); err != nil {
		return err
	}
	if err := unix.Mount("overlay", at, "overlay", 0, "lowerdir="+dir+",upperdir="+upper+",workdir="+work); err != nil {
		return fmt.Errorf("mount over %s: %w", at, err)
	}
	return nil
}

// coveredChanges is what was added or removed in the covered folders.
func coveredChanges() (changes []string, err error) {
	for _, dir := range covered() {
		upper := filepath.Join(covers, dir, "upper")
		err := filepath.WalkDir(upper, func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == upper {
				return err
			}
			if !d.IsDir() || !wasThere(path, upper) {
				changes = append(changes, dir+strings.TrimPrefix(path, upper))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	changes = slices.DeleteFunc(changes, func(path string) bool {
		return slices.ContainsFunc(rpmFolders(), func(dir string) bool { return strings.HasPrefix(dir+"/", path+"/") })
	})
	return changes, nil
}

// wasThere tells whether a folder of a cover is a copy of one below, which the overlay says of it.
func wasThere(path, upper string) bool {
	_, err := unix.Lgetxattr(path, "trusted.overlay.origin", nil)
	return err == nil || path == upper
}
