package rawnl

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Events is a socket on which the kernel tells of changes.
type Events struct{ file *os.File }

// Subscribe opens a socket of the netlink protocol for the groups (RTNLGRP_), in the network namespace of the calling thread.
func Subscribe(protocol int, groups ...uint) (*Events, error) {
	// A wait may be long: no thread is to be kept by it, so the socket is one for the Go runtime's poller.
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	local := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	for _, g := range groups {
		local.Groups |= 1 << (g - 1)
	}
	if err := unix.Bind(fd, local); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &Events{os.NewFile(uintptr(fd), "netlink events")}, nil
}

// Close gives the socket back.
func (e *Events) Close() { _ = e.file.Close() }

// Wait returns when something has changed since it was called last, or the time is up.
func (e *Events) Wait(limit time.Duration) error {
	if err := e.file.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	var what [1]byte // is of no interest, and the rest of the datagram is dropped
	_, err := e.file.Read(what[:])
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.ENOBUFS) { // that events were lost is an event too
		return nil
	}
	return err
}
