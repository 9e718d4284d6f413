// Command e2e has unmodified clients attach pods through a farm of cnibox, and looks at what their users would notice: packets that arrive,
// addresses that are given back, rules that go. Each client is on a host of its own (network, processes, /run, /var/lib), which ends with it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cnibox/cnibox/scripts/private"
	"github.com/cnibox/cnibox/scripts/steps"
)

// scene is a client's: what it does, step by step.
type scene struct {
	client string
	steps  func(*host) []step
	// alone is whether it makes its hosts itself, or installs by itself. It needs much that make builds, and is played only if it is named.
	alone bool
}

// step is something that is done, which tells what was seen.
type step struct {
	what string
	fn   func() (string, error)
}

func scenes() []scene {
	return []scene{
		{"cnitool", cnitoolSteps, false},
		{"containerd", containerdSteps, false},
		{"containerd2", containerd2Steps, false},
		{"podman", podmanSteps, false},
		{"kubernetes", kubernetesSteps, true},
		{"packages", packagesSteps, true},
		{"qemu", emulatedSteps, true},
	}
}

// Environment of the program's second start.
const (
	clientEnv = "CNIBOX_E2E_CLIENT"
	cgroupEnv = "CNIBOX_E2E_CGROUP"
)

func main() {
	executable := flag.String("cnibox", "bin/cnibox", "the executable to install")
	programs := flag.String("programs", "bin/e2e", "the folder of what make has built for it")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: e2e [FLAG]... [CLIENT]... (all clients but kubernetes, packages and qemu unless some are named)")
		flag.PrintDefaults()
	}
	flag.Parse()
	var err error
	switch {
	case private.IsInit():
		err = private.Init()
	case os.Getenv(nodeEnv) != "":
		err = beNode(os.Getenv(nodeEnv))
	case private.Inside():
		err = play(*executable, *programs, os.Getenv(clientEnv))
	default:
		err = all(flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
}

// all plays the scenes of the clients, even if one fails.
func all(clients []string) error {
	known := map[string]bool{}
	for _, s := range scenes() {
		known[s.client] = true
	}
	for _, c := range clients {
		if !known[c] {
			return fmt.Errorf("no client %q", c)
		}
	}
	var failed []error
	for _, s := range scenes() {
		if named := slices.Contains(clients, s.client); !named && (len(clients) > 0 || s.alone) {
			continue
		}
		cgroup := fmt.Sprintf("cnibox-e2e-%d", os.Getpid())
		err := private.AgainAsInit(clientEnv+"="+s.client, cgroupEnv+"="+cgroup)
		if err := errors.Join(err, removeCgroups(cgroup)); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.client, err))
		}
	}
	return errors.Join(failed...)
}

// play plays the scene of a client.
func play(executable, programs, client string) (err error) {
	h := &host{cgroup: os.Getenv(cgroupEnv)}
	if h.executable, err = filepath.Abs(executable); err != nil {
		return err
	}
	if h.programs, err = filepath.Abs(programs); err != nil {
		return err
	}
	if err := h.folders(); err != nil {
		return err
	}
	fmt.Printf("\n%s\n", client)
	for _, s := range scenes() {
		if s.client != client {
			continue
		}
		var all []step
		if !s.alone {
			all = []step{{"make a host and an outside", h.makeNetwork}, {"install all plugins", h.install}}
		}
		for i, st := range append(all, s.steps(h)...) {
			if err := steps.Do(i+1, st.what, st.fn); err != nil {
				return errors.Join(err, h.explain())
			}
		}
	}
	return nil
}
