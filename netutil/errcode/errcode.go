// Package errcode gives errors the numeric codes that a runtime reads (CNI spec, section "Error").
// docs/errors.md lists them for operators.
package errcode

import (
	"errors"
	"fmt"
)

// Codes of the CNI specification.
const (
	IncompatibleVersion uint = 1  // cniVersion, or the verb at this cniVersion, is not supported
	UnsupportedField    uint = 2  // a key of the configuration is not supported here; the message names it
	UnknownContainer    uint = 3  // the container does not exist; nothing needs cleaning up
	InvalidEnvironment  uint = 4  // a CNI_ environment variable is missing or malformed
	IOFailure           uint = 5  // reading the configuration or writing the result failed
	DecodingFailure     uint = 6  // the configuration is not JSON
	InvalidConfig       uint = 7  // the configuration is wrong; the message names the key
	InvalidNetNS        uint = 8  // CNI_NETNS is no network namespace, or is the plugin's own
	TryAgainLater       uint = 11 // a transient condition; the runtime should retry
	NotAvailable        uint = 50 // STATUS: ADD cannot be served now
	LimitedConnectivity uint = 51 // STATUS: ADD cannot be served, and running containers may be affected
)

// Codes of cnibox.
const (
	Kernel         uint = 100 // the kernel refused a request; the message names the object
	PoolExhausted  uint = 101 // no free address is left in a range set
	AddressTaken   uint = 102 // a requested address is held by another attachment
	PortBusy       uint = 103 // a host port is held by another attachment
	Differs        uint = 104 // CHECK: the kernel or the store differs from what ADD made
	AlreadyExists  uint = 105 // the interface or attachment exists already
	DelegateFailed uint = 106 // a delegated plugin could not be run or answered nonsense
	Storage        uint = 107 // the address store could not be read or written
	Internal       uint = 999 // anything without a code of its own
)

// Error is an error with its code. Errors wrap: the innermost code that a chain holds is the one reported.
type Error struct {
	Code uint
	err  error
}

// Errorf formats as fmt.Errorf does, %w included.
func Errorf(code uint, format string, args ...any) error {
	return &Error{Code: code, err: fmt.Errorf(format, args...)}
}

func (e *Error) Error() string { return e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

// Of is the innermost code in err's chain, Internal if it has none.
func Of(err error) uint {
	code := Internal
	var e *Error
	for errors.As(err, &e) {
		code = e.Code
		err = e.err
	}
	return code
}
