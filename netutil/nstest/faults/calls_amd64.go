package faults

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// effect is what a system call does, as far as kinds of faults care.
type effect uint8

const (
	nothing effect = iota // not counted
	reads
	receives // reads, and what was read is gone
	changes
)

func (k Kind) counts(e effect) bool {
	switch k {
	case Kill, Meddle:
		return e == changes
	case Lose:
		return e == changes || e == receives
	default:
		return e != nothing
	}
}

// errnos are what a call of the program can fail with that finds all as it should be (section 2 of the manual pages): no memory, no room, no more
// descriptors, a disk that only can be read, another that is busy with it, a signal. What is the call as describe has it.
func errnos(regs *unix.PtraceRegs, does effect, what string) []unix.Errno {
	_, path, _ := strings.Cut(strings.TrimSuffix(what, ")"), "(")
	switch regs.Orig_rax {
	case unix.SYS_OPENAT:
		return append(openErrnos(path, regs.Rdx, does), unix.EMFILE, unix.EINTR)
	case unix.SYS_MKDIRAT, unix.SYS_SYMLINKAT, unix.SYS_LINKAT:
		return []unix.Errno{unix.ENOSPC, unix.EROFS}
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		return []unix.Errno{unix.ENOSPC, unix.EROFS, unix.EBUSY}
	case unix.SYS_UNLINKAT:
		return []unix.Errno{unix.EROFS, unix.EBUSY, unix.EIO}
	case unix.SYS_UTIMENSAT, unix.SYS_FCHMODAT, unix.SYS_FCHMOD:
		return []unix.Errno{unix.EROFS, unix.EIO}
	case unix.SYS_WRITE, unix.SYS_PWRITE64:
		if onDisk(path) {
			return []unix.Errno{unix.ENOSPC, unix.EIO, unix.EINTR}
		}
		return []unix.Errno{unix.EIO, unix.EINTR}
	case unix.SYS_TRUNCATE, unix.SYS_FTRUNCATE, unix.SYS_FSYNC:
		return []unix.Errno{unix.ENOSPC, unix.EIO}
	case unix.SYS_READ, unix.SYS_FLOCK:
		return []unix.Errno{unix.EIO, unix.EINTR}
	case unix.SYS_SOCKET:
		return []unix.Errno{unix.EMFILE, unix.ENOBUFS}
	case unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG:
		return []unix.Errno{unix.ENOBUFS, unix.EINTR} // ENOBUFS is what the kernel says if it has no memory for a netlink message
	case unix.SYS_SETNS, unix.SYS_UNSHARE, unix.SYS_MMAP:
		return []unix.Errno{unix.ENOMEM}
	case unix.SYS_IOCTL:
		return []unix.Errno{unix.EBUSY, unix.EIO}
	default:
		return []unix.Errno{unix.EIO}
	}
}

// openErrnos are those of opening a file that depend on what is there.
func openErrnos(path string, flags uint64, does effect) []unix.Errno {
	isNew := does == changes && unix.Access(path, unix.F_OK) != nil
	switch {
	case isNew:
		return []unix.Errno{unix.ENOSPC, unix.EROFS}
	case flags&unix.O_ACCMODE != unix.O_RDONLY && onDisk(path):
		return []unix.Errno{unix.EROFS}
	}
	return []unix.Errno{unix.EIO}
}

func onDisk(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "/proc/") && !strings.HasPrefix(path, "/sys/") && !strings.HasPrefix(path, "/dev/")
}

// call is a system call that is counted. Its first argument is a descriptor if no argument is a path.
type call struct {
	name string
	does effect
	path int // which argument is a path; none: 0
}

// calls are the system calls that are counted. A Go program makes no others of their kind: where the kernel has two, such as mkdir and
// mkdirat, Go uses the latter.
var calls = map[uint64]call{
	// files and folders
	unix.SYS_OPENAT:     {"openat", reads, 1}, // with O_CREAT it changes
	unix.SYS_NEWFSTATAT: {"newfstatat", reads, 1},
	unix.SYS_FACCESSAT:  {"faccessat", reads, 1},
	unix.SYS_FACCESSAT2: {"faccessat2", reads, 1},
	unix.SYS_READLINKAT: {"readlinkat", reads, 1},
	unix.SYS_MKDIRAT:    {"mkdirat", changes, 1},
	unix.SYS_UNLINKAT:   {"unlinkat", changes, 1},
	unix.SYS_SYMLINKAT:  {"symlinkat", changes, 2},
	unix.SYS_LINKAT:     {"linkat", changes, 1},
	unix.SYS_RENAMEAT:   {"renameat", changes, 1},
	unix.SYS_RENAMEAT2:  {"renameat2", changes, 1},
	unix.SYS_UTIMENSAT:  {"utimensat", changes, 1},
	unix.SYS_FCHMODAT:   {"fchmodat", changes, 1},
	unix.SYS_TRUNCATE:   {"truncate", changes, 0},
	unix.SYS_STATFS:     {"statfs", reads, 0},
	unix.SYS_FSTAT:      {"fstat", reads, 0},
	unix.SYS_FTRUNCATE:  {"ftruncate", changes, 0},
	unix.SYS_FCHMOD:     {"fchmod", changes, 0},
	unix.SYS_FSYNC:      {"fsync", reads, 0},
	unix.SYS_FLOCK:      {"flock", changes, 0},
	unix.SYS_GETDENTS64: {"getdents64", reads, 0},
	unix.SYS_LSEEK:      {"lseek", reads, 0},
	unix.SYS_READ:       {"read", reads, 0},
	unix.SYS_PREAD64:    {"pread64", reads, 0},
	unix.SYS_WRITE:      {"write", changes, 0},
	unix.SYS_PWRITE64:   {"pwrite64", changes, 0},
	unix.SYS_MMAP:       {"mmap", reads, 0},
	unix.SYS_IOCTL:      {"ioctl", reads, 0},

	// sockets
	unix.SYS_SOCKET:     {"socket", reads, 0},
	unix.SYS_BIND:       {"bind", reads, 0},
	unix.SYS_CONNECT:    {"connect", reads, 0},
	unix.SYS_SETSOCKOPT: {"setsockopt", reads, 0},
	unix.SYS_SENDTO:     {"sendto", changes, 0},
	unix.SYS_SENDMSG:    {"sendmsg", changes, 0},
	unix.SYS_SENDMMSG:   {"sendmmsg", changes, 0},
	unix.SYS_RECVFROM:   {"recvfrom", receives, 0},
	unix.SYS_RECVMSG:    {"recvmsg", receives, 0},
	unix.SYS_RECVMMSG:   {"recvmmsg", receives, 0},

	// namespaces
	unix.SYS_SETNS:   {"setns", reads, 0},
	unix.SYS_UNSHARE: {"unshare", reads, 0},
}

// describe tells what the call does that a thread is about to make, and names it with its path or with what its descriptor is.
func describe(tid int, regs *unix.PtraceRegs) (effect, string) {
	c := calls[regs.Orig_rax]
	if c.does == nothing {
		return nothing, ""
	}
	args := [...]uint64{regs.Rdi, regs.Rsi, regs.Rdx, regs.R10, regs.R8}
	switch regs.Orig_rax {
	case unix.SYS_OPENAT:
		if args[2]&unix.O_CREAT != 0 {
			c.does = changes
		}
	case unix.SYS_MMAP:
		if args[3]&unix.MAP_ANONYMOUS != 0 {
			return nothing, ""
		}
		return c.does, c.name + "(" + descriptor(tid, args[4]) + ")"
	case unix.SYS_TRUNCATE, unix.SYS_STATFS:
		return c.does, c.name + "(" + stringAt(tid, args[0]) + ")"
	case unix.SYS_SOCKET, unix.SYS_UNSHARE:
		return c.does, fmt.Sprintf("%s(%d)", c.name, args[0])
	}
	if c.path > 0 {
		return c.does, c.name + "(" + stringAt(tid, args[c.path]) + ")"
	}
	fd := descriptor(tid, args[0])
	if args[0] == 2 || strings.HasPrefix(fd, "anon_inode:[event") {
		return nothing, "" // the Go runtime wakes its poller by an eventfd
	}
	return c.does, c.name + "(" + fd + ")"
}

// descriptor is what a file descriptor of the thread is: a path, "socket:[4711]", "net:[4026531840]", ...
func descriptor(tid int, fd uint64) string {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(fd)))
	if err != nil {
		return strconv.Itoa(int(int32(fd)))
	}
	return name
}

// stringAt reads a path out of the thread's memory.
func stringAt(tid int, addr uint64) string {
	buf := make([]byte, 256)
	n, _ := unix.PtracePeekData(tid, uintptr(addr), buf)
	s, _, _ := strings.Cut(string(buf[:n]), "\x00")
	return s
}
