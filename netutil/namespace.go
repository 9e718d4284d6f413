// Package netutil makes and checks the kernel state of an attachment: a plan says what is wanted in the host's
// namespace and in the sandbox, Apply makes it so, Verify compares, Undo takes back.
package netutil

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/eintr"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/trace"
)

// Namespace is a network namespace with a netlink socket of its own in it, so that work there needs no switching of
// threads. Sockets are opened on first use. Not safe for concurrent use.
//
// The packet filter's type is hidden, and NFT is no method, for the sake of the executable's size: the command line's
// templates call methods by name, so the linker keeps every method of every type that can be reached from the role's interface
// by way of fields and methods.
type Namespace struct {
	path  string
	own   bool // the process itself runs in it
	file  *os.File
	wait  time.Duration  // for the lock, at most; 0: as long as it takes
	route *rawnl.Socket  // rtnetlink(7)
	nft   unsafe.Pointer // *nft.Tables
}

// self is the namespace of the calling thread; the others of the process may have been moved.
const self = "/proc/thread-self/ns/net"

// Current opens the namespace that the process runs in: the host, seen from a plugin.
func Current() (*Namespace, error) {
	n, err := Open(self)
	if err != nil {
		return nil, err
	}
	n.own = true
	return n, nil
}

// Open opens the network namespace at path (CNI_NETNS). An error that wraps os.ErrNotExist means that it is gone, or
// that its file is left but no namespace is mounted on it (as after a reboot).
func Open(path string) (*Namespace, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe must not hold up the call
	if err != nil {
		return nil, errcode.Errorf(errcode.InvalidNetNS, "network namespace: %w", err)
	}
	kind, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_NSTYPE)
	if err != nil && isNamespace(file) { // of which kind shows where it is entered
		kind, err = unix.CLONE_NEWNET, nil
	}
	switch {
	case errors.Is(err, unix.ENOTTY):
		_ = file.Close()
		return nil, errcode.Errorf(errcode.InvalidNetNS, "network namespace: %s is a plain file: %w", path, os.ErrNotExist)
	case err != nil:
		_ = file.Close()
		return nil, errcode.Errorf(errcode.InvalidNetNS, "network namespace: %s: %w", path, err)
	case kind != unix.CLONE_NEWNET:
		_ = file.Close()
		return nil, errcode.Errorf(errcode.InvalidNetNS, "network namespace: %s is a namespace of another kind", path)
	}
	return &Namespace{path: path, file: file}, nil
}

// isNamespace tells whether a file is a namespace of any kind, where the kernel does not tell which: before Linux 4.11, and under qemu's
// user mode.
func isNamespace(file *os.File) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(int(file.Fd()), &fs) == nil && fs.Type == unix.NSFS_MAGIC
}

// Close gives all descriptors back. It may be called on nil.
func (n *Namespace) Close() {
	if n == nil {
		return
	}
	n.route.Close()
	if n.nft != nil {
		(*nft.Tables)(n.nft).Close()
	}
	_ = n.file.Close()
}

// Path is the path that the namespace was opened by.
func (n *Namespace) Path() string { return n.path }

// FD is a descriptor of the namespace, valid until Close.
func (n *Namespace) FD() int { return int(n.file.Fd()) }

// Same tells whether both are one and the same namespace.
func (n *Namespace) Same(other *Namespace) (bool, error) {
	a, err := n.file.Stat()
	if err != nil {
		return false, err
	}
	b, err := other.file.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(a, b), nil
}

// Lock takes the namespace's lock, which all of cnibox's processes share: flock(2) on the namespace itself, so that no lock file is
// left behind, and two nodes on one file system (namespaces, in tests) never meet. The packet filter takes the same lock for each
// of its operations; it must not be asked for anything while the lock is held here.
func (n *Namespace) Lock() (unlock func(), err error) {
	defer trace.Start("lock", "", n.path).End()
	if n.wait > 0 {
		unlock, err = n.lockWithin(n.wait)
	} else {
		err = flock(n.FD())
		unlock = func() { _ = unix.Flock(n.FD(), unix.LOCK_UN) }
	}
	if err != nil {
		return nil, errcode.Errorf(errcode.Kernel, "lock %s: %w", n.path, err)
	}
	return unlock, nil
}

// WaitAtMost bounds how long the lock is waited for, here and by the packet filter. A plugin waits as long as its runtime lets it; who only looks at
// a node should rather say that a plugin hangs.
func (n *Namespace) WaitAtMost(d time.Duration) { n.wait = d }

// lockWithin takes the lock, or gives up after a time. flock(2) knows no limit, and who only tries now and then may never have his turn: so somebody
// else waits. His lock belongs to a file that he has opened himself; with one that others have too, he would take theirs away when he lets go of
// what came too late.
func (n *Namespace) lockWithin(wait time.Duration) (unlock func(), err error) {
	own, err := unix.Open("/proc/self/fd/"+strconv.Itoa(n.FD()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	taken, gaveUp := make(chan error), make(chan struct{})
	go func() {
		err := flock(own)
		select {
		case taken <- err:
		case <-gaveUp:
			_ = unix.Close(own)
		}
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case err := <-taken:
		if err != nil {
			return nil, errors.Join(err, unix.Close(own))
		}
		return func() { _ = unix.Close(own) }, nil
	case <-timer.C:
		close(gaveUp)
		return nil, fmt.Errorf("another process of cnibox has had it for %s, perhaps a plugin that hangs; /proc/locks tells which", wait)
	}
}

// flock waits for the lock of a file.
func flock(fd int) error {
	return eintr.Retry(func() error { return unix.Flock(fd, unix.LOCK_EX) })
}

// socket opens a netlink socket of the protocol in the namespace.
func (n *Namespace) socket(protocol int) (s *rawnl.Socket, err error) {
	err = n.Do(func() (err error) {
		s, err = rawnl.Open(protocol)
		return err
	})
	if err != nil {
		return nil, errcode.Errorf(errcode.Kernel, "netlink socket in %s: %w", n.path, err)
	}
	return s, nil
}

// filterRecords is where records of what is in the host's packet filter are kept: as it, they do not outlive the machine's run.
const filterRecords = "/run/cnibox/filter"

// NFT is the namespace's packet filter.
func NFT(n *Namespace) *nft.Tables {
	if n.nft == nil {
		root := ""
		if n.own { // others are sandboxes
			root = filterRecords
		}
		n.nft = unsafe.Pointer(nft.Open(func() (*rawnl.Socket, error) { return n.socket(unix.NETLINK_NETFILTER) }, n.Lock, root))
	}
	return (*nft.Tables)(n.nft)
}

// Do runs fn on a thread inside the namespace. Only what the kernel ties to the thread needs it: files under /proc/sys/net, and the
// opening of sockets. (The library can open them elsewhere too, but moves a thread there and back, and goes on with it in the wrong
// namespace if it cannot come back.)
func (n *Namespace) Do(fn func() error) error {
	if n.own {
		return fn()
	}
	done := make(chan error, 1)
	go func() {
		// The thread is never unlocked, so the Go runtime ends it with the goroutine: no other work can land on a moved thread.
		runtime.LockOSThread()
		if err := unix.Setns(n.FD(), unix.CLONE_NEWNET); err != nil {
			done <- errcode.Errorf(errcode.Kernel, "enter %s: %w", n.path, err)
			return
		}
		done <- fn()
	}()
	return <-done
}
