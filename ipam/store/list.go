package store

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/plainfile"
)

// Listed is a reservation as it lies on disk, for who looks at a node.
type Listed struct {
	Network string
	Reservation
	Since time.Time
}

// List reads the reservations of all networks below dataDir (DefaultDir if empty), by network and address. It takes no lock and touches nothing,
// so what changes meanwhile is in it or not. An empty file, as a crash leaves, has no container ID. It goes on after errors and joins them.
func List(dataDir string) (out []*Listed, err error) {
	if dataDir == "" {
		dataDir = DefaultDir
	}
	networks, err := os.ReadDir(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	errs := []error{err}
	for _, n := range networks {
		if !n.IsDir() || strings.HasPrefix(n.Name(), ".") {
			continue
		}
		files, err := os.ReadDir(filepath.Join(dataDir, n.Name()))
		errs = append(errs, err)
		for _, f := range files {
			l, err := listed(dataDir, n.Name(), f.Name())
			errs = append(errs, err)
			if l != nil {
				out = append(out, l)
			}
		}
	}
	slices.SortFunc(out, func(a, b *Listed) int { return cmp.Or(cmp.Compare(a.Network, b.Network), a.Addr.Compare(b.Addr)) })
	if err := errors.Join(errs...); err != nil {
		return out, errcode.Errorf(errcode.Storage, "reservations: %w", err)
	}
	return out, nil
}

// listed reads one file; nil if it is no reservation, or has just been given back.
func listed(dataDir, network, name string) (*Listed, error) {
	addr, ok := parseName(name)
	if !ok {
		return nil, nil
	}
	file, err := plainfile.OpenNoLink(filepath.Join(dataDir, network, name), maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l := &Listed{Network: network, Reservation: Reservation{Addr: addr}}
	if info, err := file.Stat(); err == nil {
		l.Since = info.ModTime()
	}
	text, err := plainfile.Text(file, maxText)
	l.Holder = holderOf(strings.TrimSpace(string(text)))
	return l, err
}
