package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/private"
)

// emulated is the executable of an architecture, which qemu's user mode runs: its instructions, with this machine's kernel.
type emulated struct {
	*host
	arch string // as Go names it
	qemu string // as qemu names it
	dir  string // folder of plugins
	addr string
}

// emulatedSteps play with the executables of all architectures but this machine's. qemu hands on what is for rtnetlink, and refuses sockets of the
// packet filter: so there is no portmap and no masquerade here. What nests in attributes it does not translate, so that where numbers are the
// other way round no link can be made.
func emulatedSteps(h *host) []step {
	steps := []step{{"make a host and an outside", h.makeNetwork}}
	for _, a := range []struct{ arch, qemu string }{
		{"arm64", "aarch64"}, {"arm", "arm"}, {"riscv64", "riscv64"}, {"ppc64le", "ppc64le"}, {"loong64", "loongarch64"}, {"s390x", "s390x"},
	} {
		e := &emulated{host: h, arch: a.arch, qemu: a.qemu + "-static"}
		steps = append(steps, step{a.arch + ": unpack the archive; version, roles", e.unpack})
		if a.arch == "s390x" {
			steps = append(steps, step{a.arch + ": ADD, CHECK, DEL of loopback", e.loopback})
			continue
		}
		steps = append(steps,
			step{a.arch + ": ADD, CHECK of bridge and host-local", e.add},
			step{a.arch + ": the host to the pod", e.reach},
			step{a.arch + ": DEL, twice; nothing is left", e.del},
		)
	}
	return steps
}

func (e *emulated) unpack() (string, error) {
	path, err := e.made(newVersion, "*-linux-"+e.arch+".tar.gz")
	if err != nil {
		return "", err
	}
	e.dir = home + "/" + e.arch
	if err := os.Mkdir(e.dir, 0o755); err != nil {
		return "", err
	}
	if _, err := run("tar", "-C", e.dir, "-xzf", path); err != nil {
		return "", err
	}
	version, err := e.command(nil, "version").Output()
	if err != nil {
		return "", err
	}
	roles, err := e.command(nil, "roles").Output()
	if err != nil {
		return "", err
	}
	platform := strings.Fields(string(version))[3]
	if platform != "linux/"+e.arch {
		return "", fmt.Errorf("it says that it is for %s", platform)
	}
	return fmt.Sprintf("%s, %d roles", platform, bytes.Count(roles, []byte("\n"))-1), nil
}

// command is a start of the executable with arguments.
func (e *emulated) command(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command("qemu-"+e.qemu, append([]string{filepath.Join(e.dir, "cnibox")}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

func (e *emulated) netns() string { return private.NetNS(e.arch) }

// call calls a plugin on the host, and returns its result.
func (e *emulated) call(verb, role, ifName string, conf object) (*types100.Result, error) {
	text, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	cmd := e.command([]string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + e.arch, "CNI_IFNAME=" + ifName, "CNI_NETNS=" + e.netns(), "CNI_PATH=" + e.dir,
	}, role)
	cmd.Stdin = bytes.NewReader(text)
	var out []byte
	err = e.on(func() (err error) {
		out, err = cmd.Output()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w: %s", verb, role, err, out)
	}
	if verb != "ADD" {
		return nil, nil
	}
	result, err := types100.NewResult(out)
	if err != nil {
		return nil, err
	}
	return types100.GetResult(result)
}

func bridgeConf() object {
	return object{
		"cniVersion": "1.0.0", "name": "emulated", "type": "bridge", "bridge": "cni0", "isGateway": true,
		"ipam": object{
			"type": "host-local", "ranges": [][]object{{{"subnet": "10.247.0.0/24"}}, {{"subnet": "fd00:247::/64"}}},
			"routes": []object{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}},
		},
	}
}

func (e *emulated) add() (string, error) {
	if err := nstest.Create(e.netns()); err != nil {
		return "", err
	}
	result, err := e.call("ADD", "bridge", "eth0", bridgeConf())
	if err != nil {
		return "", err
	}
	if len(result.IPs) != 2 {
		return "", fmt.Errorf("the pod has the addresses %v", result.IPs)
	}
	e.addr = result.IPs[0].Address.IP.String()
	conf := bridgeConf()
	conf["prevResult"] = result
	if _, err := e.call("CHECK", "bridge", "eth0", conf); err != nil {
		return "", err
	}
	return e.addr + ", " + result.IPs[1].Address.IP.String(), serve(e.netns(), podPort)
}

func (e *emulated) reach() (string, error) { return ask(hostNS, e.addr, podPort, "10.247.0.1") }

func (e *emulated) del() (string, error) {
	for range 2 {
		if _, err := e.call("DEL", "bridge", "eth0", bridgeConf()); err != nil {
			return "", err
		}
	}
	if err := e.forget(); err != nil {
		return "", err
	}
	return nothingLeft("cni0")
}

func (e *emulated) forget() error {
	return errors.Join(unix.Unmount(e.netns(), unix.MNT_DETACH), os.Remove(e.netns()))
}

func (e *emulated) loopback() (string, error) {
	if err := nstest.Create(e.netns()); err != nil {
		return "", err
	}
	conf := object{"cniVersion": "1.0.0", "name": "emulated", "type": "loopback"}
	result, err := e.call("ADD", "loopback", "lo", conf)
	if err != nil {
		return "", err
	}
	conf["prevResult"] = result
	for _, verb := range []string{"CHECK", "DEL"} {
		if _, err := e.call(verb, "loopback", "lo", conf); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d address", len(result.IPs)), e.forget()
}
