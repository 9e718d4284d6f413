package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// arch is an architecture, by the names that it has with Go, Debian, RPM and OCI.
type arch struct {
	name     string // Go's, and that of OCI
	deb, rpm string
	variant  string // OCI's
	env      string // of Go's compiler
}

func arches() []arch {
	return []arch{
		{name: "amd64", deb: "amd64", rpm: "x86_64"},
		{name: "arm64", deb: "arm64", rpm: "aarch64", variant: "v8"},
		{name: "arm", deb: "armhf", rpm: "armv7hl", variant: "v7", env: "GOARM=7"},
		{name: "riscv64", deb: "riscv64", rpm: "riscv64"},
		{name: "s390x", deb: "s390x", rpm: "s390x"},
		{name: "ppc64le", deb: "ppc64el", rpm: "ppc64le"},
		{name: "loong64", deb: "loong64", rpm: "loongarch64"},
	}
}

func chosenArches(names string) (chosen []arch, err error) {
	all := arches()
	if names == "" {
		return all, nil
	}
	for name := range strings.FieldsSeq(names) {
		at := slices.IndexFunc(all, func(a arch) bool { return a.name == name })
		if at < 0 {
			return nil, fmt.Errorf("no architecture %q", name)
		}
		chosen = append(chosen, all[at])
	}
	return chosen, nil
}

// build builds the executable of an architecture by `make build`, so that there is one place for how that is done.
func (r *release) build(a arch) (string, error) {
	path := filepath.Join(r.work, a.name, "cnibox")
	return path, r.makeBuild(path, "GOOS=linux", "GOARCH="+a.name, a.env)
}

func (r *release) makeBuild(path string, env ...string) error {
	cmd := exec.Command("make", "build", "BIN="+path, "VERSION="+r.version)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make build: %w\n%s", err, out)
	}
	return nil
}
