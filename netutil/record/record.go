// Package record keeps a file for an attachment: what DEL must know and cannot find in the kernel.
package record

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/plainfile"
	"github.com/cnibox/cnibox/netutil/trace"
)

// maxSize bounds what is read of a record, in bytes: an overlay's peers take most.
const maxSize = 16 << 20

// Folder holds records, one file each.
type Folder string

// longestName is the most that file systems take of a file's name, in bytes, less what stands in front of one that is not finished.
const longestName = 255 - len(unfinishedPrefix)

// unfinishedPrefix is that of the name of a file that is being made.
const unfinishedPrefix = ".new-"

// Name is the name of a file of which the attachment has one of its own. Where the container ID is too long for a file system, a hash
// takes the place of both.
func Name(o owner.Owner, separator, end string) string {
	if name := o.ContainerID + separator + o.IfName + end; len(name) <= longestName {
		return name
	}
	return o.LinkName() + end
}

// Write makes the file, or replaces it. The name appears with all of the text in it, on the disk too. The folder is made if it is missing.
func (d Folder) Write(name string, text []byte) error {
	path := filepath.Join(string(d), name)
	defer trace.Start("write", "", path).End()
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return failed(err)
	}
	// One who was killed here may have left it. A link that somebody put there is not followed.
	if err := d.Tidy(name); err != nil {
		return err
	}
	unfinished := d.unfinished(name)
	temp, err := os.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return failed(err)
	}
	_, err = temp.Write(text)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(unfinished, path)
	}
	if err != nil {
		_ = os.Remove(unfinished)
	}
	return failed(err)
}

// unfinished is where a file is made before it gets its name. Of one attachment there is one call at a time (CNI spec, section 4).
func (d Folder) unfinished(name string) string {
	return filepath.Join(string(d), unfinishedPrefix+name)
}

// Read is the file's text; nil if there is none. What is no regular file is an error.
func (d Folder) Read(name string) ([]byte, error) {
	path := filepath.Join(string(d), name)
	file, err := plainfile.OpenNoLink(path, maxSize)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, failed(err)
	}
	text, err := plainfile.Text(file, maxSize)
	return text, failed(err)
}

// Remove removes the file, and one that was not finished. It succeeds if there is none.
func (d Folder) Remove(name string) error {
	return errors.Join(d.Tidy(name), remove(filepath.Join(string(d), name)))
}

// Tidy removes a file that was not finished, of an attachment that has no other.
func (d Folder) Tidy(name string) error { return remove(d.unfinished(name)) }

// abandoned is how long ago nobody can have begun to make a file that is not finished.
const abandoned = 10 * time.Minute

// TidyAll removes the files that nobody is going to finish, whoever's they were.
func (d Folder) TidyAll() error {
	entries, err := os.ReadDir(string(d))
	if missing(err) {
		return nil
	}
	errs := []error{failed(err)}
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), unfinishedPrefix); ok {
			if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > abandoned {
				errs = append(errs, d.Tidy(name))
			}
		}
	}
	return errors.Join(errs...)
}

func remove(path string) error {
	if err := os.Remove(path); !missing(err) {
		return failed(err)
	}
	return nil
}

// Names are the files whose names end so.
func (d Folder) Names(end string) ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if missing(err) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), end) && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, failed(err)
}

func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENAMETOOLONG)
}

func failed(err error) error {
	if err == nil {
		return nil
	}
	return errcode.Errorf(errcode.Storage, "%w", err)
}
