package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The installer of a DaemonSet installs, stays, and ends with success at SIGTERM; what it has installed stays.
func TestInstallWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, []byte(`{"name": "podnet", "plugins": [{"type": "bridge"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	farm, to := filepath.Join(dir, "bin"), filepath.Join(dir, "net.d/10.conflist")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, builtExecutable(t), "install", "--dir", farm, "--conf", conf, "--conf-to", to, "--wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := ""
	for b := make([]byte, 4096); !strings.Contains(said, "waiting for SIGTERM"); {
		n, err := out.Read(b)
		said += string(b[:n])
		if err != nil {
			t.Fatalf("it ended and said %q (%v)", said, err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("at SIGTERM it ended with %v", err)
	}
	for _, path := range []string{filepath.Join(farm, "bridge"), to} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}
