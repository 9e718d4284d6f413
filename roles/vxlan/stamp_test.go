package vxlan

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// list is a file with a list of peers, as a network's configuration names it.
type list struct {
	*testing.T
	conf
}

func newList(t *testing.T) *list {
	t.Helper()
	l := &list{T: t}
	l.PeersFile = filepath.Join(t.TempDir(), "peers")
	return l
}

func (l *list) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *list) stamp(last stamp) stamp {
	l.Helper()
	s, err := l.conf.stamp(last)
	l.must(err)
	return s
}

// write writes in place.
func (l *list) write(text string) {
	l.Helper()
	l.must(os.WriteFile(l.PeersFile, []byte(text), 0o600))
}

// Each change of the list is seen, also of one that has not been read anew, and a file that has just changed is read.
func TestStamp(t *testing.T) {
	t.Parallel()
	l := newList(t)
	l.write("one")
	fresh := l.stamp("")
	if !strings.HasSuffix(string(fresh), " "+unknown) {
		t.Fatalf("a file that was written just now has the stamp %s", fresh)
	}
	l.write("two")
	if other := l.stamp(fresh); other.same(fresh) {
		t.Error("another list has the same stamp")
	}
	l.write("one")

	settled := l.await(fresh)
	if !settled.same(fresh) || settled == fresh {
		t.Errorf("the list had the stamp %s, and later %s", fresh, settled)
	}
	_, file, _ := strings.Cut(string(settled), " ")
	if last := stamp("anything " + file); l.stamp(last) != last {
		t.Error("the file was read")
	}

	before, err := os.Stat(l.PeersFile)
	l.must(err)
	for name, change := range map[string]func(){
		"written to, with its mtime put back": func() {
			l.write("two")
			l.must(os.Chtimes(l.PeersFile, before.ModTime(), before.ModTime()))
		},
		"replaced by one of the same size and mtime": func() {
			l.must(os.WriteFile(l.PeersFile+".new", []byte("two"), 0o600))
			l.must(os.Chtimes(l.PeersFile+".new", before.ModTime(), before.ModTime()))
			l.must(os.Rename(l.PeersFile+".new", l.PeersFile))
		},
	} {
		change()
		if after := l.stamp(settled); after.same(settled) {
			t.Errorf("%s: the stamp is the same", name)
		}
	}
	l.write("one")
	if again := l.stamp(settled); !again.same(settled) {
		t.Error("the same list in another file has another stamp")
	}
	l.overlay.VNI++
	if other := l.stamp(settled); other.same(settled) {
		t.Error("other settings have the same stamp")
	}
	l.must(os.Remove(l.PeersFile))
	if _, err := l.conf.stamp(settled); err == nil {
		t.Error("a list that is gone has a stamp")
	}
}

// await waits until the file tells a stamp.
func (l *list) await(last stamp) (s stamp) {
	l.Helper()
	for range 100 {
		if s = l.stamp(last); !strings.HasSuffix(string(s), " "+unknown) {
			return s
		}
		time.Sleep(100 * time.Millisecond)
	}
	l.Fatal("the file never settles")
	return s
}
