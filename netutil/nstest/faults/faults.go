// Package faults runs a program and makes one of its system calls go wrong, for tests of what the program leaves behind. It traces
// with ptrace(2), all threads and children of the program; the program itself need not know.
//
// Counted, and so made to go wrong, are the calls that read or change something outside of the process: files, sockets, namespaces
// (calls_amd64.go lists them). The Go runtime's own (memory, threads, signals, timers, the poller) never are, and neither are those of
// which nobody can use a failure (close, getsockname), and what is said on stderr.
package faults

import "golang.org/x/sys/unix"

// Kind is how a system call goes wrong.
type Kind uint8

// The kinds. Each counts only those calls to which it makes a difference.
const (
	Refuse Kind = iota // the call is not executed, and fails; all calls
	Lose               // the call is executed, but its answer is lost: it fails all the same; calls that change something, or receive
	Kill               // the program is killed (SIGKILL) when the call has been executed; calls that change something
	Meddle             // something else is done before the call is executed, see Fault.Do; calls that change something
)

func (k Kind) String() string {
	return [...]string{"refuse", "lose", "kill", "meddle"}[k]
}

// Fault is what goes wrong in a run.
type Fault struct {
	Kind  Kind
	At    int        // the call that it happens to, counted from 1 over all threads and children; 0: none
	On    string     // or else the first call whose name in Outcome.Calls begins so
	Errno unix.Errno // that the call fails with, or, once, the first that it can fail with if not so; of kinds Refuse and Lose
	// Onwards has all later calls fail as well that can fail so: a disk that is full stays full. Of kind Refuse.
	Onwards bool
	Do      func() // of kind Meddle
}

// Program is what to run.
type Program struct {
	Path  string
	Args  []string // the first is the name that it is called by
	Env   []string
	Stdin []byte // at most what a pipe holds, 64 KiB
}

// Outcome is what came of a run.
type Outcome struct {
	Calls          []string       // those that were counted, each with the path or descriptor that it was about
	Errnos         [][]unix.Errno // what each of them can fail with
	Call           string         // the one that went wrong; empty if there were fewer than Fault.At
	Errno          unix.Errno     // that it failed with
	Status         unix.WaitStatus
	Stdout, Stderr []byte // at most what a pipe holds
}
