package main

import (
	"fmt"

	"github.com/cnibox/cnibox/scripts/steps"
)

// step is something that is done, which tells what was seen.
type step struct {
	what string
	fn   func() (string, error)
}

// play runs the steps of a scene, each of which becomes a line with the time it took, and draws what there was.
func play(scene []step, drawing func() string) error {
	for i, s := range scene {
		if err := steps.Do(i+1, s.what, s.fn); err != nil {
			return err
		}
	}
	fmt.Print(drawing())
	return nil
}
