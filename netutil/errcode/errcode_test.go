package errcode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
)

// The code that is told is that of the cause, however often it was wrapped or joined with others on its way.
func TestOf(t *testing.T) {
	t.Parallel()
	taken := Errorf(AddressTaken, "10.0.0.5 is held by %s", "pod a")
	plain := errors.New("plain")
	for name, c := range map[string]struct {
		err  error
		want uint
	}{
		"none":                 {plain, Internal},
		"nil":                  {nil, Internal},
		"one":                  {taken, AddressTaken},
		"wrapped by none":      {fmt.Errorf("ADD: %w", taken), AddressTaken},
		"wrapped by a code":    {Errorf(DelegateFailed, "ipam: %w", taken), AddressTaken},
		"wrapped twice":        {Errorf(InvalidConfig, "x: %w", fmt.Errorf("y: %w", Errorf(Kernel, "z: %w", taken))), AddressTaken},
		"a code around none":   {Errorf(Storage, "folder: %w", plain), Storage},
		"told, not wrapped":    {Errorf(NotAvailable, "no address: %s", taken), NotAvailable},
		"the first of several": {errors.Join(taken, Errorf(Kernel, "link")), AddressTaken},
		"joined behind none":   {errors.Join(plain, Errorf(Kernel, "link: %w", taken)), AddressTaken},
		"joined, then wrapped": {Errorf(Kernel, "DEL: %w", errors.Join(nil, plain)), Kernel},
		"joined within a code": {Errorf(Kernel, "DEL: %w", errors.Join(plain, taken)), AddressTaken},
		"two wrapped at once":  {fmt.Errorf("%w, %w", plain, taken), AddressTaken},
	} {
		if got := Of(c.err); got != c.want {
			t.Errorf("%s: code %d, want %d", name, got, c.want)
		}
	}
}

// What is wrapped can still be asked for, and the text is that of fmt.Errorf.
func TestErrorf(t *testing.T) {
	t.Parallel()
	_, cause := os.Open("/nowhere/x")
	err := Errorf(Storage, "network %q: %w", "net", cause)
	if got, want := err.Error(), `network "net": open /nowhere/x: no such file or directory`; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	var path *fs.PathError
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &path) || path.Path != "/nowhere/x" {
		t.Errorf("%v hides its cause", err)
	}
	if errors.Is(err, fs.ErrExist) {
		t.Errorf("%v is what it is not", err)
	}
}
