package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cnibox/cnibox/scripts/private"
)

// node is one of many hosts, with a runtime of its own.
type node struct {
	*private.Node
	name    string
	addr    string
	runtime *runtime
	pods    []*pod
}

// peersFile is where the configurations have it.
const peersFile = "/var/lib/podnet/peers.json"

func newNode(name, addr, farm, confs string) (*node, error) {
	conf, err := os.ReadFile(filepath.Join(confs, name+".conf"))
	if err != nil {
		return nil, err
	}
	n := &node{name: name, addr: addr}
	if n.runtime, err = newRuntime(farm, conf); err != nil {
		return nil, err
	}
	n.Node, err = private.NewNode(name)
	return n, err
}

// add attaches a new pod, on which a server tells who asks.
func (n *node) add(name string) error {
	path, err := n.NewPod(name)
	if err != nil {
		return err
	}
	p := &pod{name: name, netns: path}
	if err := n.Do(func() error { return n.runtime.add(context.Background(), p) }); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	n.pods = append(n.pods, p)
	return serve(p.netns, podPort)
}

// each calls a verb for each of the node's pods.
func (n *node) each(verb func(context.Context, *pod) error) error {
	for _, p := range n.pods {
		if err := n.Do(func() error { return verb(context.Background(), p) }); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// tell replaces the node's list of peers as a whole, so that nobody ever reads half of it.
func (n *node) tell(peers []byte) error {
	return n.Do(func() error {
		if err := os.MkdirAll(filepath.Dir(peersFile), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(peersFile+".new", peers, 0o644); err != nil {
			return err
		}
		return os.Rename(peersFile+".new", peersFile)
	})
}

// run runs a program on the node.
func (n *node) run(name string, args ...string) (out string, err error) {
	err = n.Do(func() (err error) {
		out, err = run(name, args...)
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s: %w", n.name, err)
	}
	return out, err
}

// run runs a program and returns what it printed.
func run(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// ip runs ip(8) for each line.
func ip(lines ...string) error {
	for _, line := range lines {
		if _, err := run("ip", strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// nothingLeft looks for what the pods, and the tunnel, might have left on the node.
func (n *node) nothingLeft() error {
	return n.Do(func() error {
		links, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, l := range links {
			if l.Name != "lo" && l.Name != "eth0" {
				return fmt.Errorf("%s: interface %s is left", n.name, l.Name)
			}
		}
		for _, left := range [][]string{
			{"routes", "ip", "route", "show", "proto", "193"},
			{"IPv6 routes", "ip", "-6", "route", "show", "proto", "193"},
			{"reserved addresses", "find", "/var/lib/cni/networks", "-name", "10.*", "-o", "-name", "fd00:*"},
			{"state of the tunnel", "find", "/var/lib/cni/overlay", "-type", "f"},
			{"entries of the packet filter", "sh", "-c", "nft list ruleset | sed -n /elements/,/}/p"},
		} {
			out, err := run(left[1], left[2:]...)
			if err != nil {
				return err
			}
			if out != "" {
				return fmt.Errorf("%s: %s are left: %s", n.name, left[0], out)
			}
		}
		return nil
	})
}
