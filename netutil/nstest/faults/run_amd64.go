package faults

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timeLimit is when a program is taken to hang. The longest that any waits for the kernel is 10 s; an emulated machine that does much else at once
// takes ten times as long for the stops at each call.
const timeLimit = 2 * time.Minute

// Run runs the program to its end, in the namespaces of the calling thread. An error means that it could not be traced, or that it
// hangs, never that it failed.
func Run(p Program, f Fault) (*Outcome, error) {
	// Only the thread that started a tracee may trace it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	t := &tracer{fault: f, inside: map[int]bool{}, tampered: map[int]bool{}, known: map[int]bool{}, out: &Outcome{}}
	var streams [3]pipe
	for i := range streams {
		if err := streams[i].open(); err != nil {
			return nil, err
		}
		defer streams[i].close()
	}
	if _, err := streams[0].write.Write(p.Stdin); err != nil {
		return nil, err
	}
	files := []uintptr{streams[0].read.Fd(), streams[1].write.Fd(), streams[2].write.Fd()}
	pid, err := syscall.ForkExec(p.Path, p.Args, &syscall.ProcAttr{
		Env: p.Env, Files: files, Sys: &syscall.SysProcAttr{Ptrace: true, Setpgid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Path, err)
	}
	_ = streams[0].write.Close()
	hangs := time.AfterFunc(timeLimit, func() { _ = unix.Kill(pid, unix.SIGKILL) })
	err = t.trace(pid)
	if !hangs.Stop() {
		err = errors.Join(err, fmt.Errorf("%s did not end within %s after %s", p.Path, timeLimit, t.out.Call))
	}
	_, _ = streams[1].write.Close(), streams[2].write.Close()
	var read [2]error
	t.out.Stdout, read[0] = io.ReadAll(streams[1].read)
	t.out.Stderr, read[1] = io.ReadAll(streams[2].read)
	return t.out, errors.Join(err, read[0], read[1])
}

type pipe struct{ read, write *os.File }

func (p *pipe) open() (err error) {
	p.read, p.write, err = os.Pipe()
	return err
}

func (p *pipe) close() {
	_ = p.read.Close()
	_ = p.write.Close()
}

type tracer struct {
	fault    Fault
	pid      int
	inside   map[int]bool // threads between the entry and the exit of a call
	tampered map[int]bool // those among them whose call goes wrong
	known    map[int]bool // threads whose first stop is behind them
	out      *Outcome
}

const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACEEXEC |
	unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK

// trace goes from stop to stop until no thread is left.
func (t *tracer) trace(pid int) error {
	t.pid = pid
	var ws unix.WaitStatus
	if _, err := t.wait(pid, &ws); err != nil { // for the stop at execve
		return err
	}
	if err := unix.PtraceSetOptions(pid, options); err != nil {
		return fmt.Errorf("ptrace: %w", err)
	}
	t.known[pid] = true
	if err := unix.PtraceSyscall(pid, 0); err != nil {
		return fmt.Errorf("ptrace: %w", err)
	}
	for {
		tid, err := t.wait(-pid, &ws)
		if errors.Is(err, unix.ECHILD) {
			return nil
		}
		if err != nil {
			return err
		}
		if !ws.Stopped() {
			if tid == pid {
				t.out.Status = ws
			}
			continue
		}
		signal, err := t.stopped(tid, ws)
		if err == nil {
			err = unix.PtraceSyscall(tid, signal)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) { // it may be killed at any moment
			return fmt.Errorf("ptrace: %w", err)
		}
	}
}

// wait waits for a process, or for a process group where it is negative: this process has other children, which are not ours.
func (t *tracer) wait(pid int, ws *unix.WaitStatus) (int, error) {
	for {
		tid, err := unix.Wait4(pid, ws, unix.WALL|unix.WNOTHREAD, nil)
		if !errors.Is(err, unix.EINTR) {
			return tid, err
		}
	}
}

// stopped deals with a stop, and returns the signal that the thread must get.
func (t *tracer) stopped(tid int, ws unix.WaitStatus) (signal int, err error) {
	const syscallStop = unix.SIGTRAP | 0x80 // PTRACE_O_TRACESYSGOOD
	first := !t.known[tid]
	t.known[tid] = true
	switch {
	case ws.StopSignal() == syscallStop:
		return 0, t.atCall(tid)
	case ws.StopSignal() == unix.SIGTRAP && ws>>16 != 0: // a new thread, a new program
		return 0, nil
	case first && ws.StopSignal() == unix.SIGSTOP: // every thread's first stop
		return 0, nil
	}
	return int(ws.StopSignal()), nil
}

// atCall is at the entry of a system call, or at its exit.
func (t *tracer) atCall(tid int) error {
	t.inside[tid] = !t.inside[tid]
	var regs unix.PtraceRegs
	if !t.inside[tid] && !t.tampered[tid] {
		return nil
	}
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	if t.inside[tid] {
		return t.entry(tid, &regs)
	}
	delete(t.tampered, tid)
	if t.fault.Kind == Kill {
		return unix.Kill(t.pid, unix.SIGKILL)
	}
	regs.Rax = uint64(-int64(t.fault.Errno))
	return errors.Join(forgetSender(tid, &regs), unix.PtraceSetRegs(tid, &regs))
}

// forgetSender takes back what the kernel tells with a message, but never with an error: who sent it. unix.Recvmsg relies on that.
func forgetSender(tid int, regs *unix.PtraceRegs) error {
	var name [8]byte
	if regs.Orig_rax != unix.SYS_RECVMSG {
		return nil
	}
	if _, err := unix.PtracePeekData(tid, uintptr(regs.Rsi), name[:]); err != nil { // msghdr begins with msg_name
		return err
	}
	addr := binary.LittleEndian.Uint64(name[:])
	if addr == 0 {
		return nil
	}
	_, err := unix.PtracePokeData(tid, uintptr(addr), make([]byte, 2)) // sockaddr begins with the family
	return err
}

func (t *tracer) entry(tid int, regs *unix.PtraceRegs) error {
	does, what := describe(tid, regs)
	if !t.fault.Kind.counts(does) {
		return nil
	}
	t.out.Calls = append(t.out.Calls, what)
	can := errnos(regs, does, what)
	t.out.Errnos = append(t.out.Errnos, can)
	hit := len(t.out.Calls) == t.fault.At || t.fault.On != "" && t.out.Call == "" && strings.HasPrefix(what, t.fault.On)
	if !hit && !(t.fault.Onwards && t.out.Call != "" && slices.Contains(can, t.fault.Errno)) {
		return nil
	}
	if hit {
		if t.fault.Kind == Refuse && !slices.Contains(can, t.fault.Errno) { // it was another call in the run that told the number
			t.fault.Errno, t.fault.Onwards = can[0], false
		}
		t.out.Call, t.out.Errno = what, t.fault.Errno
	}
	if t.fault.Kind == Meddle {
		t.fault.Do()
		return nil
	}
	t.tampered[tid] = true
	if t.fault.Kind != Refuse {
		return nil
	}
	regs.Orig_rax = ^uint64(0) // no call has this number: nothing is executed
	return unix.PtraceSetRegs(tid, regs)
}
