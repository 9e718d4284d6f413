package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

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
	foreign := []string{"lo", masterName, "up1"}
	links, err := netlink.LinkList()
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		needed := st.scene.behind != nil && strings.Contains(st.clean, fmt.Sprintf("link %s %s", l.Type(), name))
		if needed || slices.Contains(foreign, name) {
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
	more := st.await(func() (more string) {
		for line := range strings.Lines(lineDiff(st.clean, st.state(st.pod))) {
			if strings.HasPrefix(line, "+ ") {
				more += line
			}
		}
		return more
	})
	if more != "" {
		st.t.Fatalf("%s: there is more than before:\n%s", when, more)
	}
}

// disturb makes a call while somebody else takes its work away. Whatever comes of it, DEL or GC leaves nothing, and the next ADD is whole.
func (st *stage) disturb(f faults.Fault, verb, when string) error {
	st.t.Helper()
	f.Do = st.meddle(f.At)
	a, _ := st.callWith(f, verb, st.call)
	when += ", " + a.fault
	st.delBlind(f.At/2, "after "+when)
	st.wantNothingMore(when)
	result := st.must("ADD", st.call, "after "+when)
	st.must("CHECK", st.call.with("prevResult", result), "after "+when)
	st.must("DEL", st.call, "after all of "+when)
	return a.err
}

// An ADD that somebody else disturbs succeeds, or says that it failed.
func TestForeignHandInADD(t *testing.T) {
	t.Parallel()
	onStages(t, foreignScenes(t), func(t *testing.T, st *stage) {
		st.sweep(faults.Meddle, "ADD", st.reset, st.del, func(f faults.Fault, when string) {
			if err := st.disturb(f, "ADD", when); errors.Is(err, errNotTold) {
				t.Errorf("%s: %v", when, err)
			}
		})
	})
}

// A DEL that somebody else disturbs succeeds.
func TestForeignHandInDEL(t *testing.T) {
	t.Parallel()
	onStages(t, foreignScenes(t), func(t *testing.T, st *stage) {
		st.sweep(faults.Meddle, "DEL", st.add, func() {}, func(f faults.Fault, when string) {
			st.add()
			if err := st.disturb(f, "DEL", when); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		})
	})
}
