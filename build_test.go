package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// buildDir is where this test run has its executable and its farm; empty if no test needed one.
var buildDir string

func TestMain(m *testing.M) {
	status := m.Run()
	if buildDir != "" {
		_ = os.RemoveAll(buildDir)
	}
	os.Exit(status)
}

// built is the executable as `make build` makes it, built once for all tests.
var built = sync.OnceValues(func() (path string, err error) {
	if buildDir, err = os.MkdirTemp("", "cnibox-test-"); err != nil {
		return "", err
	}
	path = filepath.Join(buildDir, "build", "cnibox")
	if out, err := exec.Command("make", "build", "BIN="+path).CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return path, nil
})

// testFarm is a folder of plugins, as `cnibox install` makes it, once for all tests.
var testFarm = sync.OnceValues(func() (dir string, err error) {
	path, err := built()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(buildDir, "bin")
	if out, err := exec.Command(path, "install", "--dir", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("cnibox install: %w\n%s", err, out)
	}
	return dir, nil
})

func buildExecutable(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
