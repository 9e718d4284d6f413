package netutil_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil"
)

func TestUndoGoesOn(t *testing.T) {
	t.Parallel()
	undo := &netutil.Undo{}
	var done []string
	step := func(name string, run func() error) {
		undo.Push(name, func() error { done = append(done, name); return run() })
	}
	broken := errors.New("broken")
	step("first", func() error { return nil })
	step("second", func() error { panic("what?") })
	step("third", func() error { return broken })
	err := undo.Run()
	if want := []string{"third", "second", "first"}; !slices.Equal(done, want) {
		t.Errorf("done %v, want %v", done, want)
	}
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "undo second: panic: what?") {
		t.Errorf("got %v", err)
	}
	if err := undo.Run(); err != nil || len(done) != 3 {
		t.Errorf("run again: %v, %v", err, done)
	}
}
