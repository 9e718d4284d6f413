// Package errtest checks errors in tests.
package errtest

import (
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// Want fails the test unless the error has the code and is one line that says all of these.
func Want(t testing.TB, err error, code uint, says ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want code %d that says %q", code, says)
		return
	}
	if got := errcode.Of(err); got != code {
		t.Errorf("code %d, want %d: %v", got, code, err)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not say %q", err, s)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q is more than a line", err)
	}
}

// WantKey is Want for bad input: the error must begin with the key, as the configuration has it.
func WantKey(t testing.TB, err error, code uint, begins string) {
	t.Helper()
	Want(t, err, code)
	if err != nil && !strings.HasPrefix(err.Error(), begins) {
		t.Errorf("error %q does not begin with %q", err, begins)
	}
}
