package record_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/record"
)

func TestRecords(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	d := record.Folder(dir)
	if text, err := d.Read("x.json"); text != nil || err != nil {
		t.Errorf("read %q, %v", text, err)
	}
	if names, err := d.Names(".json"); names != nil || err != nil {
		t.Errorf("names %q, %v", names, err)
	}
	for _, text := range []string{"one", "two, longer", ""} {
		if err := d.Write("x.json", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Read("x.json"); string(got) != text || err != nil {
			t.Errorf("read %q, %v, want %q", got, err, text)
		}
	}
	if err := d.Write("y.other", nil); err != nil {
		t.Fatal(err)
	}
	if names, err := d.Names(".json"); !slices.Equal(names, []string{"x.json"}) || err != nil {
		t.Errorf("names %q, %v", names, err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, filepath.Join(dir, "x.json"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	for range 2 {
		if err := d.Remove("x.json"); err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Only what nobody can be at any more goes.
func TestTidyAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{".new-old": time.Hour, ".new-young": 0, "old": time.Hour} {
		path := filepath.Join(dir, name)
		at := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(record.Folder(dir).TidyAll(), record.Folder(filepath.Join(dir, "none")).TidyAll()); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || entries[0].Name() != ".new-young" || entries[1].Name() != "old" {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// A link that somebody planted is neither read nor written through.
func TestLinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "x.json")); err != nil {
		t.Fatal(err)
	}
	d := record.Folder(dir)
	if text, err := d.Read("x.json"); err == nil {
		t.Errorf("read %q", text)
	}
	if err := os.Symlink(secret, filepath.Join(dir, ".new-x.json")); err != nil {
		t.Fatal(err)
	}
	if err := d.Write("x.json", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(secret); err != nil || string(text) != "secret" {
		t.Errorf("the link's target holds %q, %v", text, err)
	}
	_, err := d.Read(".")
	errtest.Want(t, err, errcode.Storage, dir)
}

func TestNames(t *testing.T) {
	t.Parallel()
	if got := record.Name(owner.Owner{Network: "n", ContainerID: "c", IfName: "eth0"}, "_", ".json"); got != "c_eth0.json" {
		t.Errorf("name %q", got)
	}
	seen := map[string]bool{}
	for _, id := range []string{strings.Repeat("a", 300), strings.Repeat("a", 301)} {
		name := record.Name(owner.Owner{Network: "n", ContainerID: id, IfName: "eth0"}, "_", ".json")
		if len(name) > 255 || seen[name] || !strings.HasSuffix(name, ".json") {
			t.Errorf("name %q", name)
		}
		seen[name] = true
	}
}

// A long record is read as a whole, or not at all.
func TestLongRecords(t *testing.T) {
	t.Parallel()
	d := record.Folder(t.TempDir())
	long := bytes.Repeat([]byte("x"), 3<<20)
	if err := d.Write("long", long); err != nil {
		t.Fatal(err)
	}
	if text, err := d.Read("long"); err != nil || !bytes.Equal(text, long) {
		t.Errorf("read %d bytes (%v) of %d", len(text), err, len(long))
	}
	if err := os.Truncate(filepath.Join(string(d), "long"), 1<<30); err != nil {
		t.Fatal(err)
	}
	if text, err := d.Read("long"); errcode.Of(err) != errcode.Storage {
		t.Errorf("read %d bytes (%v) of 1 GiB", len(text), err)
	}
}
