// Command init is the first process of the virtual machine that runs tests (scripts/vm).
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err) // the serial console
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// order is what the image holds, see image.go.
type order struct {
	Modules []string          `json:"modules"`
	Suites  map[string]string `json:"suites"`
}

// call is one test binary to be run, see machine.go.
type call struct {
	Dir  string   `json:"dir"`
	Args []string `json:"args"`
}

func run() error {
	if err := mounts(); err != nil {
		return err
	}
	var o order
	if err := read("/order.json", &o); err != nil {
		return err
	}
	for _, m := range o.Modules {
		if err := load(m); err != nil {
			fmt.Fprintln(os.Stderr, "init:", m, err)
		}
	}
	var calls []call
	if err := read("/sys/firmware/qemu_fw_cfg/by_name/opt/vmtest/calls/raw", &calls); err != nil {
		return err
	}
	out, err := port("vmtest.out")
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, "@@ready")
	for _, c := range calls {
		_, _ = fmt.Fprintln(out, "@@begin "+c.Dir)
		status := test(out, o.Suites[c.Dir], c)
		_, _ = fmt.Fprintf(out, "\n@@end %s\n", status)
	}
	_, err = fmt.Fprintln(out, "@@done")
	time.Sleep(100 * time.Millisecond) // the port has no way to be flushed
	return err
}

func mounts() error {
	var errs []error
	for _, m := range []struct{ kind, at, options string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", ""},
		{"devpts", "/dev/pts", ""},
		{"tmpfs", "/dev/shm", ""},
		{"tmpfs", "/tmp", "mode=1777"},
		{"tmpfs", "/run", ""},
		{"tmpfs", "/var/lib", ""},
		{"cgroup2", "/sys/fs/cgroup", ""},
	} {
		_ = os.MkdirAll(m.at, 0o755)
		if err := unix.Mount(m.kind, m.at, m.kind, 0, m.options); err != nil {
			errs = append(errs, fmt.Errorf("mount %s: %w", m.at, err))
		}
	}
	errs = append(errs, os.MkdirAll("/run/netns", 0o755), os.MkdirAll("/var/lib/cni", 0o755), unix.Sethostname([]byte("vm")))
	_ = os.Symlink("/proc/self/fd", "/dev/fd")
	return errors.Join(errs...)
}

func read(path string, into any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// port opens the virtio port of a name, which comes some time after its driver.
func port(name string) (io.Writer, error) {
	for range 200 {
		ports, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, p := range ports {
			if text, err := os.ReadFile(p); err == nil && strings.TrimSpace(string(text)) == name {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(p)), os.O_WRONLY, 0)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, fmt.Errorf("no virtio port %s", name)
}

// test runs a test binary in its package's folder, and tells its exit status.
func test(out io.Writer, binary string, c call) string {
	cmd := exec.Command(binary, c.Args...)
	cmd.Dir = filepath.Join("/src", c.Dir)
	_ = os.MkdirAll(cmd.Dir, 0o755)
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TMPDIR=/tmp",
		"CNIBOX_TEST_EXECUTABLE=/built/cnibox", "CNIBOX_TEST_VM=1",
	}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		_, _ = fmt.Fprintln(out, err)
		return err.Error()
	}
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return fmt.Sprint(code)
	}
	return cmd.ProcessState.String()
}
