// Command bench measures what attaching a pod costs: with cnibox, with the reference plugins, and with a bare floor program that does no
// more than the kernel's part. All are driven through libcni, in turns, on hosts of their own (docs/benchmarks.md).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/cnibox/cnibox/scripts/private"
)

// options are the command line's.
type options struct {
	cnibox     string
	out        string
	cases      *regexp.Regexp
	contenders *regexp.Regexp
	pods       []int
	rounds     int
	quick      bool
}

func main() {
	opts, err := parse(os.Args[1:])
	if err == nil && private.Inside() {
		err = inside(opts)
	} else if err == nil {
		err = outside(opts)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var opts options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&opts.cnibox, "cnibox", "bin/cnibox", "the executable to measure")
	f.StringVar(&opts.out, "out", "dist/bench", "folder for the table, the figures (JSON) and the picture (SVG)")
	cases := f.String("cases", "", "regular expression: measure only the cases whose name matches")
	contenders := f.String("contenders", "", "regular expression: measure only the contenders whose name matches")
	pods := f.String("pods", "", "numbers of existing pods to measure at (1,100,1000; quick: 1,100)")
	f.IntVar(&opts.rounds, "rounds", 0, "rounds of each case (20; quick: 5)")
	f.BoolVar(&opts.quick, "quick", false, "the short form, under five minutes")
	if err := f.Parse(args); err != nil {
		return opts, err
	}
	if *pods == "" {
		*pods = pick(opts.quick, "1,100", "1,100,1000")
	}
	if opts.rounds == 0 {
		opts.rounds = pick(opts.quick, 5, 20)
	}
	var err1, err2, err3 error
	opts.cases, err1 = regexp.Compile(*cases)
	opts.contenders, err2 = regexp.Compile(*contenders)
	opts.pods, err3 = numbers(*pods)
	return opts, errors.Join(err1, err2, err3)
}

func pick[T any](condition bool, yes, no T) T {
	if condition {
		return yes
	}
	return no
}

// numbers reads a list that must rise, since pods are only ever added to a host.
func numbers(list string) ([]int, error) {
	var all []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || len(all) > 0 && n <= all[len(all)-1] {
			return nil, fmt.Errorf("-pods %s: not a rising list of numbers", list)
		}
		all = append(all, n)
	}
	return all, nil
}

// tempVar names the folder of the run in the environment of the second start.
const tempVar = "CNIBOX_BENCH_TEMP"

// outside builds the contenders and starts the program again in namespaces of its own. What lies on disk is its business, since it is the
// one that an interrupt leaves alone.
func outside(opts options) (err error) {
	temp, err := os.MkdirTemp("", "cnibox-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if err := prepare(opts, temp); err != nil {
		return err
	}
	return private.Again(tempVar + "=" + temp)
}

func inside(opts options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := private.Folders(); err != nil {
		return err
	}
	b, err := newBench(opts, os.Getenv(tempVar))
	if err != nil {
		return err
	}
	failed := b.run(ctx)
	return errors.Join(failed, b.report.write(opts.out))
}
