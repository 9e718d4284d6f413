package vxlan

import (
	"errors"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/overlay"
	"github.com/cnibox/cnibox/roles"
)

// This file has the tunnel be there for the pods of a node.

// mostLooked is how many peers ADD looks at, where nothing tells that anything has changed.
const mostLooked = 8

func storeOf(r *roles.Request) *overlay.Store {
	return overlay.OpenStore(overlay.DefaultState, overlay.DefaultRun, r.Owner.Network)
}

// readPeers reads the list of peers, of the file or the configuration.
func (c *conf) readPeers() error {
	switch {
	case c.PeersFile != "":
		return c.overlay.ReadPeers()
	case len(c.Peers) > 0:
		return c.overlay.ParsePeers("peers", c.Peers)
	}
	return nil // there is a group
}

// ensure has the tunnel stand, and returns the MTU of what goes through it. The lock must be held.
func ensure(r *roles.Request, c *conf, s *overlay.Store) (mtu int, err error) {
	last := stamp(s.Stamp())
	now, err := c.stamp(last)
	if err := s.Recall(&c.overlay, r.Owner.LinkName()); err != nil {
		return 0, err
	}
	if err == nil && now.same(last) {
		if right, mtu, err := look(r, c, s); right || err != nil {
			return mtu, errors.Join(err, restamp(s, last, now))
		}
	}
	if err == nil {
		err = c.readPeers()
	}
	if err != nil {
		// The last list that was good stays in force: pods must start, and a half written file is whole the next time.
		last, loadErr := s.Load()
		if last == nil || loadErr != nil || c.PeersFile == "" {
			return 0, err
		}
		c.overlay.Peers, now = last.Peers, ""
	}
	// What can be seen to be wrong is refused before it becomes the last list that was good. It is saved first: DEL takes away by it what is made then.
	place, err := overlay.Look(r.Host, &c.overlay)
	if err != nil {
		return 0, err
	}
	if err := replace(r, c, s); err != nil {
		return 0, err
	}
	if c.overlay.Bridge != "" {
		c.overlay.KeptMTU = place.MTU
		if c.overlay.MAC == nil {
			c.overlay.MAC = netutil.RandomMAC()
		}
	}
	if err := errors.Join(s.Stamped(""), s.Save(&c.overlay)); err != nil {
		return 0, err
	}
	status, err := overlay.Sync(r.Host, &c.overlay)
	if err != nil {
		return 0, err
	}
	return status.MTU, s.Stamped(string(now))
}

// restamp notes that the same list is in another file.
func restamp(s *overlay.Store, last, now stamp) error {
	if now == last {
		return nil
	}
	return s.Stamped(string(now))
}

// look tells whether what can be seen at no great cost is right.
func look(r *roles.Request, c *conf, s *overlay.Store) (right bool, mtu int, err error) {
	some := c.overlay
	if some.Peers, err = s.Sample(mostLooked); err != nil || len(some.Peers) == 0 && !some.Group.IsValid() {
		return false, 0, nil // it will be made anew
	}
	right, status, err := overlay.Spot(r.Host, &some)
	if err != nil || !right {
		return false, 0, err
	}
	return true, status.MTU, nil
}

// replace takes away what the network had in another mode, unless pods still need it, and what was left half made by other settings.
func replace(r *roles.Request, c *conf, s *overlay.Store) error {
	last, err := s.Settings()
	if err != nil || last == nil { // what cannot be read is written anew
		return nil
	}
	if (last.Bridge == "") == (c.overlay.Bridge == "") {
		return overlay.RemoveHalfMade(r.Host, last)
	}
	users, err := s.Users()
	if err != nil {
		return err
	}
	if len(users) > 1 { // one is this attachment
		return invalid("mode: %d pods of network %s were attached in another mode; they must go first", len(users)-1, r.Owner.Network)
	}
	return overlay.Remove(r.Host, last)
}

// leave takes the tunnel away if the attachment was the last that needed it.
func leave(r *roles.Request, keep bool) error {
	s := storeOf(r)
	unlock, err := s.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	last, err := s.Leave(r.Owner.LinkName())
	if err != nil || !last || keep {
		return err
	}
	return dismantle(r, s)
}

func dismantle(r *roles.Request, s *overlay.Store) error {
	settings, err := s.Settings()
	if err != nil { // all that has our name goes without them
		settings = &overlay.Config{Network: r.Owner.Network}
	}
	if settings != nil {
		if err := overlay.Remove(r.Host, settings); err != nil {
			return err
		}
	}
	return s.Forget()
}

// status tells whether the node can reach its peers.
func status(r *roles.Request, c *conf) error {
	if err := c.readPeers(); err != nil {
		return errcode.Errorf(errcode.NotAvailable, "%s; the last list that was good stays in force", err.Error())
	}
	_, err := overlay.Look(r.Host, &c.overlay)
	return err
}
