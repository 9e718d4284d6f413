// Package plainfile opens files in whose place somebody else may have put something: those that a configuration names, and those that plugins keep.
package plainfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// NoLink is flags for open(2) that have a file be opened as what it is: a link that somebody has put there is an error, and a pipe holds nobody up.
const NoLink = unix.O_NOFOLLOW | unix.O_NONBLOCK

// Open opens a regular file of at most so many bytes for reading. It waits for nobody: a pipe, a device or a folder is an error. Links are
// followed, as Kubernetes mounts files so. The error names the path, and wraps fs.ErrNotExist where there is none.
func Open(path string, most int64) (*os.File, error) {
	return open(path, unix.O_NONBLOCK, most)
}

// OpenNoLink is Open for a file that plugins keep, which is never a link.
func OpenNoLink(path string, most int64) (*os.File, error) {
	return open(path, NoLink, most)
}

func open(path string, flags int, most int64) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|flags, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("it is no regular file")}
	case info.Size() > most:
		err = &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("its %d bytes are more than %d", info.Size(), most)}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// OpenTrusted is Open for what has a say in how the host is set up: a file of another user than root and the plugin's own, or one that others may
// write to, is an error.
func OpenTrusted(path string, most int64) (*os.File, error) {
	file, err := Open(path, most)
	if err != nil {
		return nil, err
	}
	var s unix.Stat_t
	err = unix.Fstat(int(file.Fd()), &s)
	switch {
	case err != nil:
		err = &fs.PathError{Op: "stat", Path: path, Err: err}
	case s.Uid != 0 && s.Uid != uint32(os.Geteuid()):
		err = &fs.PathError{Op: "trust", Path: path, Err: fmt.Errorf("it belongs to the user %d, not to root", s.Uid)}
	case s.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0:
		err = &fs.PathError{Op: "trust", Path: path, Err: fmt.Errorf("others than its owner may write to it (mode %04o)", s.Mode&0o7777)}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// ReadTrusted is the text of a file that OpenTrusted opens.
func ReadTrusted(path string, most int64) ([]byte, error) {
	file, err := OpenTrusted(path, most)
	if err != nil {
		return nil, err
	}
	return Text(file, most)
}

// Text is all that is in a file, of which no more than so many bytes are read, and closes it.
func Text(file *os.File, most int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(file, most))
	return text, errors.Join(err, file.Close())
}
