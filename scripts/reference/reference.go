// Package reference builds the reference plugins, as tools/reference/go.mod names them.
package reference

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build puts plugins into a folder, under their own names; all of them if none is named. A plugin is named with the folder that it is in, such as
// "main/bridge". The caller runs anywhere within the repository.
func Build(into string, plugins ...string) error {
	module, err := module()
	if err != nil {
		return err
	}
	if into, err = filepath.Abs(into); err != nil {
		return err
	}
	args := []string{"-C", module, "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", into + "/"}
	for _, p := range plugins {
		args = append(args, "github.com/containernetworking/plugins/plugins/"+p)
	}
	if len(plugins) == 0 {
		args = append(args, "tool")
	}
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// module is the folder of the module that names the plugins.
func module() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		path := filepath.Join(dir, "tools", "reference")
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("no tools/reference/go.mod here or above")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}
