package main

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// sample is the cost of one operation: time on the clock, and CPU time of the processes that it started.
type sample struct{ wall, cpu time.Duration }

// timed measures fn. Nothing else may start processes meanwhile.
func timed(fn func() error) (sample, error) {
	before := childrenCPU()
	start := time.Now()
	err := fn()
	return sample{time.Since(start), childrenCPU() - before}, err
}

// childrenCPU is the CPU time of all processes that have ended, those started by them included.
func childrenCPU() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// timedOn measures fn on a thread inside the host's namespace, where the plugins it starts run too.
func (h *host) timedOn(fn func() error) (s sample, err error) {
	err = nstest.Enter(h.netns, func() error {
		s, err = timed(fn)
		return err
	})
	return s, err
}

// atOnce runs fn for all pods at the same time and measures until the last is done. The CPU time is that of one pod.
func (h *host) atOnce(ctx context.Context, pods []*pod, fn func(context.Context, *pod) error) (sample, error) {
	var ready, done sync.WaitGroup
	begin, failed := make(chan struct{}), make(chan error, len(pods))
	for _, p := range pods {
		ready.Add(1)
		done.Go(func() {
			failed <- nstest.Enter(h.netns, func() error {
				ready.Done()
				<-begin
				return fn(ctx, p)
			})
		})
	}
	ready.Wait()
	s, err := timed(func() (err error) {
		close(begin)
		for range pods {
			if e := <-failed; e != nil {
				err = e
			}
		}
		return err
	})
	done.Wait()
	s.cpu /= time.Duration(len(pods))
	return s, err
}
