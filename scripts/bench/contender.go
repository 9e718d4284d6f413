package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	refplugins "github.com/cnibox/cnibox/scripts/reference"
)

// The contenders' names, as the table shows them.
const (
	cnibox      = "cnibox"
	cniboxFused = "cnibox fused"
	floor       = "floor"
	// In the case of the tunnel, the same beside it.
	cniboxDirect = "cnibox direct"
	floorDirect  = "floor direct"
	nothing      = "nothing"
	reference    = "reference"
	refNftables  = "reference nftables"
	refIptables  = "reference iptables"
)

// contender is a set of plugins, with the packet filter that they are told to use.
type contender struct {
	name    string
	bin     string
	backend string
}

// referenceDir keeps the reference plugins between runs.
const referenceDir = "bin/reference"

// prepare builds all plugins, ours excepted, which is installed as on a node.
func prepare(opts options, temp string) error {
	fmt.Fprintln(os.Stderr, "prepare:", reference)
	if err := refplugins.Build(referenceDir); err != nil {
		return err
	}
	floorDir := filepath.Join(temp, floor)
	for _, args := range [][]string{
		{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(floorDir, "bridge"), "./scripts/bench/floor"},
		{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(temp, nothing, "bridge"), "./scripts/bench/nothing"},
		{opts.cnibox, "install", "--dir", filepath.Join(temp, cnibox)},
	} {
		fmt.Fprintln(os.Stderr, "prepare:", filepath.Base(args[len(args)-1]))
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	}
	return os.Symlink("bridge", filepath.Join(floorDir, "ptp"))
}

func contenders(temp string, roles map[string]bool) []contender {
	ref, err := filepath.Abs(referenceDir)
	if err != nil {
		ref = referenceDir
	}
	own := filepath.Join(temp, cnibox)
	all := []contender{
		{cnibox, own, ""},
		{reference, ref, "nftables"},
		{refNftables, ref, "nftables"},
		{refIptables, ref, "iptables"},
		{floor, filepath.Join(temp, floor), ""},
		{nothing, filepath.Join(temp, nothing), ""},
	}
	if roles["cnibox"] {
		all = append(all, contender{cniboxFused, own, ""})
	}
	return all
}

// fused is a list in the form that runs all its plugins in one process.
func fused(c contender, list []byte, dir string) ([]byte, error) {
	file := filepath.Join(dir, "bench.conflist")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		return nil, err
	}
	out, err := exec.Command(filepath.Join(c.bin, cnibox), "fuse", file).Output()
	if err != nil {
		return nil, fmt.Errorf("cnibox fuse: %w", err)
	}
	return out, nil
}

// ownRoles is what cnibox can do by now.
func ownRoles(executable string) (map[string]bool, error) {
	out, err := exec.Command(executable, "roles", "--output", "json").Output()
	if err != nil {
		return nil, fmt.Errorf("%s roles: %w", executable, err)
	}
	var infos []struct{ Name string }
	if err := json.Unmarshal(out, &infos); err != nil {
		return nil, fmt.Errorf("%s roles: %w", executable, err)
	}
	roles := map[string]bool{}
	for _, info := range infos {
		roles[info.Name] = true
	}
	return roles, nil
}
