package fuse

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
)

const fusible = `{"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}`

func TestFuseCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"net.conflist": fusible, "single.conf": `{"name": "net", "type": "ptp"}`, "bad.conflist": `{`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args   string // DIR stands for the folder
		exit   int
		stdout string // part of it
		stderr string // part of it; empty: nothing at all
	}{
		{"DIR/net.conflist", ui.ExitOK, `"type": "cnibox"`, ""},
		{"", ui.ExitUsage, "", "fuse takes one file"},
		{"DIR/net.conflist DIR/x", ui.ExitUsage, "", "fuse takes one file: DIR/net.conflist DIR/x"},
		{"--output= DIR/net.conflist", ui.ExitUsage, "", "--output is empty"},
		{"DIR/missing", ui.ExitFailure, "", "DIR/missing: no such file"},
		{"DIR/single.conf", ui.ExitFailure, "", "DIR/single.conf: plugins: missing; this is the configuration of a single plugin"},
		{"--output DIR/out DIR/bad.conflist", ui.ExitFailure, "", "DIR/bad.conflist: the network configuration is not JSON"},
		{"--output DIR/none/out DIR/net.conflist", ui.ExitFailure, "", "DIR/none/"},
		{"--output DIR DIR/net.conflist", ui.ExitFailure, "", "DIR"},
	} {
		stdout, stderr, exit := runFuse(strings.ReplaceAll(tt.args, "DIR", dir))
		if exit != tt.exit || !strings.Contains(stdout, tt.stdout) || tt.stdout == "" && stdout != "" {
			t.Errorf("fuse %s: exit %d with %s", tt.args, exit, stdout)
		}
		if want := strings.ReplaceAll(tt.stderr, "DIR", dir); want == "" && stderr != "" || !strings.Contains(stderr, want) {
			t.Errorf("fuse %s: stderr %q, want %q in it", tt.args, stderr, want)
		}
	}
	wantNames(t, dir, "bad.conflist net.conflist single.conf")
}

func runFuse(args string) (stdout, stderr string, exit int) {
	var out, err bytes.Buffer
	app := &cli.App{Name: "cnibox", Writer: &out, ErrWriter: &err, Commands: []*cli.Command{Command()}}
	exit = ui.Main(context.Background(), app, append([]string{"fuse"}, strings.Fields(args)...))
	return out.String(), err.String(), exit
}

func wantNames(t *testing.T, dir, want string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != want {
		t.Errorf("the folder has %s, not %s", got, want)
	}
}

// The list itself may be replaced. It keeps its permissions, and who has it open still reads the old one.
func TestFuseInPlace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "net.conflist")
	if err := os.WriteFile(path, []byte(fusible), 0o600); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	want, _, _ := runFuse(path)
	if _, stderr, exit := runFuse("-o " + path + " " + path); exit != ui.ExitOK {
		t.Fatal(stderr)
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want || !strings.Contains(want, `"cnibox"`) {
		t.Errorf("the file has %s, stdout had %s (%v)", got, want, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	var read bytes.Buffer
	if _, err := read.ReadFrom(old); err != nil || read.String() != fusible {
		t.Errorf("the old file has changed: %s (%v)", &read, err)
	}
	wantNames(t, filepath.Dir(path), "net.conflist")
}
