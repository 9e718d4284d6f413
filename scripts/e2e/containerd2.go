package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// containerd2 is the scene of a release that reads results of 1.1.0, and calls STATUS whenever it is asked how it is.
type containerd2 struct {
	containerd
	only *sandbox // in a network of one address
}

func containerd2Steps(h *host) []step {
	c := &containerd2{containerd: containerd{cri: cri{host: h}, folder: "containerd2", conf: containerd2Conf, cniVersion: "1.1.0"}}
	return append(c.steps(), []step{
		{"a network of one address; NetworkReady is true", func() (string, error) { return c.replace("podnet", "smallnet") }},
		{"run a pod in it; NetworkReady is false", c.exhaust},
		{"another pod is refused", c.refused},
		{"remove the pod; NetworkReady is true", c.remedy},
		{"a tunnel; NetworkReady is true", func() (string, error) { return c.replace("smallnet", "tunnelnet") }},
		{"its underlay is down: NetworkReady is false", c.underlay},
		{"nothing is left", func() (string, error) { return nothingLeft("cni0") }},
	}...)
}

const containerd2Conf = `version = 3
disabled_plugins = ["io.containerd.internal.v1.opt"] # makes a folder below /opt
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "` + image + `"
[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["` + farm + `"]
    conf_dir = "` + confDir + `"
`

// replace replaces the network that containerd attaches pods to, while it runs.
func (c *containerd2) replace(from, to string) (string, error) {
	if err := errors.Join(os.Remove(filepath.Join(confDir, from+".conflist")), c.configure(to, c.cniVersion)); err != nil {
		return "", err
	}
	err := waitUntil("containerd has read "+to, func() (bool, error) {
		var answer struct{ Info struct{ Cniconfig string } }
		if err := c.call("Status", object{"verbose": true}, &answer); err != nil {
			return false, err
		}
		return strings.Contains(answer.Info.Cniconfig, `"`+to+`"`), nil
	})
	return to, errors.Join(err, c.networkReady())
}

// notReady wants the runtime to say that pods cannot be attached, in words that hold a part.
func (c *containerd2) notReady(part string) (string, error) {
	err := c.networkReady()
	if err == nil || !strings.Contains(err.Error(), part) {
		return "", fmt.Errorf("NetworkReady: %w", err)
	}
	return err.Error(), nil
}

func (c *containerd2) exhaust() (_ string, err error) {
	if c.only, err = c.sandbox("only", nil); err != nil {
		return "", err
	}
	return c.notReady("is exhausted")
}

func (c *containerd2) refused() (string, error) {
	_, err := c.sandbox("refused", nil)
	if err == nil || !strings.Contains(err.Error(), "is exhausted") {
		return "", fmt.Errorf("it says %w", err)
	}
	_, said, _ := strings.Cut(err.Error(), "failed (add): ")
	return said, wantReserved("smallnet", c.only.addrs...)
}

func (c *containerd2) remedy() (string, error) {
	if err := c.remove(c.only); err != nil {
		return "", err
	}
	return "", errors.Join(c.networkReady(), wantReserved("smallnet"))
}

// underlay takes the link away through which a tunnel goes, and gives it back.
func (c *containerd2) underlay() (string, error) {
	if _, err := c.run("ip", "link", "set", "uplink", "down"); err != nil {
		return "", err
	}
	said, err := c.notReady("interface uplink is down")
	if err != nil {
		return "", err
	}
	if _, err := c.run("ip", "link", "set", "uplink", "up"); err != nil {
		return "", err
	}
	return said + "; true when it is up", c.networkReady()
}
