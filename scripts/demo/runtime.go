package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/private"
)

// runtime is a container runtime's part: libcni with its cache.
type runtime struct {
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
}

const cacheDir = "/var/lib/cni-cache"

const portmap = `{"type": "portmap", "capabilities": {"portMappings": true}}`

// newRuntime chains a portmap behind the given configuration, of which not a byte is changed.
func newRuntime(conf []byte, farm string) (*runtime, error) {
	first, err := libcni.NetworkPluginConfFromBytes(conf)
	if err != nil {
		return nil, err
	}
	second, err := libcni.NetworkPluginConfFromBytes([]byte(portmap))
	if err != nil {
		return nil, err
	}
	return &runtime{
		cni: libcni.NewCNIConfigWithCacheDir([]string{farm}, cacheDir, nil),
		list: &libcni.NetworkConfigList{
			Name: first.Network.Name, CNIVersion: first.Network.CNIVersion, Plugins: []*libcni.PluginConfig{first, second},
		},
	}, nil
}

// pod is a network namespace with the result of its ADD.
type pod struct {
	name     string
	addr     string
	hostPort int // 0: none
}

func (p *pod) conf() *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{ContainerID: p.name, NetNS: private.NetNS(p.name), IfName: "eth0"}
	if p.hostPort != 0 {
		mapping := map[string]any{"hostPort": p.hostPort, "containerPort": podPort, "protocol": "tcp"}
		rt.CapabilityArgs = map[string]any{"portMappings": []any{mapping}}
	}
	return rt
}

func (r *runtime) add(ctx context.Context, p *pod) error {
	raw, err := r.cni.AddNetworkList(ctx, r.list, p.conf())
	if err != nil {
		return err
	}
	result, err := types100.NewResultFromResult(raw)
	if err != nil {
		return err
	}
	if len(result.IPs) == 0 {
		return errors.New("the result has no address")
	}
	p.addr = result.IPs[0].Address.IP.String()
	return nil
}

func (r *runtime) check(ctx context.Context, p *pod) error {
	return r.cni.CheckNetworkList(ctx, r.list, p.conf())
}

// forgetAndCollect loses all that the runtime knows of a pod, the namespace included, and has the plugins find what is left of
// it. The verb GC came with version 1.1.0 of the specification, so the list is read as one of that version.
func (d *demo) forgetAndCollect() (string, error) {
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
	if _, err := os.Stat(filepath.Join("/var/lib/cni/networks", list.Name, lost.addr)); !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("the address %s is still reserved (%w)", lost.addr, err)
	}
	if _, err := d.pods[0].greet(d.pods[1].addr, podPort); err != nil {
		return "", fmt.Errorf("the pods that stay: %w", err)
	}
	return lost.addr + " is free again, the others run on", nil
}

func (d *demo) del() (string, error) {
	for _, p := range d.pods[:2] {
		if err := d.runtime.cni.DelNetworkList(context.Background(), d.runtime.list, p.conf()); err != nil {
			return "", fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return "", nil
}

// nothingLeft looks for what the pods might have left on the host: links, addresses, entries of the packet filter.
func (d *demo) nothingLeft() (string, error) {
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

// serve answers every connection to a port with a line that says who is seen to ask. An empty path is the host.
func serve(netns string, port int) error {
	var listener net.Listener
	listen := func() (err error) {
		listener, err = net.Listen("tcp", ":"+strconv.Itoa(port))
		return err
	}
	err := inNamespace(netns, listen)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(conn, "%s\n", conn.RemoteAddr().(*net.TCPAddr).IP.To4())
			_ = conn.Close()
		}
	}()
	return nil
}

func inNamespace(path string, fn func() error) error {
	if path == "" {
		return fn()
	}
	return nstest.Enter(path, fn)
}

// greet connects from the pod and says whom the other side saw.
func (p *pod) greet(addr string, port int) (seen string, err error) {
	to := net.JoinHostPort(addr, strconv.Itoa(port))
	err = nstest.Enter(private.NetNS(p.name), func() error {
		conn, err := net.DialTimeout("tcp4", to, 5*time.Second)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		seen = strings.TrimSpace(line)
		return err
	})
	return fmt.Sprintf("%s answered; it saw %s", to, seen), err
}
