package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// progress is what is going on, on standard error: on a terminal one line that changes, else a line now and then.
type progress struct {
	mu       sync.Mutex
	terminal bool
	last     time.Time
}

const progressEvery = 10 * time.Second

func newProgress() *progress {
	_, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS)
	return &progress{terminal: err == nil, last: time.Now()}
}

func (p *progress) show(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.terminal:
		fmt.Fprintf(os.Stderr, "\r\033[K"+format, args...)
	case time.Since(p.last) > progressEvery:
		p.last = time.Now()
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}
}

// done is a line that stays.
func (p *progress) done(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
