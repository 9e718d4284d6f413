package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/private"
)

// floorTable is what the floor program's elements are part of.
const floorTable = `
table ip floor {
	set pods { type ipv4_addr; }
	chain postrouting {
		type nat hook postrouting priority srcnat;
		ip saddr @pods ip daddr != 10.100.0.0/16 masquerade
	}
}`

// host is a node as one contender sees it: a network namespace, address files, a runtime's cache, and pods.
type host struct {
	contender
	network network
	say     *progress
	netns   string
	dir     string
	cache   string // the runtime's
	cni     *libcni.CNIConfig
	conf    *libcni.NetworkConfigList
	made    int    // pods so far
	pods    []*pod // those whose namespaces are there
	lasting int    // those that stay attached
}

type pod struct {
	number int
	netns  string
	rt     *libcni.RuntimeConf
}

func (b *bench) newHost(c contender, n network) (*host, error) {
	dir, err := os.MkdirTemp(b.temp, "host-")
	if err != nil {
		return nil, err
	}
	name := filepath.Base(dir)
	h := &host{contender: c, network: n, say: b.say, dir: dir, netns: private.NetNS(name), cache: filepath.Join("/var/lib/cni-cache", name)}
	raw, err := n.list(c, filepath.Join(dir, "networks"))
	if err != nil {
		return nil, err
	}
	if c.name == cniboxFused {
		if raw, err = fused(c, raw, dir); err != nil {
			return nil, err
		}
	}
	if h.conf, err = libcni.NetworkConfFromBytes(raw); err != nil {
		return nil, err
	}
	h.cni = libcni.NewCNIConfigWithCacheDir([]string{c.bin}, h.cache, nil)
	if err := os.Mkdir(filepath.Join(dir, "networks"), 0o755); err != nil {
		return nil, err
	}
	if err := nstest.Create(h.netns); err != nil {
		return nil, err
	}
	return h, nstest.Enter(h.netns, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil || c.name != floor {
			return err
		}
		nft := exec.Command("nft", "-f", "-")
		nft.Stdin = strings.NewReader(floorTable)
		out, err := nft.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("nft: %w: %s", err, out)
		}
		return err
	})
}

// newPod makes a pod's namespace.
func (h *host) newPod() (*pod, error) {
	h.made++
	p := &pod{number: h.made, netns: fmt.Sprint(h.netns, "-", h.made)}
	p.rt = &libcni.RuntimeConf{
		ContainerID: fmt.Sprintf("%064x", p.number), NetNS: p.netns, IfName: "eth0", CapabilityArgs: h.network.capabilities(p.number),
	}
	if h.network.main == "loopback" {
		p.rt.IfName = "lo"
	}
	h.pods = append(h.pods, p)
	return p, nstest.Create(p.netns)
}

func (h *host) add(ctx context.Context, p *pod) error {
	_, err := h.cni.AddNetworkList(ctx, h.conf, p.rt)
	return err
}

func (h *host) check(ctx context.Context, p *pod) error {
	return h.cni.CheckNetworkList(ctx, h.conf, p.rt)
}

func (h *host) del(ctx context.Context, p *pod) error {
	return h.cni.DelNetworkList(ctx, h.conf, p.rt)
}

// grow attaches pods that stay, some at a time, until there are enough.
func (h *host) grow(ctx context.Context, enough int) error {
	var pods []*pod
	for ; h.lasting < enough; h.lasting++ {
		p, err := h.newPod()
		if err != nil {
			return err
		}
		pods = append(pods, p)
	}
	if len(pods) == 0 {
		return nil
	}
	// The first makes what all share.
	if err := nstest.Enter(h.netns, func() error { return h.add(ctx, pods[0]) }); err != nil {
		return err
	}
	const atATime = 4
	work, failed := make(chan *pod, len(pods)), make(chan error, atATime)
	for _, p := range pods[1:] {
		work <- p
	}
	close(work)
	var wg sync.WaitGroup
	for range atATime {
		wg.Go(func() {
			failed <- nstest.Enter(h.netns, func() error {
				for p := range work {
					if err := errors.Join(ctx.Err(), h.add(ctx, p)); err != nil {
						return err
					}
					h.progress("%d of %d pods", p.number, enough)
				}
				return nil
			})
		})
	}
	wg.Wait()
	close(failed)
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (h *host) progress(format string, args ...any) {
	h.say.show("%s, %s: %s", h.network.name, h.name, fmt.Sprintf(format, args...))
}

// close takes the namespaces away, and with them all links and rules, and the files.
func (h *host) close() error {
	var errs []error
	for _, p := range h.pods {
		errs = append(errs, removeNetNS(p.netns))
	}
	return errors.Join(append(errs, removeNetNS(h.netns), os.RemoveAll(h.dir))...)
}

func removeNetNS(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return os.Remove(path)
}

// run runs a program for each line.
func run(lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, out)
		}
	}
	return nil
}
