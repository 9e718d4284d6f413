package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// containerd is the scene of a kubelet's runtime, in one of its releases.
type containerd struct {
	cri
	folder       string // of the release that make has built; Debian's if empty
	conf         string
	cniVersion   string
	daemon       *daemon
	web, limited *sandbox
	old          []*sandbox // of before the reboot
}

// containerdSteps are those of Debian's release, which does not read results of 1.1.0.
func containerdSteps(h *host) []step {
	c := &containerd{cri: cri{host: h}, conf: containerdConf, cniVersion: "1.0.0"}
	return append(c.steps(), step{"nothing is left", func() (string, error) { return nothingLeft("cni0") }})
}

func (c *containerd) steps() []step {
	return []step{
		{"start containerd, import an image", c.begin},
		{"run pod web, with a port of the host", c.runWeb},
		{"run pod limited, with bandwidth annotations", c.runLimited},
		{"the results that libcni has cached", c.cached},
		{"gc: containerd has both pods", func() (string, error) { return c.living("containerd", 2) }},
		{"limited to web, IPv4", func() (string, error) { return c.podToPod(0) }},
		{"limited to web, IPv6", func() (string, error) { return c.podToPod(1) }},
		{"web to the outside, masqueraded", func() (string, error) { return c.ask(c.web, join(farAddr, podPort), hostAddr) }},
		{"outside to web, through the host's port", c.throughHostPort},
		{"web to itself, through the host's port", func() (string, error) { return c.ask(c.web, join(hostAddr, hostPort), "") }},
		{"web to limited, no faster than allowed", c.throughput},
		{"a pod that wants the same port is refused", c.portTaken},
		{"containerd is killed and started again", c.restart},
		{"outside to web, as before", c.throughHostPort},
		{"stop limited, twice, and remove it", c.stopLimited},
		{"run pod limited again", c.runLimited},
		{"the host is reset, with both pods running", c.reset},
		{"start containerd: it knows two dead pods", c.afterReset},
		{"gc: containerd has them still", func() (string, error) { return c.living("containerd", 2) }},
		{"run pod web, before the old ones are removed", c.runWeb},
		{"outside to the new web", c.throughHostPort},
		{"remove the old pods", c.removeOld},
		{"outside to the new web, as before", c.throughHostPort},
		{"remove web", c.removeWeb},
	}
}

func join(addr string, port int) string { return net.JoinHostPort(addr, strconv.Itoa(port)) }

const containerdConf = `version = 2
disabled_plugins = ["io.containerd.internal.v1.opt"] # makes a folder below /opt
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + image + `"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "` + farm + `"
    conf_dir = "` + confDir + `"
`

func (c *containerd) begin() (string, error) {
	if c.folder != "" {
		if err := c.prefer(c.folder); err != nil {
			return "", err
		}
	}
	if err := c.configure("podnet", c.cniVersion); err != nil {
		return "", err
	}
	if err := os.WriteFile(home+"/containerd.toml", []byte(c.conf), 0o600); err != nil {
		return "", err
	}
	if err := c.start(); err != nil {
		return "", err
	}
	tar, err := c.makeImage()
	if err != nil {
		return "", err
	}
	if _, err := c.run("ctr", "--namespace", "k8s.io", "images", "import", tar); err != nil {
		return "", err
	}
	return runtimes()
}

// runtimes are the versions of containerd and of what it starts containers by.
func runtimes() (string, error) {
	version, err := run("containerd", "--version")
	if err != nil {
		return "", err
	}
	runc, err := run("runc", "--version")
	if err != nil {
		return "", err
	}
	return "containerd " + strings.Fields(version)[2] + ", runc " + strings.Fields(runc)[2], nil
}

// start starts the daemon and waits until pods can be attached.
func (c *containerd) start() (err error) {
	c.daemon, err = c.launch("containerd", c.on, exec.Command("containerd", "--config", home+"/containerd.toml"))
	if err != nil {
		return err
	}
	return waitUntil("containerd is ready", func() (bool, error) {
		err := c.networkReady()
		return err == nil, err
	})
}

func (c *containerd) runWeb() (where string, err error) {
	c.web, err = c.sandbox("web", object{"portMappings": []object{{"containerPort": podPort, "hostPort": hostPort}}})
	if err != nil {
		return "", err
	}
	return strings.Join(c.web.addrs, ", "), nil
}

func (c *containerd) runLimited() (where string, err error) {
	c.limited, err = c.sandbox("limited", object{"annotations": object{
		"kubernetes.io/ingress-bandwidth": strconv.Itoa(limit), "kubernetes.io/egress-bandwidth": strconv.Itoa(limit),
	}})
	if err != nil {
		return "", err
	}
	return strings.Join(c.limited.addrs, ", "), nil
}

// cached wants the plugins' results to be of the list's version.
func (c *containerd) cached() (string, error) {
	for _, s := range []*sandbox{c.web, c.limited} {
		raw, err := os.ReadFile("/var/lib/cni/results/podnet-" + s.id + "-eth0")
		if err != nil {
			return "", err
		}
		var cached struct{ Result struct{ CNIVersion string } }
		if err := json.Unmarshal(raw, &cached); err != nil {
			return "", err
		}
		if cached.Result.CNIVersion != c.cniVersion {
			return "", fmt.Errorf("a result is of %q, and not %s", cached.Result.CNIVersion, c.cniVersion)
		}
	}
	return "both of version " + c.cniVersion, nil
}

func (c *containerd) podToPod(family int) (string, error) {
	return c.ask(c.limited, join(c.web.addrs[family], podPort), c.limited.addrs[family])
}

func (c *containerd) throughHostPort() (string, error) {
	return ask(outside, hostAddr, hostPort, farAddr)
}

func (c *containerd) throughput() (string, error) {
	return limited(c.web.netns, c.limited.netns, c.limited.addrs[0], 0)
}

func (c *containerd) portTaken() (string, error) {
	_, err := c.sandbox("greedy", object{"portMappings": []object{{"containerPort": podPort, "hostPort": hostPort}}})
	if err == nil || !strings.Contains(err.Error(), strconv.Itoa(hostPort)) {
		return "", fmt.Errorf("it says %w", err)
	}
	if _, err := c.throughHostPort(); err != nil {
		return "", err
	}
	_, said, _ := strings.Cut(err.Error(), "failed (add): ")
	return said, wantReserved("podnet", slices.Concat(c.web.addrs, c.limited.addrs)...)
}

// restart kills the daemon. A connection of pods must go on meanwhile.
func (c *containerd) restart() (string, error) {
	longest, err := whileTalking(c.limited.netns, c.web.netns, c.web.addrs[0], func() error {
		if err := c.daemon.kill(); err != nil {
			return err
		}
		return c.start()
	})
	if err != nil {
		return "", err
	}
	ready, notReady, err := c.states()
	if err != nil || ready != 2 || notReady != 0 {
		return "", fmt.Errorf("%d sandboxes are ready, %d are not (%w)", ready, notReady, err)
	}
	return fmt.Sprintf("both pods run on; their connection waited for %.1f ms at most", milliseconds(longest)), nil
}

func (c *containerd) stopLimited() (string, error) {
	if err := c.remove(c.limited); err != nil {
		return "", err
	}
	return "its addresses are free", wantReserved("podnet", slices.Clone(c.web.addrs)...)
}

func (c *containerd) reset() (string, error) {
	c.old = []*sandbox{c.web, c.limited}
	if err := c.reboot(); err != nil {
		return "", err
	}
	if _, err := c.makeNetwork(); err != nil {
		return "", err
	}
	return "/run is empty, addresses are still reserved", wantReserved("podnet", slices.Concat(c.web.addrs, c.limited.addrs)...)
}

func (c *containerd) afterReset() (string, error) {
	if err := c.start(); err != nil {
		return "", err
	}
	ready, notReady, err := c.states()
	if err == nil && (ready != 0 || notReady != 2) {
		err = fmt.Errorf("%d sandboxes are ready, %d are not", ready, notReady)
	}
	return "", err
}

func (c *containerd) removeOld() (string, error) {
	if err := c.remove(c.old...); err != nil {
		return "", err
	}
	return "their addresses are free", wantReserved("podnet", slices.Clone(c.web.addrs)...)
}

func (c *containerd) removeWeb() (string, error) {
	if err := c.remove(c.web); err != nil {
		return "", err
	}
	if err := wantSilence(outside, hostAddr, hostPort); err != nil {
		return "", err
	}
	_, notReady, err := c.states()
	if err == nil && notReady > 0 {
		err = fmt.Errorf("%d sandboxes are left", notReady)
	}
	return "", errors.Join(err, wantReserved("podnet"))
}
