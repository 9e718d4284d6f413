package main

import (
	"errors"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/nstest"
)

const tomorrow = 24 * time.Hour

// The clock is set back by a day: all that plugins have written is of tomorrow. They go on, and give no address twice.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	all := []scene{bridgeScene(), ptpScene()}
	if nstest.Has(t, "vxlan") {
		all = append(all, vxlanScene(), vxlanBridgedScene())
	}
	onStages(t, all, func(t *testing.T, st *stage) { // with a neighbour
		first := st.must("ADD", st.call, "today")
		st.haveWritten(tomorrow)
		st.must("CHECK", st.call.with("prevResult", first), "after the clock was set back")
		late := nstest.New(t, "late")
		other := st.attachment(st.scene, "late", late.Path)
		result := st.must("ADD", other, "after the clock was set back")
		a, errA := reply{result: first}.addresses()
		b, errB := reply{result: result}.addresses()
		if err := errors.Join(errA, errB); err != nil || len(a) != 2 || len(b) != 2 || a[0] == b[0] || a[1] == b[1] {
			t.Errorf("addresses %v and %v (%v)", a, b, err)
		}
		st.haveWritten(tomorrow)
		st.must("DEL", other, "after the clock was set back")
		st.delBlind(1, "after the clock was set back")
		st.wantClean("DEL and GC after the clock was set back")
	})
}
