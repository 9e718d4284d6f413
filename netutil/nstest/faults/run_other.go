//go:build !amd64

package faults

import "errors"

// Run is for amd64 only: registers and numbers of calls are the processor's own.
func Run(Program, Fault) (*Outcome, error) { return nil, errors.ErrUnsupported }
