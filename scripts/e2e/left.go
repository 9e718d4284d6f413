package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// place is where a host has what pods may leave.
type place struct{ netns, runDir, varLib string }

// here is the place of a client's host.
var here = place{hostNS, "/run", "/var/lib"}

// reserved are the addresses of a network that host-local holds.
func reserved(network string) ([]string, error) { return here.reserved(network) }

func (p place) reserved(network string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(p.varLib, "cni/networks", network))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if strings.ContainsAny(e.Name(), "0123456789") && !strings.HasPrefix(e.Name(), "last_reserved_ip") {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// wantReserved compares the reserved addresses of a network with those that pods have.
func wantReserved(network string, addrs ...string) error { return here.wantReserved(network, addrs...) }

func (p place) wantReserved(network string, addrs ...string) error {
	got, err := p.reserved(network)
	if err != nil {
		return err
	}
	slices.Sort(got)
	slices.Sort(addrs)
	if !slices.Equal(got, addrs) {
		return fmt.Errorf("%s has the addresses %q reserved, and not %q", network, got, addrs)
	}
	return nil
}

// nothingLeft looks for what pods might have left on the host: links, rules, entries of the packet filter, records, reserved addresses,
// cached results, namespaces.
func nothingLeft(keep ...string) (string, error) {
	leaks, err := here.leaks(keep...)
	if err == nil && len(leaks) > 0 {
		err = fmt.Errorf("left over: %s", strings.Join(leaks, ", "))
	}
	return "no link, rule, packet filter entry, record, address, cached result, namespace", err
}

func (p place) leaks(keep ...string) ([]string, error) {
	host := &nstest.NS{Path: p.netns, RunDir: p.runDir}
	leaks, err := host.Leaks(append(keep, "uplink")...)
	if err != nil {
		return nil, err
	}
	networks, err := os.ReadDir(p.varLib + "/cni/networks")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, network := range networks {
		addrs, err := p.reserved(network.Name())
		if err != nil {
			return nil, err
		}
		for _, addr := range addrs {
			leaks = append(leaks, "address "+addr+" of "+network.Name())
		}
	}
	for _, pattern := range []string{p.varLib + "/cni/results/*", p.runDir + "/netns/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		leaks = append(leaks, files...)
	}
	return leaks, nil
}

// removeCgroups removes the control groups that a runtime has made below one of ours, when their processes have ended.
func removeCgroups(name string) error {
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		tops, err := filepath.Glob(pattern + name)
		if err != nil {
			return err
		}
		for _, top := range tops {
			if err := removeCgroup(top); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeCgroup(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		err := waitUntil("the killed processes have ended", func() (bool, error) {
			err := os.Remove(dir)
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// living is what `cnibox gc` makes of what a runtime keeps on disk: everything that is there of the pods must be the runtime's, of at least so many.
func (h *host) living(runtime string, least int) (string, error) {
	out, err := h.run(filepath.Join(farm, "cnibox"), "gc", "--runtime", runtime, "--older-than", "0s", "--conf-dir", confDir, "--plugin-dir", farm, "--output", "json")
	if err != nil {
		return "", err
	}
	var r struct {
		Attachments []struct{ Network, ContainerID, Kept string }
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	for _, a := range r.Attachments {
		if a.Kept != runtime+" has the container" {
			return "", fmt.Errorf("%s of %s: kept %q", a.ContainerID, a.Network, a.Kept)
		}
	}
	if len(r.Attachments) < least {
		return "", fmt.Errorf("%d attachments, want %d", len(r.Attachments), least)
	}
	return fmt.Sprintf("%d attachments kept, none would go", len(r.Attachments)), nil
}
