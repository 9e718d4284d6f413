package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// tree is files by their path.
type tree map[string]file

// file is a file's content, or where a symlink leads.
type file struct {
	data   []byte
	mode   fs.FileMode
	target string
}

func text(s string) file { return file{data: []byte(s), mode: 0o644} }

// addFolder adds the files below a folder of the disk that a filter wants.
func (t tree) addFolder(prefix, dir string, wanted func(rel string) bool) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil || !wanted(rel) {
			return err
		}
		data, err := os.ReadFile(name)
		t[path.Join(prefix, rel)] = file{data: data, mode: 0o644}
		return err
	})
}

// add adds another tree below a folder.
func (t tree) add(prefix string, other tree) {
	for name, f := range other {
		t[path.Join(prefix, name)] = f
	}
}

// writeTo writes the tree below a folder of the disk, all of one time.
func (t tree) writeTo(dir string, at time.Time) error {
	for name, f := range t {
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if f.target != "" {
			if err := os.Symlink(f.target, to); err != nil {
				return err
			}
			continue
		}
		if err := errors.Join(os.WriteFile(to, f.data, 0o644), os.Chmod(to, f.mode), os.Chtimes(to, at, at)); err != nil {
			return err
		}
	}
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return errors.Join(os.Chmod(name, 0o755), os.Chtimes(name, at, at)) // whatever the umask
	})
}

// names are the paths in order, folders included if that is wanted, each before what is in it. A folder's path ends with a slash.
func (t tree) names(folders bool) []string {
	seen := map[string]bool{}
	for name := range t {
		seen[name] = true
		for dir := path.Dir(name); folders && dir != "."; dir = path.Dir(dir) {
			seen[dir+"/"] = true
		}
	}
	var names []string
	for name := range seen {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(strings.Compare(strings.TrimSuffix(a, "/"), strings.TrimSuffix(b, "/")), strings.Compare(a, b))
	})
	return names
}

// writeTar writes the tree as a tar archive of root's files, all of one time.
func (t tree) writeTar(w io.Writer, at time.Time) error {
	out := tar.NewWriter(w)
	for _, name := range t.names(true) {
		h := &tar.Header{Name: name, ModTime: at, Mode: 0o755, Typeflag: tar.TypeDir, Format: tar.FormatUSTAR}
		f := t[name]
		switch {
		case f.target != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.target, 0o777
		case !strings.HasSuffix(name, "/"):
			h.Typeflag, h.Mode, h.Size = tar.TypeReg, int64(f.mode), int64(len(f.data))
		}
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, err := out.Write(f.data); err != nil {
			return err
		}
	}
	return out.Close()
}

// tarGz is the tree as a compressed archive.
func (t tree) tarGz(at time.Time) ([]byte, error) {
	var raw bytes.Buffer
	if err := t.writeTar(&raw, at); err != nil {
		return nil, err
	}
	return gzipped(raw.Bytes())
}

// gzipped compresses, without a name and a time.
func gzipped(data []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
