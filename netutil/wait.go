package netutil

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/trace"
)

// waitLimit bounds each wait for the kernel. Duplicate address detection takes 1 to 2 s by default (RFC 4862, section 5.4.2); a
// carrier, a millisecond.
const waitLimit = 10 * time.Second

// briefly is how long ADD waits for what may never come, and goes on without. A bridge that somebody made with a spanning tree, for one,
// takes half a minute until it carries traffic (IEEE 802.1D, forward delay).
const briefly = time.Second

// waitFor returns once done says so. It asks again on every netlink event of the groups, and never sleeps in between.
func waitFor(
	ctx context.Context, n *Namespace, what string, limit time.Duration, groups []uint, done func() (bool, error),
) error {
	// The first look needs no subscription: most often all is well already.
	if ok, err := done(); ok || err != nil {
		return err
	}
	defer trace.Start("wait", "", what).End()
	var events *rawnl.Events
	err := n.Do(func() (err error) {
		events, err = rawnl.Subscribe(unix.NETLINK_ROUTE, groups...)
		return err
	})
	if err != nil {
		return errcode.Errorf(errcode.Kernel, "subscribe to %s: %w", what, err)
	}
	defer events.Close()
	for end := time.Now().Add(limit); ; {
		if ok, err := done(); ok || err != nil {
			return err
		}
		left := time.Until(end)
		if left <= 0 || ctx.Err() != nil {
			return errcode.Errorf(errcode.TryAgainLater, "%s: not ready in %s", what, limit)
		}
		// Woken at least once a second, to notice that the runtime gave up.
		if err := events.Wait(min(left, time.Second)); err != nil {
			return errcode.Errorf(errcode.Kernel, "wait for %s: %w", what, err)
		}
	}
}

func isOneOf(err error, wanted ...unix.Errno) bool {
	for _, w := range wanted {
		if errors.Is(err, w) {
			return true
		}
	}
	return false
}

// waitCarrier waits until the links that the plan names forward traffic: the kernel raises the carrier of a pair, and the state of a
// bridge and its port, after it has answered the request that took the second end up.
func (a *applier) waitCarrier(ctx context.Context) error {
	for i := range a.plan.Links {
		l := &a.plan.Links[i]
		if !l.Carrier {
			continue
		}
		limit, mayNever := waitLimit, l.Kind == Bridge || l.Kind == Existing // a card without a cable, for one
		if mayNever {
			limit = briefly
		}
		err := a.waitUp(ctx, l, limit)
		if mayNever {
			err = unlessLate(ctx, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unlessLate passes over that the time is up, unless the runtime has given up.
func unlessLate(ctx context.Context, err error) error {
	if err != nil && errcode.Of(err) == errcode.TryAgainLater && ctx.Err() == nil {
		return nil
	}
	return err
}

func (a *applier) waitUp(ctx context.Context, l *Link, limit time.Duration) error {
	n := a.kernel.at(l.Place)
	return waitFor(ctx, n, l.Place.String()+" interface "+l.Name, limit, []uint{unix.RTNLGRP_LINK}, func() (bool, error) {
		have, err := n.findLink(l.Name)
		if err == nil && have == nil {
			err = errNoLink(l.Place, l.Name)
		}
		return have != nil && (have.Running() || l.Kind == Existing && have.RunsUntold()), err
	})
}
