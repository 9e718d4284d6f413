package store

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/eintr"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/plainfile"
	"github.com/cnibox/cnibox/netutil/trace"
)

// An address file's text begins with the container ID. Everybody compares it without the white space around it.
const separator = "\r\n"

// maxText bounds what is read of an address file, in bytes. The kernel takes no environment variable longer than this.
const maxText = 128 << 10

// text is what the holder's address files hold.
func (h Holder) text() string {
	if h.IfName == "" {
		return strings.TrimSpace(h.ContainerID)
	}
	return strings.TrimSpace(h.ContainerID) + separator + h.IfName
}

// holderOf reads an address file's text.
func holderOf(text string) Holder {
	id, ifName, _ := strings.Cut(text, separator)
	return Holder{ContainerID: id, IfName: ifName}
}

// parseName is the address that a file of that name stands for. Other names, and addresses that are not written as Go writes
// them, are not ours: nobody would find them.
func parseName(name string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(name)
	if err != nil || addr.Zone() != "" || addr.Is4In6() || addr.String() != name {
		return netip.Addr{}, false
	}
	return addr, true
}

// read is the text of an address file: empty after a crash of the reference plugin.
// What is no regular file is an error; a named pipe must not block it.
func (t *txn) read(addr netip.Addr) (string, error) {
	name := addr.String()
	var fd int
	err := eintr.Retry(func() (err error) {
		fd, err = unix.Openat(int(t.folder.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC|plainfile.NoLink, 0)
		return err
	})
	if err != nil {
		return "", &os.PathError{Op: "open", Path: filepath.Join(t.dir, name), Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	var text []byte
	var buf [512]byte
	for len(text) <= maxText {
		var n int
		err := eintr.Retry(func() (err error) {
			n, err = unix.Read(fd, buf[:])
			return err
		})
		if err != nil {
			return "", &os.PathError{Op: "read", Path: filepath.Join(t.dir, name), Err: err}
		}
		if n == 0 {
			return strings.TrimSpace(string(text)), nil
		}
		text = append(text, buf[:n]...)
	}
	return "", &os.PathError{Op: "read", Path: filepath.Join(t.dir, name), Err: unix.EFBIG}
}

// create makes an address file. Its name appears with its text in it, on the disk too, and never replaces a reservation.
func (t *txn) create(addr netip.Addr, h Holder) error {
	final := filepath.Join(t.dir, addr.String())
	defer trace.Start("write", "", final).End()
	var err error
	for _, temp := range t.tempFiles() {
		if err = t.createFrom(temp, final, addr, h); !errors.Is(err, unix.EXDEV) {
			break
		}
	}
	if err == nil || errors.Is(err, errStale) {
		return err
	}
	return errcode.Errorf(errcode.Storage, "cannot reserve %s: %w", addr, err)
}

// tempFiles are where an address file is made before it gets its name: the second serves where the network's folder is a mount point.
func (t *txn) tempFiles() [2]string {
	return [2]string{filepath.Join(t.side, "new"), filepath.Join(t.dir, sideDir+".new")}
}

// tidy removes what a process that was killed while it made an address file has left: we hold the lock, so nobody is at it.
func (t *txn) tidy() {
	for _, temp := range t.tempFiles() {
		_ = os.Remove(temp)
	}
}

func (t *txn) createFrom(temp, final string, addr netip.Addr, h Holder) error {
	if err := t.writeSynced(temp, h.text()); err != nil {
		_ = os.Remove(temp)
		return err
	}
	err := t.at("place")
	if err == nil {
		err = renameNew(temp, final)
	}
	if errors.Is(err, fs.ErrExist) {
		// An empty file is nobody's: we hold the lock, so its writer is gone.
		if text, readErr := t.read(addr); readErr != nil || text != "" {
			err = errStale
		} else {
			err = os.Rename(temp, final)
		}
	}
	if err != nil {
		_ = os.Remove(temp)
	}
	return err
}

// writeSynced writes a new file and waits until it is on the disk: else a power failure could leave the name without the
// text. Nobody waits for the name itself, as no container outlives that.
func (t *txn) writeSynced(path, text string) error {
	if err := t.at("temp"); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		// What a crash has left may be a second name of an address file: it is removed, not written to.
		_ = os.Remove(path)
		if err := os.MkdirAll(t.side, 0o700); err != nil {
			return err
		}
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = t.at("fsync")
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// renameNew renames without replacing anything: fs.ErrExist if there is something of that name.
func renameNew(from, to string) error {
	err := eintr.Retry(func() error {
		return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // network filesystems have no such rename
		if err = os.Link(from, to); err == nil {
			err = os.Remove(from)
		}
		return err
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// remove gives an address back. It is no error if somebody else did.
func (t *txn) remove(addr netip.Addr) error {
	err := t.at("remove")
	if err == nil {
		err = os.Remove(filepath.Join(t.dir, addr.String()))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errcode.Errorf(errcode.Storage, "cannot release %s: %w", addr, err)
	}
	t.index.set(keyOf(addr), ownerNone)
	return nil
}

// last is the address that range set i gave out last; the zero Addr if that is not known.
func (t *txn) last(i int) netip.Addr {
	f, err := os.OpenFile(t.lastFile(i), os.O_RDONLY|plainfile.NoLink, 0)
	if err != nil {
		return netip.Addr{}
	}
	var text [64]byte // more than any address has
	n, _ := f.Read(text[:])
	_ = f.Close()
	addr, err := netip.ParseAddr(strings.TrimSpace(string(text[:max(n, 0)])))
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}

// setLast stores what last returns. It only says where the next search begins: a failure, or a torn file, costs no more than
// one turn of the round robin, so it is written in place, and unlike the address files it is not synced.
func (t *txn) setLast(i int, addr netip.Addr) {
	if t.at("last") != nil {
		return
	}
	f, err := os.OpenFile(t.lastFile(i), os.O_WRONLY|os.O_CREATE|plainfile.NoLink, 0o600)
	if err != nil {
		return
	}
	text := addr.String()
	if _, err := f.WriteString(text); err == nil {
		_ = f.Truncate(int64(len(text)))
	}
	_ = f.Close()
}

func (t *txn) lastFile(i int) string {
	return filepath.Join(t.dir, "last_reserved_ip."+strconv.Itoa(i))
}
