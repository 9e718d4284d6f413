package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/cnibox/cnibox/netutil/errcode"
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
	networks, err := Networks(dataDir)
	errs := []error{err}
	for _, network := range networks {
		files, err := filesOf(dataDir, network)
		errs = append(errs, err)
		for _, f := range files {
			if f.Wrong != "" && f.Wrong != Empty {
				errs = append(errs, fmt.Errorf("%s of %s: %s", f.Addr, network, f.Wrong))
				continue
			}
			out = append(out, &Listed{Network: network, Reservation: f.Reservation, Since: f.Since})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return out, errcode.Errorf(errcode.Storage, "reservations: %w", err)
	}
	return out, nil
}

func filesOf(dataDir, network string) ([]File, error) {
	s, err := New(dataDir, network)
	if err != nil {
		return nil, err
	}
	return s.Files()
}
