// Command guest is the first process of a virtual machine of another architecture. It attaches pods by the executable of that architecture, on a
// kernel of its own, and prints a line for each step.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/greet"
	"github.com/cnibox/cnibox/scripts/steps"
)

const (
	farm     = "/opt/cni/bin"
	outside  = "/run/netns/outside"
	hostAddr = "192.0.2.1"
	farAddr  = "192.0.2.2"
	podPort  = 8000
	hostPort = 18080
)

func main() {
	err := errors.Join(mounts(), modules())
	if err == nil {
		err = play()
	}
	if err != nil {
		fmt.Println("guest:", err)
	} else {
		fmt.Println("guest: all steps done")
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func mounts() error {
	var errs []error
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}, {"tmpfs", "/var/lib"}, {"tmpfs", "/tmp"}} {
		err := errors.Join(os.MkdirAll(m.at, 0o755), unix.Mount(m.kind, m.at, m.kind, 0, ""))
		if err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("mount %s: %w", m.at, err))
		}
	}
	return errors.Join(append(errs, os.MkdirAll("/run/netns", 0o755))...)
}

// modules loads those of the kernel, whose names begin with their place in the order.
func modules() error {
	paths, err := filepath.Glob("/modules/*.ko")
	for _, path := range paths {
		f, openErr := os.Open(path)
		if openErr != nil {
			return openErr
		}
		if loadErr := unix.FinitModule(int(f.Fd()), parameters(path), 0); loadErr != nil && !errors.Is(loadErr, unix.EEXIST) {
			err = errors.Join(err, fmt.Errorf("%s: %w", path, loadErr))
		}
		_ = f.Close()
	}
	return err
}

// node is the machine with its pods.
type node struct {
	lists map[string]*libcni.NetworkConfigList
	pods  []*pod
}

type pod struct {
	network, netns string
	addrs          []string
}

func play() error {
	n := &node{lists: map[string]*libcni.NetworkConfigList{}}
	for i, s := range []struct {
		what string
		fn   func() (string, error)
	}{
		{"the machine", machine},
		{"a link to the outside", n.link},
		{"install", n.install},
		{"ADD one, with a port of the host", func() (string, error) { return n.add("podnet") }},
		{"ADD two", func() (string, error) { return n.add("podnet") }},
		{"CHECK of both", func() (string, error) { return n.each("CHECK") }},
		{"two to one, IPv4", func() (string, error) { return n.ask(n.pods[1].netns, n.pods[0].addrs[0], podPort, n.pods[1].addrs[0]) }},
		{"two to one, IPv6", func() (string, error) { return n.ask(n.pods[1].netns, n.pods[0].addrs[1], podPort, n.pods[1].addrs[1]) }},
		{"the outside to one, by the host's port", func() (string, error) { return n.ask(outside, hostAddr, hostPort, farAddr) }},
		{"one to the outside, masqueraded", func() (string, error) { return n.ask(n.pods[0].netns, farAddr, podPort, hostAddr) }},
		{"GC that keeps both; CHECK", n.keep},
		{"DEL of both, twice", n.remove},
		{"ADD in the tunnel's network", func() (string, error) { return n.add("tunnelnet") }},
		{"CHECK and DEL of it", func() (string, error) {
			if _, err := n.each("CHECK"); err != nil {
				return "", err
			}
			return n.remove()
		}},
		{"nothing is left", left},
	} {
		if err := steps.Do(i+1, s.what, s.fn); err != nil {
			return err
		}
	}
	return nil
}

func machine() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", err
	}
	return runtime.GOARCH + ", Linux " + unix.ByteSliceToString(name.Release[:]), nil
}

// link joins the machine to a namespace, where a server tells who asks.
func (n *node) link() (string, error) {
	if err := nstest.Create(outside); err != nil {
		return "", err
	}
	netns, err := os.Open(outside)
	if err != nil {
		return "", err
	}
	defer func() { _ = netns.Close() }()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "uplink"
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(netns.Fd())}
	if err := errors.Join(netlink.LinkAdd(veth), up("lo", ""), up("uplink", hostAddr+"/24")); err != nil {
		return "", err
	}
	return "", nstest.Enter(outside, func() error {
		return errors.Join(up("lo", ""), up("eth0", farAddr+"/24"), greet.Serve(podPort))
	})
}

func up(name, addr string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if addr != "" {
		a, err := netlink.ParseAddr(addr)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

func (n *node) install() (string, error) {
	if err := run("/cnibox", "install", "--dir", farm); err != nil {
		return "", err
	}
	for _, name := range []string{"podnet", "tunnelnet"} {
		list, err := libcni.NetworkConfFromFile("/" + name + ".conflist")
		if err != nil {
			return "", err
		}
		n.lists[name] = list
	}
	return "", nil
}

func run(name string, args ...string) error {
	p, err := os.StartProcess(name, append([]string{name}, args...), &os.ProcAttr{Env: os.Environ(), Files: []*os.File{nil, os.Stderr, os.Stderr}})
	if err != nil {
		return err
	}
	state, err := p.Wait()
	if err == nil && !state.Success() {
		err = fmt.Errorf("%s: %s", name, state)
	}
	return err
}

func (n *node) cni() *libcni.CNIConfig { return libcni.NewCNIConfig([]string{farm}, nil) }

func (n *node) conf(p *pod) *libcni.RuntimeConf {
	conf := &libcni.RuntimeConf{ContainerID: filepath.Base(p.netns), NetNS: p.netns, IfName: "eth0"}
	if strings.HasSuffix(p.netns, "-0") {
		conf.CapabilityArgs = map[string]any{"portMappings": []map[string]any{{"hostPort": hostPort, "containerPort": podPort, "protocol": "tcp"}}}
	}
	return conf
}

func (n *node) add(network string) (string, error) {
	p := &pod{network: network, netns: fmt.Sprintf("/run/netns/%s-%d", network, len(n.pods))}
	if err := nstest.Create(p.netns); err != nil {
		return "", err
	}
	raw, err := n.cni().AddNetworkList(context.Background(), n.lists[network], n.conf(p))
	if err != nil {
		return "", err
	}
	result, err := types100.GetResult(raw)
	if err != nil {
		return "", err
	}
	for _, ip := range result.IPs {
		p.addrs = append(p.addrs, ip.Address.IP.String())
	}
	n.pods = append(n.pods, p)
	return strings.Join(p.addrs, ", "), nstest.Enter(p.netns, func() error { return greet.Serve(podPort) })
}

func (n *node) each(verb string) (string, error) {
	for _, p := range n.pods {
		call := n.cni().CheckNetworkList
		if verb == "DEL" {
			call = n.cni().DelNetworkList
		}
		if err := call(context.Background(), n.lists[p.network], n.conf(p)); err != nil {
			return "", err
		}
	}
	return "", nil
}

func (n *node) ask(from, addr string, port int, as string) (string, error) {
	var seen string
	err := nstest.Enter(from, func() (err error) {
		seen, err = greet.Ask(net.JoinHostPort(addr, strconv.Itoa(port)))
		return err
	})
	if err == nil && seen != as {
		err = fmt.Errorf("it saw %s, and not %s", seen, as)
	}
	return "it saw " + seen, err
}

func (n *node) keep() (string, error) {
	var valid []types.GCAttachment
	for _, p := range n.pods {
		valid = append(valid, types.GCAttachment{ContainerID: filepath.Base(p.netns), IfName: "eth0"})
	}
	err := n.cni().GCNetworkList(context.Background(), n.lists["podnet"], &libcni.GCArgs{ValidAttachments: valid})
	if err != nil {
		return "", err
	}
	return n.each("CHECK")
}

func (n *node) remove() (string, error) {
	for range 2 {
		if _, err := n.each("DEL"); err != nil {
			return "", err
		}
	}
	n.pods = nil
	return "", nil
}

// left wants no link, no address and no record to be left.
func left() (string, error) {
	var found []string
	links, err := net.Interfaces()
	for _, l := range links {
		if l.Name != "lo" && l.Name != "uplink" && l.Name != "cni0" {
			found = append(found, l.Name)
		}
	}
	for _, dir := range []string{"/run/cnibox", "/var/lib/cni/networks", "/var/lib/cni/results"} {
		walkErr := filepath.WalkDir(dir, func(path string, f fs.DirEntry, err error) error {
			if err == nil && !f.IsDir() && !lasting(path) {
				found = append(found, path)
			}
			return err
		})
		if !errors.Is(walkErr, fs.ErrNotExist) {
			err = errors.Join(err, walkErr)
		}
	}
	if len(found) > 0 {
		err = errors.Join(err, fmt.Errorf("left over: %q", found))
	}
	return "no link, address, record, cached result", err
}

// lasting tells whether a file of a network's addresses stays once it is made: its lock, the end of the round robin, the index.
func lasting(path string) bool {
	name := filepath.Base(path)
	return name == "lock" || name == "index" || strings.HasPrefix(name, "last_reserved_ip")
}

// parameters are those of a module: ifb comes with two links unless it is told otherwise.
func parameters(path string) string {
	if strings.HasSuffix(path, "-ifb.ko") {
		return "numifbs=0"
	}
	return ""
}
