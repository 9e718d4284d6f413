package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// aloneRoot is a root directory with the executable and no other file.
type aloneRoot string

// run calls a program of the root with the variables given, and no other: there is no PATH.
func (root aloneRoot) run(stdin string, env []string, args ...string) (string, error) {
	command := exec.Cmd{
		Path: args[0], Args: args, Env: append([]string{}, env...), Dir: "/", Stdin: strings.NewReader(stdin),
		SysProcAttr: &syscall.SysProcAttr{Chroot: string(root)},
	}
	out, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(append(env, args...), " "), err, out)
	}
	return string(out), nil
}

// testAlone installs, attaches a pod and uninstalls where there is nothing else.
func testAlone(t *testing.T, executable string) {
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	root := aloneRoot(t.TempDir())
	// A link, as a copy could not be started while another test's child has the descriptor that it was written through.
	if err := os.Link(executable, filepath.Join(string(root), "cnibox")); err != nil {
		t.Fatal(err)
	}
	if _, err := root.run("", nil, "/cnibox", "install"); err != nil {
		t.Fatal(err)
	}
	answer, err := root.run(`{"cniVersion":"1.1.0"}`, []string{"CNI_COMMAND=VERSION"}, "/opt/cni/bin/bridge")
	if err != nil || !strings.Contains(answer, `"1.1.0"`) || !strings.Contains(answer, `"supportedVersions"`) {
		t.Errorf("bridge answers VERSION with %s (%v)", answer, err)
	}
	testAttachAlone(t, root)
	if _, err := root.run("", nil, "/opt/cni/bin/cnibox", "uninstall"); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(string(root), "/opt/cni/bin")); err != nil || len(left) > 0 {
		t.Errorf("uninstall leaves %v (%v)", left, err)
	}
}

// testAttachAlone adds, checks and deletes a pod with bridge, host-local and portmap. What belongs to the kernel is there: /proc, and the
// pod's namespace.
func testAttachAlone(t *testing.T, root aloneRoot) {
	host, pod := nstest.New(t, "host"), nstest.New(t, "pod")
	host.VarLib = t.TempDir() // and with it mounts of its own
	const (
		bridge = `{"cniVersion":"1.1.0","name":"net","type":"bridge","isGateway":true,"ipMasq":true,"macspoofchk":true,` +
			`"ipam":{"type":"host-local","subnet":"10.10.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}%s}`
		portmap = `{"cniVersion":"1.1.0","name":"net","type":"portmap",` +
			`"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}]}%s}`
	)
	err := host.Do(func() error {
		if err := mountForAlone(string(root), pod.Path); err != nil {
			return err
		}
		result := ""
		for _, call := range []struct{ verb, role, conf string }{
			{"ADD", "bridge", bridge},
			{"ADD", "portmap", portmap},
			{"CHECK", "bridge", bridge},
			{"CHECK", "portmap", portmap},
			{"DEL", "portmap", portmap},
			{"DEL", "bridge", bridge},
		} {
			prev := ""
			if result != "" {
				prev = `,"prevResult":` + result
			}
			out, err := root.run(fmt.Sprintf(call.conf, prev), []string{
				"CNI_COMMAND=" + call.verb, "CNI_CONTAINERID=pod", "CNI_NETNS=/pod", "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin",
			}, "/opt/cni/bin/"+call.role)
			if err != nil {
				return err
			}
			if call.verb == "ADD" {
				result = out
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if leaks, err := host.Leaks("cni0"); err != nil || len(leaks) > 0 {
		t.Errorf("left behind: %q (%v)", leaks, err)
	}
}

// mountForAlone mounts into the root what plugins need of the kernel.
func mountForAlone(root, pod string) error {
	proc := filepath.Join(root, "proc")
	if err := os.Mkdir(proc, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("proc", proc, "proc", 0, ""); err != nil {
		return err
	}
	here := filepath.Join(root, "pod")
	if err := os.WriteFile(here, nil, 0o644); err != nil {
		return err
	}
	return unix.Mount(pod, here, "", unix.MS_BIND, "")
}
