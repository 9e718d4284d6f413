package plainfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/plainfile"
)

const most = 100

// put makes what a path can lead to.
func put(t *testing.T, dir, what string) string {
	t.Helper()
	path := filepath.Join(dir, strings.ReplaceAll(what, " ", "-"))
	file := func(size int, mode fs.FileMode, uid int) {
		t.Helper()
		err := os.WriteFile(path, make([]byte, size), 0o600)
		if uid >= 0 {
			err = errors.Join(err, os.Chown(path, uid, uid))
		}
		if err := errors.Join(err, os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	switch what {
	case "plain", "full":
		file(most, 0o644, -1)
	case "too long":
		file(most+1, 0o644, -1)
	case "group's":
		file(1, 0o664, -1)
	case "everybody's":
		file(1, 0o646, -1)
	case "user's":
		if os.Geteuid() != 0 {
			t.Skip("to give files away needs root")
		}
		file(1, 0o600, 1000)
	case "link":
		err = os.Symlink(put(t, dir, "plain"), path)
	case "pipe":
		err = unix.Mkfifo(path, 0o600)
	case "folder":
		err = os.Mkdir(path, 0o700)
	case "device":
		return "/dev/zero"
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for what, want := range map[string]string{
		"plain": "", "full": "", "link": "", "group's": "", "everybody's": "", "user's": "",
		"too long": "its 101 bytes are more than 100", "pipe": "no regular file", "folder": "no regular file", "device": "no regular file",
		"none": "no such file",
	} {
		t.Run(what, func(t *testing.T) {
			path := put(t, dir, what)
			file, err := plainfile.Open(path, most)
			wantError(t, err, path, want)
			if err == nil {
				if _, err := plainfile.Text(file, most); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestReadTrusted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for what, want := range map[string]string{
		"plain": "", "link": "", "pipe": "no regular file", "none": "no such file",
		"group's": "others than its owner may write to it (mode 0664)", "everybody's": "(mode 0646)", "user's": "belongs to the user 1000",
	} {
		t.Run(what, func(t *testing.T) {
			path := put(t, dir, what)
			text, err := plainfile.ReadTrusted(path, most)
			wantError(t, err, path, want)
			if err == nil && len(text) != most {
				t.Errorf("%d bytes", len(text))
			}
			if want == "no such file" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v is not fs.ErrNotExist", err)
			}
		})
	}
}

func wantError(t *testing.T, err error, path, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Error(err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path)):
		t.Errorf("got %v, want %s: %s", err, path, want)
	}
}
