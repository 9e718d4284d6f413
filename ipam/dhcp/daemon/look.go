package daemon

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/record"
)

// Lease is a lease as it lies on disk.
type Lease struct {
	Owner owner.Owner
	Netns string       // the path that the plugin was called with
	Addr  netip.Prefix // not valid if the server has given none
	Since time.Time    // when it was last written, which each renewal does
	End   time.Time
}

// Leases are the leases in a folder. Unlike the daemon it leaves files alone that are none; they are told of in the error.
func Leases(state string) (out []Lease, err error) {
	d := record.Folder(state)
	names, err := d.Names(ending)
	errs := []error{err}
	for _, name := range names {
		text, err := d.Read(name)
		var s saved
		if err == nil && text != nil {
			err = json.Unmarshal(text, &s)
		}
		if err != nil || text == nil {
			errs = append(errs, err)
			continue
		}
		l := Lease{Owner: s.Owner, Netns: s.Netns, End: s.End}
		if g, err := s.granted(); err == nil {
			l.Addr = g.address()
		}
		if info, err := os.Lstat(filepath.Join(state, name)); err == nil {
			l.Since = info.ModTime()
		}
		out = append(out, l)
	}
	return out, errors.Join(errs...)
}
