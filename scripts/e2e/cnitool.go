package main

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/private"
)

// cnitool is the scene of the specification's own client, and of the library below it for what the program has no command for.
type cnitool struct {
	*host
	pods map[string]*pod
}

// pod is a network namespace, with its addresses in podnet, IPv4 first.
type pod struct {
	netns string
	addrs []string
}

func cnitoolSteps(h *host) []step {
	c := &cnitool{host: h, pods: map[string]*pod{}}
	return []step{
		{"write three lists; VERSION of each plugin", c.version},
		{"STATUS", c.ready},
		{"ADD pod-a, with a port of the host", func() (string, error) { return c.add("pod-a", ports) }},
		{"ADD pod-b, with limited bandwidth", func() (string, error) { return c.add("pod-b", bandwidth) }},
		{"ADD pod-c", func() (string, error) { return c.add("pod-c", "") }},
		{"ADD pod-a to a second network", c.addSecond},
		{"pod-b to pod-a, IPv4", func() (string, error) {
			return c.ask("pod-b", c.pods["pod-a"].addrs[0], podPort, c.pods["pod-b"].addrs[0])
		}},
		{"pod-b to pod-a, IPv6", func() (string, error) {
			return c.ask("pod-b", c.pods["pod-a"].addrs[1], podPort, c.pods["pod-b"].addrs[1])
		}},
		{"pod-a to the outside, masqueraded", func() (string, error) { return c.ask("pod-a", farAddr, podPort, hostAddr) }},
		{"outside to pod-a, through the host's port", func() (string, error) { return ask(outside, hostAddr, hostPort, farAddr) }},
		{"pod-c to pod-b, no faster than allowed", c.limited},
		{"what libcni has cached", c.cached},
		{"CHECK all", c.check},
		{"CHECK of pod-b, whose default route is gone", c.checkDamaged},
		{"DEL pod-a from the second network", c.delSecond},
		{"pod-c is lost; GC with pod-a and pod-b valid", c.collect},
		{"pod-b to pod-a, as before", func() (string, error) {
			return c.ask("pod-b", c.pods["pod-a"].addrs[0], podPort, c.pods["pod-b"].addrs[0])
		}},
		{"DEL pod-b, twice", c.del},
		{"cnitool gc, which tells plugins no list", c.collectCached},
		{"GC with an empty list", c.collectAll},
		{"fill a network of one address: STATUS says so", c.exhaust},
		{"nothing is left", func() (string, error) { return nothingLeft("cni0") }},
	}
}

// The capabilities' arguments.
var (
	ports     = fmt.Sprintf(`{"portMappings": [{"hostPort": %d, "containerPort": %d, "protocol": "tcp"}]}`, hostPort, podPort)
	bandwidth = fmt.Sprintf(`{"bandwidth": {"ingressRate": %d, "ingressBurst": %d, "egressRate": %[1]d, "egressBurst": %[2]d}}`, limit, burst)
)

const burst = 1_000_000 // bits

// call has cnitool call a verb on the host.
func (c *cnitool) call(verb, network, podName, capabilities string, args ...string) (out []byte, err error) {
	err = c.on(func() error {
		cmd := exec.Command(c.program("cnitool"), append([]string{verb, network, private.NetNS(podName)}, args...)...)
		cmd.Env = append(os.Environ(), "CNI_PATH="+farm, "NETCONFPATH="+confDir, "CAP_ARGS="+capabilities)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err = cmd.Output()
		if err != nil {
			err = fmt.Errorf("cnitool %s %s %s: %w: %s%s", verb, network, podName, err, stderr.String(), out)
		}
		return err
	})
	return out, err
}

// runtimeConf is what cnitool tells libcni of a pod.
func runtimeConf(podName string) *libcni.RuntimeConf {
	sum := sha512.Sum512([]byte(private.NetNS(podName)))
	return &libcni.RuntimeConf{ContainerID: fmt.Sprintf("cnitool-%x", sum[:10]), NetNS: private.NetNS(podName), IfName: "eth0"}
}

// library has libcni do something on the host, with the folder of cached results that cnitool has.
func (c *cnitool) library(network string, fn func(*libcni.CNIConfig, *libcni.NetworkConfigList) error) error {
	return c.on(func() error {
		list, err := libcni.LoadNetworkConf(confDir, network)
		if err != nil {
			return err
		}
		return fn(libcni.NewCNIConfig([]string{farm}, nil), list)
	})
}

func (c *cnitool) version() (string, error) {
	plugins := map[string]bool{}
	for _, network := range []string{"podnet", "sidenet", "smallnet"} {
		if err := c.configure(network, "1.1.0"); err != nil {
			return "", err
		}
		err := c.library(network, func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
			if _, err := cni.ValidateNetworkList(context.Background(), list); err != nil {
				return err
			}
			for _, plugin := range list.Plugins {
				info, err := cni.GetVersionInfo(context.Background(), plugin.Network.Type)
				if err != nil {
					return err
				}
				if !slices.Contains(info.SupportedVersions(), list.CNIVersion) {
					return fmt.Errorf("%s speaks %q, but not %s", plugin.Network.Type, info.SupportedVersions(), list.CNIVersion)
				}
				plugins[plugin.Network.Type] = true
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	modules, err := c.run("go", "version", "-m", c.program("cnitool"))
	for line := range strings.Lines(modules) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "github.com/containernetworking/cni" {
			return fmt.Sprintf("%d plugins speak 1.1.0; cnitool and libcni %s", len(plugins), f[2]), nil
		}
	}
	return "", fmt.Errorf("no version of cnitool (%w): %s", err, modules)
}

func (c *cnitool) ready() (string, error) {
	for _, network := range []string{"podnet", "sidenet", "smallnet"} {
		if _, err := c.call("status", network, "none", ""); err != nil {
			return "", err
		}
	}
	return "all ready", nil
}

func (c *cnitool) add(name, capabilities string) (string, error) {
	p := &pod{netns: private.NetNS(name)}
	if err := nstest.Create(p.netns); err != nil {
		return "", err
	}
	var err error
	if p.addrs, err = c.attach("podnet", name, capabilities); err != nil {
		return "", err
	}
	if len(p.addrs) != 2 {
		return "", fmt.Errorf("%s has the addresses %q", name, p.addrs)
	}
	c.pods[name] = p
	return strings.Join(p.addrs, ", "), serve(p.netns, podPort)
}

// attach calls ADD and returns the addresses of the result.
func (c *cnitool) attach(network, name, capabilities string, args ...string) (addrs []string, err error) {
	out, err := c.call("add", network, name, capabilities, args...)
	if err != nil {
		return nil, err
	}
	raw, err := types100.NewResult(out)
	if err != nil {
		return nil, err
	}
	result, err := types100.GetResult(raw)
	if err != nil {
		return nil, err
	}
	for _, ip := range result.IPs {
		addrs = append(addrs, ip.Address.IP.String())
	}
	return addrs, nil
}

func (c *cnitool) addSecond() (string, error) {
	addrs, err := c.attach("sidenet", "pod-a", "", "-i", "net1")
	if err != nil {
		return "", err
	}
	return ask(hostNS, addrs[0], podPort, "10.245.0.1")
}

func (c *cnitool) ask(from, addr string, port int, as string) (string, error) {
	return ask(c.pods[from].netns, addr, port, as)
}

func (c *cnitool) limited() (string, error) {
	return limited(c.pods["pod-c"].netns, c.pods["pod-b"].netns, c.pods["pod-b"].addrs[0], burst)
}

// cached compares the addresses of the cached results with those that ADD has told.
func (c *cnitool) cached() (string, error) {
	err := c.library("podnet", func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		for name, p := range c.pods {
			raw, err := cni.GetNetworkListCachedResult(list, runtimeConf(name))
			if err != nil {
				return err
			}
			result, err := types100.GetResult(raw)
			if err != nil {
				return err
			}
			for i, ip := range result.IPs {
				if ip.Address.IP.String() != p.addrs[i] {
					return fmt.Errorf("%s has %s cached, and not %s", name, ip.Address.IP, p.addrs[i])
				}
			}
		}
		return nil
	})
	return fmt.Sprintf("the results of %d pods", len(c.pods)), err
}

func (c *cnitool) check() (string, error) {
	for name := range c.pods {
		if _, err := c.call("check", "podnet", name, ""); err != nil {
			return "", err
		}
	}
	_, err := c.call("check", "sidenet", "pod-a", "", "-i", "net1")
	return "all as ADD made it", err
}

// checkDamaged takes a route away, which CHECK has to notice, and has DEL and ADD put it back.
func (c *cnitool) checkDamaged() (string, error) {
	err := nstest.Enter(c.pods["pod-b"].netns, func() error {
		_, err := run("ip", "route", "del", "default")
		return err
	})
	if err != nil {
		return "", err
	}
	_, err = c.call("check", "podnet", "pod-b", "")
	if err == nil || !strings.Contains(err.Error(), "0.0.0.0/0") {
		return "", fmt.Errorf("CHECK says %w", err)
	}
	_, said, _ := strings.Cut(err.Error(), "Error: ")
	said, _, _ = strings.Cut(said, "\n")
	if _, err := c.call("del", "podnet", "pod-b", ""); err != nil {
		return "", err
	}
	if c.pods["pod-b"].addrs, err = c.attach("podnet", "pod-b", bandwidth); err != nil {
		return "", err
	}
	_, err = c.call("check", "podnet", "pod-b", "")
	return said + "; well after DEL and ADD", err
}

func (c *cnitool) delSecond() (string, error) {
	if _, err := c.call("del", "sidenet", "pod-a", "", "-i", "net1"); err != nil {
		return "", err
	}
	if err := wantReserved("sidenet"); err != nil {
		return "", err
	}
	if _, err := ask(hostNS, c.pods["pod-a"].addrs[0], podPort, ""); err != nil {
		return "", fmt.Errorf("the first network: %w", err)
	}
	return "its address is free, podnet as before", nil
}

// collect loses all that the runtime knows of a pod, the namespace included, and has the plugins find what is left of it.
func (c *cnitool) collect() (string, error) {
	lost := c.pods["pod-c"]
	cached, err := filepath.Glob("/var/lib/cni/results/podnet-" + runtimeConf("pod-c").ContainerID + "-*")
	if err != nil || len(cached) != 1 {
		return "", fmt.Errorf("cached results of pod-c: %q (%w)", cached, err)
	}
	if err := errors.Join(os.Remove(cached[0]), unix.Unmount(lost.netns, unix.MNT_DETACH), os.Remove(lost.netns)); err != nil {
		return "", err
	}
	delete(c.pods, "pod-c")
	var addrs []string
	var valid []types.GCAttachment
	for name, p := range c.pods {
		addrs = append(addrs, p.addrs...)
		valid = append(valid, types.GCAttachment{ContainerID: runtimeConf(name).ContainerID, IfName: "eth0"})
	}
	err = c.library("podnet", func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		return cni.GCNetworkList(context.Background(), list, &libcni.GCArgs{ValidAttachments: valid})
	})
	if err != nil {
		return "", err
	}
	if _, err := ask(outside, hostAddr, hostPort, farAddr); err != nil {
		return "", fmt.Errorf("pod-a, which stays: %w", err)
	}
	return strings.Join(lost.addrs, ", ") + " are free again, the others run on", wantReserved("podnet", addrs...)
}

func (c *cnitool) del() (string, error) {
	for range 2 {
		if _, err := c.call("del", "podnet", "pod-b", ""); err != nil {
			return "", err
		}
		if err := wantReserved("podnet", slices.Clone(c.pods["pod-a"].addrs)...); err != nil {
			return "", err
		}
	}
	return "its addresses are free", nil
}

// collectCached has cnitool collect. For libcni that is DEL of all that it has cached, and then GC without the list that the specification wants,
// which our plugins refuse, as it would be all pods that they would have to take away.
func (c *cnitool) collectCached() (string, error) {
	_, err := c.call("gc", "podnet", "none", "")
	if err == nil || !strings.Contains(err.Error(), "cni.dev/valid-attachments: missing") || strings.Contains(err.Error(), "failed to delete") {
		return "", fmt.Errorf("it says %w", err)
	}
	if err := wantSilence(outside, hostAddr, hostPort); err != nil {
		return "", err
	}
	for name, p := range c.pods {
		links := func() error {
			out, err := run("ip", "-o", "link")
			if err == nil && strings.Count(out, "\n") != 1 {
				err = fmt.Errorf("%s still has %s", name, out)
			}
			return err
		}
		if err := errors.Join(nstest.Enter(p.netns, links), unix.Unmount(p.netns, unix.MNT_DETACH), os.Remove(p.netns)); err != nil {
			return "", err
		}
		delete(c.pods, name)
	}
	return "DEL of pod-a, then GC is refused", wantReserved("podnet")
}

// collectAll attaches a pod with a port, has the runtime lose it, and wants GC to take it away.
func (c *cnitool) collectAll() (string, error) {
	if _, err := c.add("pod-c", ports); err != nil {
		return "", err
	}
	lost := c.pods["pod-c"]
	if err := errors.Join(os.RemoveAll("/var/lib/cni/results"), unix.Unmount(lost.netns, unix.MNT_DETACH), os.Remove(lost.netns)); err != nil {
		return "", err
	}
	err := c.library("podnet", func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		return cni.GCNetworkList(context.Background(), list, &libcni.GCArgs{})
	})
	if err != nil {
		return "", err
	}
	if err := wantSilence(outside, hostAddr, hostPort); err != nil {
		return "", err
	}
	return "a lost pod's addresses and port of the host are free", wantReserved("podnet")
}

// exhaust takes a network's only address. STATUS has to say so with the specification's code, and be well again when it is given back.
func (c *cnitool) exhaust() (string, error) {
	netns := private.NetNS("pod-d")
	if err := nstest.Create(netns); err != nil {
		return "", err
	}
	if _, err := c.attach("smallnet", "pod-d", ""); err != nil {
		return "", err
	}
	var said string
	err := c.library("smallnet", func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		err := cni.GetStatusNetworkList(context.Background(), list)
		var e *types.Error
		if !errors.As(err, &e) || e.Code != 50 {
			return fmt.Errorf("STATUS says %w", err)
		}
		raw, err := json.Marshal(e)
		said = string(raw)
		return err
	})
	if err != nil {
		return "", err
	}
	if _, err := c.call("status", "smallnet", "none", ""); err == nil {
		return "", errors.New("cnitool status says that all is well")
	}
	for _, verb := range []string{"del", "status"} {
		if _, err := c.call(verb, "smallnet", "pod-d", ""); err != nil {
			return "", err
		}
	}
	return said, errors.Join(unix.Unmount(netns, unix.MNT_DETACH), os.Remove(netns))
}
