package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// archive unpacks the archive as people do with that of the reference plugins, and calls one.
func (h *host) archive() (string, error) {
	dir := home + "/farm"
	path, err := h.made(newVersion, "*-linux-"+runtime.GOARCH+".tar.gz")
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	if _, err := run("tar", "-C", dir, "-xzf", path); err != nil {
		return "", err
	}
	cmd := exec.Command(dir + "/bridge")
	cmd.Env = []string{"CNI_COMMAND=VERSION"}
	cmd.Stdin = strings.NewReader(`{"cniVersion": "1.1.0"}`)
	out, err := cmd.Output()
	if err != nil || !bytes.Contains(out, []byte("supportedVersions")) {
		return "", fmt.Errorf("bridge says %s (%w)", out, err)
	}
	version, err := run(dir+"/cnibox", "version")
	return strings.Fields(version)[1], err
}

// image unpacks the image by others' programs, and runs it where there is nothing but itself and the mounted folders.
func (h *host) image() (string, error) {
	path, err := h.made(newVersion, "*-oci.tar")
	if err != nil {
		return "", err
	}
	for _, command := range []string{
		"skopeo copy --quiet oci-archive:" + path + " oci:" + home + "/image:it",
		"umoci unpack --image " + home + "/image:it " + home + "/bundle",
	} {
		words := strings.Fields(command)
		if _, err := run(words[0], words[1:]...); err != nil {
			return "", err
		}
	}
	root := home + "/bundle/rootfs"
	conf, err := confs.ReadFile("conf/podnet.conflist")
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.MkdirAll(root+"/host/opt/cni/bin", 0o755), os.WriteFile(root+"/net.conflist", conf, 0o600)); err != nil {
		return "", err
	}
	cmd := exec.Command("/cnibox", "install", "--dir", "/host/opt/cni/bin", "--conf", "/net.conflist", "--conf-to", "/host/etc/cni/net.d/10.conflist", "--wait")
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: root}
	return waitedFor(cmd, root)
}

// waitedFor starts the installer, and ends it when its configuration is there.
func waitedFor(cmd *exec.Cmd, root string) (string, error) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return "", err
	}
	err := waitUntil("the configuration is installed", func() (bool, error) {
		_, err := os.Stat(root + "/host/etc/cni/net.d/10.conflist")
		return err == nil, err
	})
	time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	if err := errors.Join(err, cmd.Process.Signal(unix.SIGTERM), cmd.Wait()); err != nil {
		return "", fmt.Errorf("%w: %s", err, said.String())
	}
	return installed(root + "/host/opt/cni/bin")
}

// containerImage has containerd import the image, as on a node without a registry, and run its container.
func (h *host) containerImage() (string, error) {
	path, err := h.made(newVersion, "*-oci.tar")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(home+"/containerd.toml", []byte(containerdConf), 0o600); err != nil {
		return "", err
	}
	d, err := h.launch("containerd", h.on, exec.Command("containerd", "--config", home+"/containerd.toml"))
	if err != nil {
		return "", err
	}
	err = waitUntil("containerd answers", func() (bool, error) {
		_, err := h.run("ctr", "version")
		return err == nil, err
	})
	if err != nil {
		return "", err
	}
	name, dir := "ghcr.io/cnibox/cnibox:v"+newVersion, home+"/of-the-image"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"images", "import", path},
		{
			"run", "--rm", "--cgroup", h.cgroup, "--mount", "type=bind,src=" + dir + ",dst=/host/opt/cni/bin,options=rbind:rw", name, "installer",
			"/cnibox", "install", "--dir", "/host/opt/cni/bin",
		},
	} {
		if _, err := h.run("ctr", append([]string{"--namespace", "k8s.io"}, args...)...); err != nil {
			return "", err
		}
	}
	seen, err := installed(dir)
	return name + ": " + seen, errors.Join(err, d.kill())
}
