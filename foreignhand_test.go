package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest/faults"
)

// The tests of this file have somebody else flush the packet filter, or delete links, between two system calls of a plugin, at one call after the other.

// foreignScenes are those that have links or rules on the host.
func foreignScenes(t *testing.T) (all []scene) {
	t.Helper()
	for _, s := range scenes(t) {
		onHost := !slices.Contains([]string{"static", "loopback", "host-local", "tuning", "sbr", "host-device", "tap", "vrf"}, s.role)
		if onHost && !s.cold {
			all = append(all, s)
		}
	}
	return all
}

// meddle is what somebody else does, by turns.
func (st *stage) meddle(turn int) func() {
	if turn%2 == 0 {
		return func() {
			if out, err := st.host.Try("nft", "flush", "ruleset"); err != nil {
				st.t.Errorf("nft flush ruleset: %v: %s", err, out)
			}
		}
	}
	return func() {
		if err := st.host.Do(st.deleteLinks); err != nil {
			st.t.Error(err)
		}
	}
}

// deleteLinks deletes all links of the host but those that no plugin has made. A plugin that is chained needs the pair that was made before.
func (st *stage) deleteLinks() error {
	links, err := netlink.LinkList()
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		if name == "lo" || name == masterName || name == "up1" || st.chained && strings.Contains(st.clean, fmt.Sprintf("link %s %s", l.Type(), name)) {
			continue
		}
		if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) { // its peer has taken it along
			errs = append(errs, fmt.Errorf("delete %s: %w", name, err))
		}
	}
	return errors.Join(append(errs, err)...)
}

// wantNothingMore waits until there is nothing that was not there at the beginning. What was there may be gone.
func (st *stage) wantNothingMore(when string) {
	st.t.Helper()
	for end := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		var more []string
		for line := range strings.Lines(lineDiff(st.clean, st.state(st.pod))) {
			if strings.HasPrefix(line, "+ ") {
				more = append(more, line)
			}
		}
		if len(more) == 0 {
			return
		}
		if time.Now().After(end) {
			st.t.Fatalf("%s: there is more than before:\n%s", when, strings.Join(more, ""))
		}
	}
}

// An ADD in the midst of which somebody else takes its work away succeeds or says that it failed. DEL leaves nothing, and the next ADD is whole.
func TestForeignHandInADD(t *testing.T) {
	t.Parallel()
	for _, s := range foreignScenes(t) {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			st := newStage(t, s)
			st.sweep(faults.Meddle, "ADD", st.reset, st.del, func(f faults.Fault, when string) {
				f.Do = st.meddle(f.At)
				a, _ := st.callWith(f, "ADD", st.call)
				when += ", " + a.fault
				if errors.Is(a.err, errNotTold) {
					st.t.Errorf("%s: %v", when, a.err)
				}
				st.delBlind(f.At/2, "after "+when)
				st.wantNothingMore(when)
				st.wantRepaired(when)
			})
		})
	}
}

// After a DEL that somebody else disturbs, which may be told so, the next one leaves nothing.
func TestForeignHandInDEL(t *testing.T) {
	t.Parallel()
	for _, s := range foreignScenes(t) {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			st := newStage(t, s)
			st.sweep(faults.Meddle, "DEL", st.add, func() {}, func(f faults.Fault, when string) {
				st.add()
				f.Do = st.meddle(f.At)
				a, _ := st.callWith(f, "DEL", st.call)
				when += ", " + a.fault
				if a.err != nil {
					st.t.Errorf("%s: %v", when, a.err)
				}
				st.delBlind(f.At/2, "again after "+when)
				st.wantNothingMore(when)
				st.wantRepaired(when)
			})
		})
	}
}

// wantRepaired attaches the pod once more, and looks whether it is whole.
func (st *stage) wantRepaired(when string) {
	st.t.Helper()
	result := st.must("ADD", st.call, "after "+when)
	st.must("CHECK", st.call.with("prevResult", result), "after "+when)
	st.must("DEL", st.call, "after all of "+when)
}
