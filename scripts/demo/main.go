// Command demo shows pod networks at work, from the installed executable to proof that nothing is left, driven through libcni as a container
// runtime would. Hosts, pods and what is between them are network namespaces. It runs in namespaces of its own, which end with it.
//
// The first scene is one host with three pods and an "outside" (onenode.go), the second four hosts with two pods each and a tunnel between them
// (manynodes.go).
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/cnibox/cnibox/scripts/private"
)

func main() {
	executable := flag.String("cnibox", "bin/cnibox", "the executable to show")
	conf := flag.String("conf", "testdata/demo/mynet.conf", "the network configuration of the first scene")
	confs := flag.String("confs", "testdata/demo/podnet", "the folder with the network configurations of the second scene, and the peers")
	flag.Parse()
	run := func() error { return private.Again() }
	if private.Inside() {
		run = func() error { return show(*executable, *conf, *confs) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func show(executable, conf, confs string) (err error) {
	farm, err := os.MkdirTemp("", "cnibox-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(farm)) }()
	if err := private.Folders(); err != nil {
		return err
	}
	if err := playOneNode(executable, farm, conf); err != nil {
		return err
	}
	fmt.Println()
	return playManyNodes(farm, confs)
}
