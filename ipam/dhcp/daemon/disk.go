package daemon

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/record"
)

// saved is a lease on disk.
type saved struct {
	Owner     owner.Owner `json:"owner"`
	Netns     string      `json:"netns"`     // path, as the plugin was called with
	Namespace string      `json:"namespace"` // which one stood there
	Args      string      `json:"args"`
	Conf      []byte      `json:"conf"` // the network configuration
	Family    string      `json:"family"`
	Granted   []byte      `json:"granted"` // what the server said last, see grant.bytes
	T1        time.Time   `json:"t1"`
	T2        time.Time   `json:"t2"`
	End       time.Time   `json:"end"`
}

const ending = ".json"

// nameOf is an attachment's file: a hash of the owner, whose parts could be too long for a file's name.
func nameOf(o owner.Owner) string { return o.LinkName() + ending }

// file is the name of the lease's file.
func (s *saved) file() string { return s.Owner.LinkName() + "-" + s.Family + ending }

// granted reads what the server said last.
func (s *saved) granted() (grant, error) {
	p, err := protocolOf(s.Family)
	if err != nil {
		return nil, err
	}
	return p.parse(s.Granted)
}

// doubtClock has a lease renewed at once that seems to last longer than the server said: the clock has been set back since. Nobody knows how much time
// is left, but the server.
func (s *saved) doubtClock(now time.Time) {
	g, err := s.granted()
	if err != nil {
		return
	}
	if _, t2, end := g.times(now); s.End.After(end) {
		s.T1, s.T2, s.End = now, t2, end
	}
}

func (s *saved) write(d record.Folder) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return d.Write(s.file(), text)
}

// readAll reads the leases of a folder. A file that cannot be read as one is removed: nobody could do anything with it.
func readAll(d record.Folder) (out []*saved, err error) {
	names, err := d.Names(ending)
	errs := []error{err}
	for _, name := range names {
		text, err := d.Read(name)
		s := &saved{}
		if err == nil {
			err = json.Unmarshal(text, s)
		}
		if err == nil {
			_, err = s.granted()
		}
		if err != nil || name != s.file() {
			errs = append(errs, err, d.Remove(name))
			continue
		}
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

// identity tells one network namespace from another that comes to have its path. The kernel gives numbers of namespaces anew after a boot.
func identity(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	text, err := json.Marshal([]any{strings.TrimSpace(string(boot)), st.Dev, st.Ino})
	return string(text), err
}

// words is the folder in which plugins leave word for a daemon that does not run, beside its socket.
func words(socket string) record.Folder { return record.Folder(socket + ".released") }

// word is that an attachment is gone.
type word struct {
	Owner owner.Owner `json:"owner"`
}

// LeaveWord has the next daemon at the socket give back an attachment's lease. Where no daemon can ever have been there is no lease. It tells
// whether word was left.
func LeaveWord(socket string, o owner.Owner) bool {
	if _, err := os.Stat(filepath.Dir(socket)); err != nil {
		return false
	}
	text, err := json.Marshal(word{o})
	return err == nil && words(socket).Write(nameOf(o), text) == nil
}

// heed reads the words and calls released for each. What is heeded is removed.
func heed(socket string, released func(owner.Owner)) {
	d := words(socket)
	names, _ := d.Names(ending)
	for _, name := range names {
		text, err := d.Read(name)
		var w word
		if err == nil && json.Unmarshal(text, &w) == nil {
			released(w.Owner)
		}
		_ = d.Remove(name)
	}
}
