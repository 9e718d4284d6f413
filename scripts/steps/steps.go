// Package steps prints what a program for developers does, a step a line.
package steps

import (
	"fmt"
	"time"
)

// Do does the step of a number, which tells what was seen, and prints a line with the time it took.
func Do(number int, what string, fn func() (string, error)) error {
	start := time.Now()
	seen, err := fn()
	took := time.Since(start)
	if err != nil {
		fmt.Printf("%2d  FAILED  %s: %v\n", number, what, err)
		return fmt.Errorf("step %d: %s: %w", number, what, err)
	}
	fmt.Printf("%2d  %7.1f ms  %-44s %s\n", number, float64(took.Microseconds())/1000, what, seen)
	return nil
}
