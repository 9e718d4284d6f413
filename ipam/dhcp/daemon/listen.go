package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// firstHanded is the descriptor of the first socket that systemd hands over (sd_listen_fds(3)).
const firstHanded = 3

// Listen takes the socket that systemd has handed over, as it says in the variables LISTEN_PID and LISTEN_FDS, or else listens at the path. A
// socket that a daemon has left there without ending in order is replaced.
func Listen(getenv func(string) string, path string) (net.Listener, error) {
	if getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		if n := getenv("LISTEN_FDS"); n != "1" {
			return nil, fmt.Errorf("LISTEN_FDS: %s sockets are handed over, and one is needed", n)
		}
		unix.CloseOnExec(firstHanded)
		file := os.NewFile(firstHanded, "socket of systemd")
		defer func() { _ = file.Close() }()
		return net.FileListener(file)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	l, err := listen(path)
	if !errors.Is(err, unix.EADDRINUSE) {
		return l, err
	}
	if c, dialErr := net.Dial("unix", path); dialErr == nil {
		_ = c.Close()
		return nil, fmt.Errorf("%s: a daemon listens there already", path)
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return listen(path)
}

// listen makes a socket on which only root can call, whatever folder it is in: the file gets the mode that the socket has when
// it is bound (unix_bind_bsd in the kernel's net/unix/af_unix.c). The umask would do as well, but it is that of all other threads too.
func listen(path string) (net.Listener, error) {
	c := net.ListenConfig{Control: func(_, _ string, socket syscall.RawConn) (err error) {
		outer := socket.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(outer, err)
	}}
	return c.Listen(context.Background(), "unix", path)
}
