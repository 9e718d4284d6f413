// Command demo shows a pod network at work, from the installed executable to proof that nothing is left: a host, three pods and an
// "outside" as network namespaces, driven through libcni as a container runtime would. It runs in namespaces of its own, which end with it.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/cnibox/cnibox/scripts/private"
)

func main() {
	executable := flag.String("cnibox", "bin/cnibox", "the executable to show")
	conf := flag.String("conf", "testdata/demo/mynet.conf", "the network configuration to run")
	flag.Parse()
	run := func() error { return private.Again() }
	if private.Inside() {
		run = func() error { return show(*executable, *conf) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
