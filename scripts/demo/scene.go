package main

import (
	"fmt"
	"time"
)

// step is something that is done, which tells what was seen.
type step struct {
	what string
	fn   func() (string, error)
}

// play runs the steps of a scene, each of which becomes a line with the time it took, and draws what there was.
func play(steps []step, drawing func() string) error {
	for i, s := range steps {
		start := time.Now()
		seen, err := s.fn()
		took := time.Since(start)
		if err != nil {
			fmt.Printf("%2d  FAILED  %s: %v\n", i+1, s.what, err)
			return fmt.Errorf("step %d: %s: %w", i+1, s.what, err)
		}
		fmt.Printf("%2d  %7.1f ms  %-44s %s\n", i+1, float64(took.Microseconds())/1000, s.what, seen)
	}
	fmt.Print(drawing())
	return nil
}
