package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// An ADD that waits for another's program ends when it is told to, and takes back what that has done; the program is told as well.
func TestInterruptedProgram(t *testing.T) {
	t.Parallel()
	host, pod := nstest.New(t, "host"), nstest.New(t, "pod")
	dir := t.TempDir()
	const slow = "#!/bin/sh\necho $CNI_COMMAND >>$0.calls\n[ $CNI_COMMAND != ADD ] || exec sleep 20\n"
	if err := os.WriteFile(filepath.Join(dir, "slow"), []byte(slow), 0o755); err != nil {
		t.Fatal(err)
	}
	executable := builtExecutable(t)
	called, out, start := filepath.Join(dir, "slow.calls"), "", time.Time{}
	err := host.Do(func() error {
		cmd := exec.Command(executable, "ptp")
		cmd.Env = append(os.Environ(), "CNI_COMMAND=ADD", "CNI_CONTAINERID=pod", "CNI_IFNAME=eth0", "CNI_NETNS="+pod.Path, "CNI_PATH="+dir)
		cmd.Stdin = strings.NewReader(`{"cniVersion":"1.0.0","name":"net","type":"ptp","ipam":{"type":"slow"}}`)
		var stdout strings.Builder
		cmd.Stdout = &stdout
		if err := cmd.Start(); err != nil {
			return err
		}
		for range 300 { // it has to have come to the program
			if text, _ := os.ReadFile(called); len(text) > 0 {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		start = time.Now()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		err := cmd.Wait()
		out = stdout.String()
		return err
	})
	if err == nil || !strings.Contains(out, "interrupted") || time.Since(start) > 10*time.Second {
		t.Errorf("%v after %s: %s", err, time.Since(start), out)
	}
	calls, err := os.ReadFile(called)
	if err != nil || string(calls) != "ADD\nDEL\n" {
		t.Errorf("the program was called with %q, %v", calls, err)
	}
}
