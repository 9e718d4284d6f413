package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/private"
)

// host is where a client runs: a network namespace with a link to another, the outside. Its /run and /var/lib are the program's own.
type host struct {
	executable string // path of the cnibox to install
	programs   string // path of a folder
	cgroup     string // of all that a runtime starts
	logs       []string
}

//go:embed conf
var confs embed.FS

const (
	home     = "/var/lib/e2e" // what is no client's
	hostNS   = home + "/host"
	outside  = home + "/outside"
	farm     = "/var/lib/cni-bin"
	confDir  = "/var/lib/cni-net.d"
	hostAddr = "192.0.2.1"
	farAddr  = "192.0.2.2"
	podPort  = 8000
	hostPort = 18080
)

// folders hides the machine's folders of state, and fills those of the configurations.
func (h *host) folders() error {
	if err := private.Folders(); err != nil {
		return err
	}
	if err := unix.Mount("private", "/dev/shm", "tmpfs", 0, ""); err != nil { // podman has its locks there
		return fmt.Errorf("mount on /dev/shm: %w", err)
	}
	for _, dir := range []string{home, home + "/tmp", confDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return os.Setenv("TMPDIR", home+"/tmp")
}

// configure writes a network's configuration, in a version of the specification, to where clients look.
func (h *host) configure(network, version string) error {
	return configureIn(confDir, network, `"1.1.0"`, `"`+version+`"`)
}

// configureIn writes a network's configuration into a folder, one word replaced by another.
func configureIn(dir, network, old, word string) error {
	name := network + ".conflist"
	conf, err := confs.ReadFile("conf/" + name)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, name), bytes.ReplaceAll(conf, []byte(old), []byte(word)))
}

// replaceFile replaces a file as a whole.
func replaceFile(path string, data []byte) error {
	return errors.Join(os.WriteFile(path+".new", data, 0o600), os.Rename(path+".new", path))
}

// makeNetwork makes the namespaces of the host and of the outside, where a server tells who asks.
func (h *host) makeNetwork() (string, error) {
	_, err := os.Stat(outside)
	booted := err == nil // before
	if err = nil; !booted {
		if err := nstest.Create(outside); err != nil {
			return "", err
		}
	}
	if err := nstest.Create(hostNS); err != nil {
		return "", err
	}
	for _, line := range []string{
		"link set lo up",
		"link add uplink type veth peer name eth0 netns " + outside,
		"addr add " + hostAddr + "/24 dev uplink",
		"link set uplink up",
	} {
		if _, err := h.run("ip", strings.Fields(line)...); err != nil {
			return "", err
		}
	}
	// Where a Go program first uses a socket, it looks whether there is IPv6: whether ::1 can be bound to.
	for _, line := range []string{"link set lo up", "addr add " + farAddr + "/24 dev eth0", "link set eth0 up"} {
		err := nstest.Enter(outside, func() error {
			_, err := run("ip", strings.Fields(line)...)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	if !booted {
		err = serve(outside, podPort)
	}
	return "host " + hostAddr + ", outside " + farAddr, err
}

func (h *host) install() (string, error) {
	if _, err := h.run(h.executable, "install", "--dir", farm); err != nil {
		return "", err
	}
	return installed(farm)
}

// installed tells what is in a folder of plugins.
func installed(farm string) (string, error) {
	entries, err := os.ReadDir(farm)
	if err != nil {
		return "", err
	}
	version, err := run(filepath.Join(farm, "cnibox"), "version")
	return fmt.Sprintf("%d plugins, %s", len(entries)-1, strings.ReplaceAll(strings.TrimSpace(version), "\n", ", ")), err
}

// on runs fn on a thread that is on the host, and so all programs that it starts.
func (h *host) on(fn func() error) error { return nstest.Enter(hostNS, fn) }

// run runs a program on the host and returns what it printed.
func (h *host) run(name string, args ...string) (out string, err error) {
	err = h.on(func() (err error) {
		out, err = run(name, args...)
		return err
	})
	return out, err
}

// program is the path of a program that make has built.
func (h *host) program(name string) string { return filepath.Join(h.programs, name) }

// prefer has the programs of a folder of make's found before Debian's, in what is started too.
func (h *host) prefer(folder string) error {
	return os.Setenv("PATH", h.program(folder)+":"+os.Getenv("PATH"))
}

// run runs a program and returns what it printed.
func run(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// explain prints the ends of the clients' logs.
func (h *host) explain() error {
	for _, log := range h.logs {
		out, err := run("tail", "-n", "20", log)
		if err != nil {
			return err
		}
		fmt.Printf("%s ends with:\n%s", log, out)
	}
	return nil
}
