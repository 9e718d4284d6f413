// Command vm runs the tests that need network namespaces in virtual machines with Debian's own kernel, which has what this machine's may lack:
// VLANs, ipvlan, dummy, VRF, fq_codel and so on. It prints the tests' events as `go test -json` does.
//
//	go run ./scripts/vm [-run REGEXP] [-skipped EVENTS] [-cache DIR] [PACKAGE...]
//
// qemu emulates the processor, so neither KVM nor any right on the host is needed; a test takes five to twenty times as long.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/cnibox/cnibox/scripts/machine"
)

type options struct {
	run      string        // of the tests, a regular expression
	skipped  string        // file of a run's events: of the tests only those that were skipped in it
	cache    string        // folder for the kernel
	limit    time.Duration // for one machine
	packages []string
}

func main() {
	o := options{}
	home, _ := os.UserCacheDir()
	flag.StringVar(&o.run, "run", "", "only tests that match this regular expression")
	flag.StringVar(&o.skipped, "skipped", "", "file with the events of go test -json: only tests that were skipped there, and all below netutil")
	flag.StringVar(&o.cache, "cache", filepath.Join(home, "cnibox-vm"), "folder that the kernel is kept in")
	flag.DurationVar(&o.limit, "limit", 30*time.Minute, "how long a machine may run")
	flag.Parse()
	o.packages = flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

// run prepares the machines' image, and has each of them run its share of the packages.
func run(ctx context.Context, o *options) error {
	work, err := os.MkdirTemp("", "cnibox-vm-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	kernel, err := machine.FetchKernel(ctx, o.cache, metaPackage)
	if err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	suites, err := buildSuites(ctx, o, work)
	if err != nil {
		return fmt.Errorf("tests: %w", err)
	}
	image := filepath.Join(work, "initramfs")
	if err := writeImage(ctx, image, kernel, suites, work); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	shares := o.share(suites)
	done := make(chan error, len(shares))
	for i, s := range shares {
		m := virtual{kernel: kernel.Path, image: image, dir: filepath.Join(work, fmt.Sprint("machine", i)), limit: o.limit}
		go func() { done <- m.run(ctx, s) }()
	}
	var errs []error
	for range shares {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

// share splits the suites among two machines. All tests of this module's own package take as long as those of all others.
func (o *options) share(suites []suite) [][]suite {
	shares := make([][]suite, 2)
	for i, s := range suites {
		turn := i % 2
		if o.skipped == "" {
			if turn = 1; s.dir == "." {
				turn = 0
			}
		}
		shares[turn] = append(shares[turn], s)
	}
	return slices.DeleteFunc(shares, func(s []suite) bool { return len(s) == 0 })
}
