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
)

func (k Kind) String() string {
	return [...]string{"refuse", "lose", "kill"}[k]
}

// Fault is what goes wrong in a run.
type Fault struct {
	Kind  Kind
	At    int        // the call that it happens to, counted from 1 over all threads and children; 0: none
	Errno unix.Errno // that the call fails with; not for Kill
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
	Calls          []string // those that were counted, each with the path or descriptor that it was about
	Call           string   // the one that went wrong; empty if there were fewer than Fault.At
	Status         unix.WaitStatus
	Stdout, Stderr []byte // at most what a pipe holds
}
