package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/private"
)

const (
	hostAddr    = "192.0.2.1"
	outsideAddr = "192.0.2.100"
	hostPort    = 8080
	podPort     = 80
)

const portmap = `{"type": "portmap", "capabilities": {"portMappings": true}}`

// oneNode is the scene of three pods on one host.
type oneNode struct {
	runtime *runtime
	pods    []*pod
}

func playOneNode(executable, farm, confFile string) error {
	conf, err := os.ReadFile(confFile)
	if err != nil {
		return err
	}
	d := &oneNode{}
	if d.runtime, err = newRuntime(farm, conf, []byte(portmap)); err != nil {
		return err
	}
	fmt.Printf("cnibox: %s and a portmap behind it, for three pods\n\n", confFile)
	return play(d.steps(executable, farm), d.drawing)
}

func (d *oneNode) steps(executable, farm string) []step {
	steps := []step{
		{"make a host and an outside", d.makeHost},
		{"install the plugins", func() (string, error) { return install(executable, farm) }},
	}
	for _, name := range []string{"pod-a", "pod-b", "pod-c"} {
		steps = append(steps, step{"ADD " + name, func() (string, error) { return d.add(name) }})
	}
	return append(steps,
		step{"pod-a to pod-b", func() (string, error) { return d.pods[0].greet(d.pods[1].addrs[0], podPort) }},
		step{"pod-b to pod-a", func() (string, error) { return d.pods[1].greet(d.pods[0].addrs[0], podPort) }},
		step{"pod-c to the host", func() (string, error) { return d.pods[2].greet("10.244.0.1", podPort) }},
		step{"pod-a to the outside, masqueraded", func() (string, error) { return d.masqueraded() }},
		step{"outside to pod-a, through a host port", d.throughHostPort},
		step{"pod-a to itself, through its host port", func() (string, error) { return d.pods[0].greet(hostAddr, hostPort) }},
		step{"CHECK all three", d.check},
		step{"the runtime forgets pod-c; GC finds it", d.forgetAndCollect},
		step{"DEL pod-a and pod-b", d.del},
		step{"nothing is left", d.nothingLeft},
	)
}

// makeHost turns the process's own namespace into a host with one link to the outside.
func (d *oneNode) makeHost() (string, error) {
	if err := nstest.Create(private.NetNS("outside")); err != nil {
		return "", err
	}
	err := ip(
		"link set lo up",
		"link add uplink type veth peer name eth0 netns outside",
		"addr add "+hostAddr+"/24 dev uplink",
		"link set uplink up",
		"-n outside addr add "+outsideAddr+"/24 dev eth0",
		"-n outside link set eth0 up",
	)
	if err != nil {
		return "", err
	}
	if err := serve("", podPort); err != nil {
		return "", err
	}
	if err := serve(private.NetNS("outside"), podPort); err != nil {
		return "", err
	}
	return "host " + hostAddr + ", outside " + outsideAddr, nil
}

func install(executable, farm string) (string, error) {
	out, err := exec.Command(executable, "install", "--dir", farm).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	entries, err := os.ReadDir(farm)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(filepath.Join(farm, "cnibox"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d plugins, one executable of %.1f MB", len(entries)-1, float64(info.Size())/1e6), nil
}

func (d *oneNode) add(name string) (string, error) {
	p := &pod{name: name, netns: private.NetNS(name)}
	if err := nstest.Create(p.netns); err != nil {
		return "", err
	}
	ports := ""
	if len(d.pods) == 0 {
		p.hostPort = hostPort
		ports = fmt.Sprintf(", %s:%d leads to its port %d", hostAddr, hostPort, podPort)
	}
	if err := d.runtime.add(context.Background(), p); err != nil {
		return "", err
	}
	d.pods = append(d.pods, p)
	return p.addrs[0] + ports, serve(p.netns, podPort)
}

func (d *oneNode) masqueraded() (string, error) {
	answer, err := d.pods[0].greet(outsideAddr, podPort)
	if err == nil && !strings.Contains(answer, hostAddr) {
		err = fmt.Errorf("the outside saw another source than the host: %s", answer)
	}
	return answer, err
}

func (d *oneNode) throughHostPort() (string, error) {
	return (&pod{netns: private.NetNS("outside")}).greet(hostAddr, hostPort)
}

func (d *oneNode) check() (string, error) {
	for _, p := range d.pods {
		if err := d.runtime.check(context.Background(), p); err != nil {
			return "", fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return "all as ADD made it", nil
}

// forgetAndCollect loses all that the runtime knows of a pod, the namespace included, and has the plugins find what is left of
// it. The verb GC came with version 1.1.0 of the specification, so the list is read as one of that version.
func (d *oneNode) forgetAndCollect() (string, error) {
	lost := d.pods[2]
	if err := errors.Join(os.RemoveAll(cacheDir), unix.Unmount(private.NetNS(lost.name), unix.MNT_DETACH)); err != nil {
		return "", err
	}
	list := *d.runtime.list
	list.CNIVersion = "1.1.0"
	var valid []types.GCAttachment
	for _, p := range d.pods[:2] {
		valid = append(valid, types.GCAttachment{ContainerID: p.name, IfName: "eth0"})
	}
	if err := d.runtime.cni.GCNetworkList(context.Background(), &list, &libcni.GCArgs{ValidAttachments: valid}); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join("/var/lib/cni/networks", list.Name, lost.addrs[0])); !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("the address %s is still reserved (%w)", lost.addrs[0], err)
	}
	if _, err := d.pods[0].greet(d.pods[1].addrs[0], podPort); err != nil {
		return "", fmt.Errorf("the pods that stay: %w", err)
	}
	return lost.addrs[0] + " is free again, the others run on", nil
}

func (d *oneNode) del() (string, error) {
	for _, p := range d.pods[:2] {
		if err := d.runtime.del(context.Background(), p); err != nil {
			return "", fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return "", nil
}

// nothingLeft looks for what the pods might have left on the host: links, addresses, entries of the packet filter.
func (d *oneNode) nothingLeft() (string, error) {
	links, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, l := range links {
		if l.Name != "lo" && l.Name != "uplink" && l.Name != "cni0" {
			return "", fmt.Errorf("interface %s is left", l.Name)
		}
	}
	reserved, err := filepath.Glob("/var/lib/cni/networks/" + d.runtime.list.Name + "/10.*")
	if err != nil || len(reserved) > 0 {
		return "", fmt.Errorf("addresses are left: %v (%w)", reserved, err)
	}
	if nft, err := exec.LookPath("nft"); err == nil {
		out, err := exec.Command(nft, "list", "ruleset").CombinedOutput()
		if err != nil || strings.Contains(string(out), "elements") {
			return "", fmt.Errorf("entries of the packet filter are left (%w):\n%s", err, out)
		}
	}
	return "no link, no address, no packet filter entry", nil
}
