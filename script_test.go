package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cnibox/cnibox/ipam/dhcp/dhcptest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
)

// The scripts call the real executable through the symlinks of a farm, as a runtime would, on a host and pods that are namespaces of each
// script's own. testdata/scripts/README.md tells of their commands.
const scriptDir = "testdata/scripts"

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, scriptParams(t, scriptDir, roles.Versions()[len(roles.Versions())-1]))
}

// TestMatrix runs the script of each role with each version of the specification, and with a configuration that names none.
func TestMatrix(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(scriptDir, "matrix")
	for _, role := range rolesOf(t, builtExecutable(t)) {
		if _, err := os.Stat(filepath.Join(dir, role+".txtar")); err != nil {
			t.Errorf("the role %s has no script: %v", role, err)
		}
	}
	for _, version := range append(roles.Versions(), "none") {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			params := scriptParams(t, dir, version)
			setup := params.Setup
			params.Setup = func(env *testscript.Env) error {
				if err := setup(env); err != nil {
					return err
				}
				env.Defer(func() { wantAllVerbs(env) })
				return nil
			}
			testscript.Run(t, params)
		})
	}
}

// rolesOf asks the executable itself.
func rolesOf(t *testing.T, executable string) []string {
	t.Helper()
	out, err := exec.Command(executable, "roles", "--output", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var infos []roleInfo
	if err := json.Unmarshal(out, &infos); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, info := range infos {
		names = append(names, info.Name)
	}
	return names
}

// wantAllVerbs fails a script of the matrix that has not called its role with every verb.
func wantAllVerbs(env *testscript.Env) {
	h := env.Values[hostKey{}].(*scriptHost)
	if h.t.Failed() || h.t.Skipped() {
		return
	}
	role := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
	for _, verb := range []string{"ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION"} {
		if !slices.Contains(h.calls, verb+" "+role) {
			h.t.Errorf("the script does not call %s of %s", verb, role)
		}
	}
}

// scriptParams is how scripts run, with configurations of a version of the specification; "none" stands for a configuration from before
// the key cniVersion.
func scriptParams(t *testing.T, dir, version string) testscript.Params {
	t.Helper()
	answered, key := version, fmt.Sprintf("%q: %q,", "cniVersion", version)
	if version == "none" {
		answered, key = "0.1.0", ""
	}
	return testscript.Params{
		Dir:                dir,
		WorkdirRoot:        t.TempDir(), // testscript leaves one of its own behind where -run chooses among the scripts
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("VERSION", answered)
			env.Setenv("CNIVERSION", key)
			env.Setenv("FORMAT", resultFormat(answered))
			return newScriptHost(env)
		},
		Condition: func(condition string) (bool, error) {
			if feature, ok := strings.CutPrefix(condition, "kernel:"); ok {
				return nstest.Has(t, feature), nil
			}
			least, ok := strings.CutPrefix(condition, "since:")
			if !ok || !slices.Contains(roles.Versions(), least) {
				return false, fmt.Errorf("unknown condition %q", condition)
			}
			return slices.Index(roles.Versions(), answered) >= slices.Index(roles.Versions(), least), nil
		},
		Cmds: scriptCommands(),
	}
}

// resultFormat is the version that brought the form in which results of a version are written.
func resultFormat(version string) string {
	form := "0.1.0"
	for _, first := range []string{"0.3.0", "1.0.0", "1.1.0"} {
		if slices.Index(roles.Versions(), version) >= slices.Index(roles.Versions(), first) {
			form = first
		}
	}
	return form
}

// testFarm is a folder of plugins, as `cnibox install` makes it, once for all scripts.
var testFarm = sync.OnceValues(func() (string, error) {
	executable, err := buildOnce()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(buildDir, "farm")
	if out, err := exec.Command(executable, "install", "--dir", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("cnibox install: %w\n%s", err, out)
	}
	return dir, nil
})

// scriptHost is the machine that a script plays on.
type scriptHost struct {
	t     testing.TB
	ns    *nstest.NS
	pods  map[string]*nstest.NS
	farm  string
	data  string   // where configurations tell host-local to keep its files
	calls []string // "VERB role"

	dhcpd  *dhcptest.Server
	daemon *exec.Cmd // cnibox dhcp daemon
}

type hostKey struct{}

func newScriptHost(env *testscript.Env) error {
	dir, err := testFarm()
	if err != nil {
		return err
	}
	t := env.T().(testing.TB)
	h := &scriptHost{t: t, ns: nstest.New(t, "host"), pods: map[string]*nstest.NS{}, farm: dir}
	h.ns.VarLib = filepath.Join(env.WorkDir, ".var-lib")
	h.data = filepath.Join(env.WorkDir, "data")
	if err := os.MkdirAll(filepath.Join(h.ns.VarLib, "cni"), 0o755); err != nil {
		return err
	}
	env.Setenv("FARM", dir)
	env.Setenv("DATADIR", h.data)
	env.Setenv("HOST", h.ns.Path)
	env.Values[hostKey{}] = h
	return nil
}
