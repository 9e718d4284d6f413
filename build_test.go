package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// builtExecutable is the executable as `make build` makes it, once for all tests of the package. TestMain removes it.
func builtExecutable(t *testing.T) string {
	t.Helper()
	path, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// CNIBOX_TEST_EXECUTABLE names one that was built beforehand, for a machine without the go command (scripts/vm).
var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "cnibox-test-")
	if err != nil {
		return "", err
	}
	buildDir = dir
	path := filepath.Join(dir, "cnibox")
	if built := os.Getenv("CNIBOX_TEST_EXECUTABLE"); built != "" {
		program, err := os.ReadFile(built)
		if err != nil {
			return "", err
		}
		return path, os.WriteFile(path, program, 0o755)
	}
	if out, err := exec.Command("make", "build", "BIN="+path).CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return path, nil
})

var buildDir string

// parallel is how many tests run at once: those with plugins mostly wait for the kernel, which takes namespaces and links away at leisure.
const parallel = "10"

func TestMain(m *testing.M) {
	if profile := os.Getenv(seccompVariable); profile != "" {
		panic(runUnderSeccomp(profile, os.Args[1:]))
	}
	flag.Parse()
	if !isSet("test.parallel") {
		if err := flag.Set("test.parallel", parallel); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if buildDir != "" {
		_ = os.RemoveAll(buildDir)
	}
	os.Exit(code)
}

func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}
