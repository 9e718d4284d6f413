package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// virtual is one virtual machine.
type virtual struct {
	kernel, image string
	dir           string // for its files
	limit         time.Duration
}

// The machine's init speaks lines that begin so, see init/main.go; all other lines are the tests'.
const (
	sayReady = "@@ready"
	sayBegin = "@@begin " // the folder
	sayEnd   = "@@end "   // the exit status
	sayDone  = "@@done"
)

// call is what init is to run, on the kernel's command line.
type call struct {
	Dir  string   `json:"dir"`
	Args []string `json:"args"`
}

// run has the machine run the suites. It is started again if it never came up, once: an emulated machine may hang before.
func (m *virtual) run(ctx context.Context, suites []suite) error {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	for try := 0; ; try++ {
		ready, err := m.boot(ctx, suites)
		if ready || ctx.Err() != nil || try == 1 {
			return err
		}
		fmt.Fprintln(os.Stderr, "vm: the machine did not come up, once more:", err)
	}
}

func (m *virtual) boot(ctx context.Context, suites []suite) (ready bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.limit+2*time.Minute)
	defer cancel()
	calls := make([]call, len(suites))
	for i, s := range suites {
		calls[i] = call{s.dir, s.args}
	}
	script, err := json.Marshal(calls)
	if err != nil {
		return false, err
	}
	scriptFile, serial := filepath.Join(m.dir, "calls.json"), filepath.Join(m.dir, "serial")
	if err := os.WriteFile(scriptFile, script, 0o600); err != nil {
		return false, err
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", m.arguments(scriptFile, serial)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	ready, done, err := follow(stdout, suites)
	if waitErr := cmd.Wait(); err == nil && !done {
		err = errors.Join(fmt.Errorf("the machine ended before its tests did:\n%s", tail(serial)), waitErr, ctx.Err())
	}
	return ready, err
}

func (m *virtual) arguments(script, serial string) []string {
	const kernelArguments = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic reboot=t mitigations=off nokaslr no_timer_check " +
		"initcall_blacklist=jent_mod_init sysctl.net.core.fb_tunnels_only_for_init_net=2"
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35",
		"-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off,-erms", "-smp", "1", "-m", "2G",
		"-kernel", m.kernel, "-initrd", m.image, "-append", kernelArguments,
		"-chardev", "file,id=out,path=/dev/stdout", "-chardev", "file,id=serial,path=" + serial, "-serial", "chardev:serial",
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=out,name=vmtest.out",
		"-fw_cfg", "name=opt/vmtest/calls,file=" + script,
	}
}

// follow hands the tests' output over to converters until the machine says that it is done.
func follow(r io.Reader, suites []suite) (ready, done bool, err error) {
	var current *converter
	lines := bufio.NewReaderSize(r, 1<<20)
	for {
		line, readErr := lines.ReadString('\n')
		text := strings.TrimSuffix(line, "\n")
		switch {
		case text == sayReady:
			ready = true
		case text == sayDone:
			return ready, true, err
		case strings.HasPrefix(text, sayBegin):
			if current, err = convert(packageOf(strings.TrimPrefix(text, sayBegin), suites)); err != nil {
				return ready, false, err
			}
		case strings.HasPrefix(text, sayEnd):
			current.end(strings.TrimPrefix(text, sayEnd))
			current = nil
		case current != nil && line != "":
			_, _ = io.WriteString(current.in, line)
		}
		if readErr != nil {
			if current != nil {
				current.end("the machine ended")
			}
			return ready, false, err
		}
	}
}

func packageOf(dir string, suites []suite) string {
	for _, s := range suites {
		if s.dir == dir {
			return s.pkg
		}
	}
	return dir
}

// converter turns the output of a test binary into events.
type converter struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

func convert(pkg string) (*converter, error) {
	cmd := exec.Command("go", "tool", "test2json", "-t", "-p", pkg)
	cmd.Stdout, cmd.Stderr = &wholeLines{}, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return &converter{cmd, in}, cmd.Start()
}

// end closes the converter. A status other than 0 that the tests have not told of, such as a signal's, becomes a line of them.
func (c *converter) end(status string) {
	if status != "0" && status != "1" {
		_, _ = fmt.Fprintf(c.in, "\x16FAIL\nexit status: %s\n", status)
	}
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

// wholeLines writes to stdout, never a part of a line: several machines write there.
type wholeLines struct{ rest []byte }

var stdout sync.Mutex

func (w *wholeLines) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	if i := bytes.LastIndexByte(w.rest, '\n'); i >= 0 {
		stdout.Lock()
		defer stdout.Unlock()
		if _, err := os.Stdout.Write(w.rest[:i+1]); err != nil {
			return 0, err
		}
		w.rest = w.rest[i+1:]
	}
	return len(b), nil
}

// tail is the end of a file.
func tail(path string) string {
	text, _ := os.ReadFile(path)
	return string(text[max(len(text)-4000, 0):])
}
