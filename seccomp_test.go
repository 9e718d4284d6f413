package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// seccompVariable has the test's own executable become a program under a seccomp profile: that of the file that it names.
const seccompVariable = "CNIBOX_TEST_SECCOMP"

// seccompProfile is what is read of a profile in the form of the OCI runtime specification (config-linux.md, "Seccomp").
type seccompProfile struct {
	DefaultAction   string
	DefaultErrnoRet uint32
	Syscalls        []struct {
		Names  []string
		Action string
	}
}

func readProfile(path string) (p seccompProfile, err error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	return p, err
}

// filter is the program that the kernel judges system calls by (seccomp(2)).
func (p *seccompProfile) filter() ([]unix.SockFilter, error) {
	const number, arch = 0, 4 // offsets in struct seccomp_data
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	equal := func(k uint32) unix.SockFilter { // else the next instruction is left out
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: 1}
	}
	if p.DefaultAction != "SCMP_ACT_ERRNO" {
		return nil, fmt.Errorf("action %s", p.DefaultAction)
	}
	prog := []unix.SockFilter{
		load(arch), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AUDIT_ARCH_X86_64, Jt: 1}, answer(unix.SECCOMP_RET_KILL_PROCESS), load(number),
	}
	numbers := seccompNumbers()
	for _, s := range p.Syscalls {
		for _, name := range s.Names {
			n, known := numbers[name]
			if !known || s.Action != "SCMP_ACT_ALLOW" {
				return nil, fmt.Errorf("%s of %s", s.Action, name)
			}
			prog = append(prog, equal(n), answer(unix.SECCOMP_RET_ALLOW))
		}
	}
	return append(prog, answer(unix.SECCOMP_RET_ERRNO|p.DefaultErrnoRet)), nil
}

// runUnderSeccomp becomes a program. It returns only if that fails.
func runUnderSeccomp(path string, args []string) error {
	p, err := readProfile(path)
	if err != nil {
		return err
	}
	prog, err := p.filter()
	if err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, seccompVariable+"=") })
	runtime.LockOSThread() // whose filter outlives the others
	f := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&f)), 0, 0); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return fmt.Errorf("execve: %w", unix.Exec(args[0], args, env))
}

// underProfile calls plugins under a profile.
func (st *stage) underProfile(t *testing.T, text string) func(string, nodeCall) reply {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	profile := filepath.Join(t.TempDir(), "seccomp.json")
	if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(verb string, c nodeCall) reply {
		return st.callBy([]string{self}, []string{seccompVariable + "=" + profile}, verb, c)
	}
}

//go:embed docs/seccomp.json
var seccompJSON string

// Plugins work where no system calls are let through but those of docs/seccomp.json.
func TestSeccompProfile(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("needs amd64: the numbers of system calls are the processor's own")
	}
	onStages(t, append(scenes(t), fusedScene()), func(t *testing.T, st *stage) {
		st.wantWhole(st.underProfile(t, seccompJSON))
	})
}

// The profile is in force in the test before: without setns, no interface can be made in a container.
func TestSeccompProfileIsInForce(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("needs amd64")
	}
	less := strings.Replace(seccompJSON, `"setns"`, `"sync"`, 1)
	st := newStage(t, ptpScene())
	if a := st.underProfile(t, less)("ADD", st.call); a.err == nil || !strings.Contains(a.err.Error(), "operation not permitted") {
		t.Errorf("without setns: %v", a.err)
	}
	st.wantClean("after an ADD without setns")
	if a := st.underProfile(t, "none")("ADD", st.call); a.err == nil || errors.Is(a.err, exec.ErrNotFound) {
		t.Errorf("without a profile: %v", a.err)
	}
}
