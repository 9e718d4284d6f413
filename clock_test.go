package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
	for _, s := range all {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			st := newStage(t, s) // with a neighbour
			first := st.must("ADD", st.call, "today")
			st.haveWritten(tomorrow)
			st.must("CHECK", st.call.with("prevResult", first), "after the clock was set back")
			late := nstest.New(t, "late")
			other := st.attachment(s, "late", late.Path)
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
}

// haveWritten sets the times of all the node's files and folders to some time from now.
func (st *stage) haveWritten(from time.Duration) {
	st.t.Helper()
	at := time.Now().Add(from)
	for _, dir := range []string{st.data, st.host.RunDir} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Type()&fs.ModeSymlink != 0 {
				return err
			}
			return os.Chtimes(path, at, at)
		})
		if err != nil {
			st.t.Fatal(err)
		}
	}
}
