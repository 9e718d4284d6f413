package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// planted is something that is put in a state file's place, by somebody who may write to its folder.
type planted struct {
	what string
	put  func(path string) error
}

const plantedSecret = "root:secret"

// plants are links to a file that holds a secret and to where a file could come to be, and a pipe of which nobody has the other end.
func plants(victim, nowhere string) []planted {
	return []planted{
		{"a link", func(path string) error { return os.Symlink(victim, path) }},
		{"a dangling link", func(path string) error { return os.Symlink(nowhere, path) }},
		{"a pipe", func(path string) error { return unix.Mkfifo(path, 0o666) }},
	}
}

// Whatever stands in the place of a file that plugins keep: it is neither followed nor waited for, and its content is not shown.
func TestPlantedLinks(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"bridge", "portmap", "tuning", "flannel", "vxlan"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			n := newTypedNode(t, role, typedConfs()[role])
			if !n.attaches {
				t.Skip("the kernel lacks it")
			}
			if role == "tuning" {
				n.base["dataDir"] = filepath.Join(n.Host.VarLib, "tuning") // of which the other roles' state knows
			}
			n.must("ADD", n.base)
			files := n.stateFiles()
			n.must("DEL", n.base)
			if len(files) < 3 {
				t.Fatalf("there are only %q", files)
			}
			dir := t.TempDir()
			for _, file := range files {
				for _, p := range plants(filepath.Join(dir, "victim"), filepath.Join(dir, "nowhere")) {
					n.wantNotFollowed(dir, file, p)
				}
			}
		})
	}
}

// stateFiles are the files that there are, and the names under which they may be made.
func (n *typedNode) stateFiles() (files []string) {
	n.t.Helper()
	for _, dir := range []string{n.Host.RunDir, n.Host.VarLib} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.Contains(path, "/flannel/subnet.env") {
				return err
			}
			files = append(files, path)
			for _, name := range []string{".new-" + d.Name(), d.Name() + ".new", "new"} {
				if made := filepath.Join(filepath.Dir(path), name); !slices.Contains(files, made) {
					files = append(files, made)
				}
			}
			return nil
		})
		if err != nil {
			n.t.Fatal(err)
		}
	}
	return files
}

// wantNotFollowed plants something, and has the attachment made, checked and taken away.
func (n *typedNode) wantNotFollowed(dir, file string, p planted) {
	n.t.Helper()
	victim := filepath.Join(dir, "victim")
	before, err := os.ReadFile(file) // of a file that stays
	kept := err == nil
	err = errors.Join(os.WriteFile(victim, []byte(plantedSecret), 0o600), os.MkdirAll(filepath.Dir(file), 0o700), os.RemoveAll(file), p.put(file))
	if err != nil {
		n.t.Fatal(err)
	}
	when := p.what + " as " + filepath.Base(filepath.Dir(file)) + "/" + filepath.Base(file)
	for _, verb := range []string{"ADD", "DEL", "GC"} {
		conf := any(n.base)
		if verb == "GC" {
			conf = keepNone(conf)
		}
		err := n.try(verb, conf)
		switch errcode.Of(err) {
		case errcode.PoolExhausted: // the address is taken, by nobody knows whom
		case errcode.Storage:
			if !strings.Contains(err.Error(), filepath.Base(file)) {
				n.t.Errorf("%s: %s: %v", when, verb, err)
			}
		default:
			if err != nil {
				n.t.Errorf("%s: %s: %v", when, verb, err)
			}
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			n.t.Errorf("%s: %s shows what is there: %v", when, verb, err)
		}
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != plantedSecret {
		n.t.Errorf("%s: behind it stands now %q (%v)", when, text, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "nowhere")); err == nil {
		n.t.Errorf("%s: a file was made where it leads to", when)
	}
	_ = os.Remove(filepath.Join(dir, "nowhere"))
	if info, err := os.Lstat(file); err == nil && !info.Mode().IsRegular() {
		err = os.Remove(file)
		if kept {
			err = errors.Join(err, os.WriteFile(file, before, 0o600))
		}
		if err != nil {
			n.t.Error(err)
		}
	}
	n.must("DEL", n.base)
}

// What plugins keep is root's alone, whatever the umask of the runtime: files are 0600 and folders 0700.
func TestModes(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"bridge", "portmap", "firewall", "tuning", "flannel", "vxlan", "cnibox"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			n := newTypedNode(t, role, typedConfs()[role])
			if !n.attaches {
				t.Skip("the kernel lacks it")
			}
			text, err := json.Marshal(n.base)
			if err != nil {
				t.Fatal(err)
			}
			if a := n.withShell("umask 0", "ADD", n.pod.Path, text); a.err != nil {
				t.Fatal(a.err)
			}
			if n.wantModes(n.Host.RunDir)+n.wantModes(n.Host.VarLib) == 0 {
				t.Error("there are no files")
			}
		})
	}
}

// wantModes looks at all that is in a folder, and counts it.
func (n *typedNode) wantModes(dir string) (files int) {
	n.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir || strings.HasPrefix(path, filepath.Join(dir, "flannel")) { // flanneld's
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = fs.ModeDir | 0o700
		}
		if info.Mode() != want {
			n.t.Errorf("%s has the mode %s, want %s", path, info.Mode(), want)
		}
		files++
		return nil
	})
	if err != nil {
		n.t.Error(err)
	}
	return files
}
