package machine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Archive writes an initramfs: a cpio archive of the form "newc" (linux/Documentation/driver-api/early-userspace/buffer-format.rst).
type Archive struct {
	w    *bufio.Writer
	seen map[string]bool
	err  error
}

// NewArchive begins an archive. An error of what is added shows at its end, by Close.
func NewArchive(w io.Writer) *Archive {
	return &Archive{w: bufio.NewWriterSize(w, 1<<20), seen: map[string]bool{}}
}

// Close ends the archive.
func (a *Archive) Close() error {
	a.write("TRAILER!!!", 0, nil)
	return errors.Join(a.err, a.w.Flush())
}

// Entry adds a file with all folders above it.
func (a *Archive) Entry(path string, mode uint32, content []byte) {
	path = merged(strings.Trim(path, "/"))
	if a.seen[path] || path == "" || path == "." {
		return
	}
	if dir := filepath.Dir(path); dir != "." {
		a.Entry(dir, 0o40755, nil)
	}
	a.seen[path] = true
	a.write(path, mode, content)
}

// MergedFolders are links to those of their names in /usr, as in Debian 12.
func MergedFolders() []string { return []string{"bin", "sbin", "lib", "lib64"} }

// merged is the path without such a link.
func merged(path string) string {
	for _, dir := range MergedFolders() {
		if strings.HasPrefix(path, dir+"/") {
			return "usr/" + path
		}
	}
	return path
}

func (a *Archive) write(path string, mode uint32, content []byte) {
	numbers := []int{len(a.seen), int(mode), 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path) + 1, 0}
	header := "070701"
	for _, n := range numbers {
		header += fmt.Sprintf("%08X", n)
	}
	for _, part := range []string{header + path + "\x00", string(content)} {
		_, err := io.WriteString(a.w, part+strings.Repeat("\x00", -len(part)&3))
		a.err = errors.Join(a.err, err)
	}
}

// File adds a file or folder of the host under the same path, and what it links to.
func (a *Archive) File(path string) {
	a.FileAs(path, path)
}

// FileAs is File under another path.
func (a *Archive) FileAs(name, path string) {
	info, err := os.Lstat(path)
	if err != nil {
		return // this host does without
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		a.err = errors.Join(a.err, err)
		a.Entry(name, 0o120777, []byte(target))
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		if !a.seen[strings.Trim(target, "/")] {
			a.File(target)
		}
	case info.IsDir():
		a.Entry(name, 0o40755, nil)
		entries, err := os.ReadDir(path)
		a.err = errors.Join(a.err, err)
		for _, e := range entries {
			a.FileAs(filepath.Join(name, e.Name()), filepath.Join(path, e.Name()))
		}
	case info.Mode().IsRegular():
		content, err := os.ReadFile(path)
		a.err = errors.Join(a.err, err)
		a.Entry(name, 0o100000|uint32(info.Mode().Perm()), content)
	}
}
