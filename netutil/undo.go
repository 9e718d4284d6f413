package netutil

import (
	"errors"
	"fmt"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// Undo is the list of inverses of what an ADD has done so far. The runner plays it back when the ADD fails.
// The zero value is ready to use.
type Undo struct {
	steps []undoStep
}

type undoStep struct {
	what string
	run  func() error
}

// Push records the inverse of a step, before the step is taken where it may half succeed: an inverse must do
// nothing, and succeed, if its step was not taken.
func (u *Undo) Push(what string, run func() error) {
	u.steps = append(u.steps, undoStep{what, run})
}

// Run plays all inverses back, latest first. It goes on after a failure, a panic included, and returns all of them joined.
func (u *Undo) Run() error {
	var errs []error
	for len(u.steps) > 0 {
		last := u.steps[len(u.steps)-1]
		u.steps = u.steps[:len(u.steps)-1]
		if err := last.guarded(); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", last.what, err))
		}
	}
	return errors.Join(errs...)
}

func (s undoStep) guarded() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errcode.Errorf(errcode.Internal, "panic: %v", p)
		}
	}()
	return s.run()
}
