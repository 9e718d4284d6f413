// Package eintr is for system calls that package os does not make.
package eintr

import "golang.org/x/sys/unix"

// Retry makes a system call until no signal interrupts it any more (EINTR, signal(7)), and returns the last error.
func Retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR { //nolint:errorlint // a system call's own number
			return err
		}
	}
}
