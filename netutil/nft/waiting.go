package nft

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
)

// Runtimes tell a container's ports to each of its networks. A port leads to one of them only: the first that asked. The others wait: they have
// it in their journal and in their record, and the port is handed over to them when the one that holds it goes. Who waits for whom is
// noted beside the records, as an empty file for each two.

// shares tells whether an element belongs to another attachment of the owner's container. Where the container's name had to be cut, it is
// taken for another's.
func (e *element) shares(o owner.Owner) bool {
	parts := strings.Split(ownerOf(e.comment), "/")
	return len(parts) == 3 && parts[1] == o.ContainerID && linkOf(e.comment) != o.LinkName()
}

// without leaves out the chain that an element leads to, if any.
func without(chains []wantedChain, name string) []wantedChain {
	return slices.DeleteFunc(slices.Clone(chains), func(w wantedChain) bool { return w.name == name })
}

// wait is an attachment that has to wait for another, both by the names of their links.
type wait struct{ holder, waiter string }

// apart stands between the two in the name of a file.
const apart = "+"

func (r records) waits() string { return filepath.Join(string(r), "waiting") }

// wait notes who waits.
func (r records) wait(all []wait) error {
	if r == "" || len(all) == 0 {
		return nil
	}
	err := os.MkdirAll(r.waits(), 0o700)
	for _, w := range all {
		err = errors.Join(err, writeFile(filepath.Join(r.waits(), w.holder+apart+w.waiter), ""))
	}
	if err != nil {
		return errcode.Errorf(errcode.Storage, "record of who waits for a port: %w", err)
	}
	return nil
}

// leave forgets attachments that are gone, and returns those that have waited for them.
func (r records) leave(gone func(link string) bool) (next []string, err error) {
	if r == "" {
		return nil, nil
	}
	files, err := os.ReadDir(r.waits())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	left := len(files)
	for _, f := range files {
		holder, waiter, _ := strings.Cut(f.Name(), apart)
		if !gone(holder) && !gone(waiter) {
			continue
		}
		if !gone(waiter) {
			next = append(next, waiter)
		}
		left--
		err = errors.Join(err, unix.Unlink(filepath.Join(r.waits(), f.Name())))
	}
	if left == 0 && err == nil {
		err = unix.Rmdir(r.waits())
	}
	if err != nil {
		err = errcode.Errorf(errcode.Storage, "record of who waits for a port: %w", err)
	}
	return next, err
}

// handOver gives the ports of attachments that are gone to those that have waited for them.
func (t *Tables) handOver(c *conn, gone []holding) error {
	links := map[string]bool{}
	for _, h := range gone {
		if h.feature == PortMap {
			links[h.link] = true
		}
	}
	if len(links) == 0 {
		return nil
	}
	next, err := t.records.leave(func(link string) bool { return links[link] })
	var recs []recorded
	for _, link := range next {
		if rec, ok := t.records.read(t.inet, link+"."+featureName(PortMap)); ok {
			recs = append(recs, rec)
		}
	}
	if len(recs) > 0 {
		_, restored := t.restoreSome(c, t.inet, recs)
		err = errors.Join(err, restored)
	}
	return err
}
