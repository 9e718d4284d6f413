//go:build !amd64

package main

// seccompNumbers are for amd64 only: the numbers of system calls are the processor's own.
func seccompNumbers() map[string]uint32 { return nil }
