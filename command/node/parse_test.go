package node

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/overlay"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

func FuzzCached(f *testing.F) {
	f.Add([]byte(`{"kind": "cniCacheV1", "containerId": "a", "ifName": "eth0", "networkName": "lan", "netns": "/run/netns/a", "config": "e30=",
		"cniArgs": [["K8S_POD_NAME", "web"]], "capabilityArgs": {"portMappings": [{"hostPort": 80}]},
		"result": {"ips": [{"address": "10.1.0.2/24", "interface": 1}], "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/a"}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := parseCached(text)
		if c == nil {
			return
		}
		a := &Attachment{IfName: c.IfName}
		a.take(c)
		for _, p := range a.Result {
			if !p.IsValid() {
				t.Errorf("result %s of %q", p, text)
			}
		}
	})
}

func FuzzConf(f *testing.F) {
	f.Add([]byte(`{"name": "lan", "plugins": [{"type": "bridge", "ipam": {"type": "host-local", "dataDir": "/x"}}, {"type": "portmap"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if name, c := parseConf(text); (name == "") != (c == nil) {
			t.Errorf("name %q, %+v", name, c)
		}
	})
}

func FuzzMountinfo(f *testing.F) {
	f.Add(`36 35 0:4 net:[4026532281] /run/netns/a\\040b rw shared:1 - nsfs nsfs rw`)
	f.Fuzz(func(t *testing.T, line string) {
		if _, path, ok := mountedNS(line); ok && strings.Contains(line, `\`) && len(path) > len(line) {
			t.Errorf("path %q of %q", path, line)
		}
	})
}

func TestMountedNS(t *testing.T) {
	t.Parallel()
	inode, path, ok := mountedNS(`36 35 0:4 net:[4026532281] /run/a\040b\134 rw shared:1 - nsfs nsfs rw`)
	if !ok || inode != 4026532281 || path != `/run/a b\` {
		t.Errorf("%d, %q, %t", inode, path, ok)
	}
	if _, _, ok := mountedNS(`36 35 0:4 mnt:[4026532281] /run/a rw - nsfs nsfs rw`); ok {
		t.Error("a mount namespace was taken for a network namespace")
	}
}

func TestParseOwner(t *testing.T) {
	t.Parallel()
	o := owner.Owner{Network: "lan", ContainerID: "a", IfName: "eth0"}
	if got, ok := parseOwner(o.String()); !ok || got != o {
		t.Errorf("%+v, %t", got, ok)
	}
	for _, text := range []string{"", "lan", "lan/a", "lan/a/b/c", "//", "cnibox overlay/x y/z"} {
		if _, ok := parseOwner(text); ok {
			t.Errorf("%q was taken for an owner", text)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 59 * time.Second: "59s", 90 * time.Second: "1m", 2 * time.Hour: "2h", 49 * time.Hour: "2d",
	} {
		if got := Age(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0", 950: "950", 1000: "1k", 1500: "1.5k", 8_000_000: "8M", 123_456_000: "123M", 2_500_000_000: "2.5G", 1 << 62: "4611686T"} {
		if got := Rate(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestEachNamespaceOnce(t *testing.T) {
	t.Parallel()
	p := places{}
	p.add(7, "/proc/3/ns/net", 3)
	p.add(7, "/run/netns/a", 0)
	p.add(7, "/proc/4/ns/net", 4)
	if ns := p[7]; len(p) != 1 || ns.Path != "/run/netns/a" || ns.PID != 3 {
		t.Errorf("%+v", ns)
	}
}

// A process of another user that may not be looked at, as for root without CAP_SYS_PTRACE, is told of: who is with it might be taken for dead.
func TestHiddenProcesses(t *testing.T) {
	t.Parallel()
	const nobody = 65534
	c := exec.Command("sleep", "60")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = c.Process.Kill(), c.Wait() }()
	if err := (places{}).findProcesses(); err != nil {
		t.Errorf("with all rights: %v", err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread goes with what it lacks
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var d [2]unix.CapUserData
		if err := unix.Capget(&h, &d[0]); err != nil {
			t.Error(err)
		}
		d[0].Effective &^= 1 << unix.CAP_SYS_PTRACE
		if err := unix.Capset(&h, &d[0]); err != nil {
			t.Error(err)
		}
		done <- (places{}).findProcesses()
	}()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "CAP_SYS_PTRACE") {
		t.Errorf("without CAP_SYS_PTRACE: %v", err)
	}
}

// Of a sandbox that is there but could not be read nobody says that something is missing in it.
func TestUnreadSandbox(t *testing.T) {
	t.Parallel()
	r := &reader{
		node: &Node{Host: &Namespace{NSID: rtnl.NoNamespace}, Namespaces: []*Namespace{{NSID: 3, Path: "/run/netns/p"}}},
		all:  map[owner.Owner]*Attachment{}, byLink: map[string]*Attachment{},
	}
	a := r.of(owner.Owner{Network: "n", ContainerID: "c", IfName: "eth0"})
	a.HostLink = &Link{Index: 9, Kind: "veth", Up: true, Peer: 2, PeerNSID: 3}
	r.locate()
	if r.finish(); a.State != OK || len(a.Findings) > 0 || a.Sandbox != "/run/netns/p" {
		t.Errorf("%s in %s, %v", a.State, a.Sandbox, a.Findings)
	}
}

// In JSON a list that is always there is a list, though it be empty.
func TestEmptyLists(t *testing.T) {
	t.Parallel()
	p := places{}
	p.add(7, "/run/netns/p", 0)
	for _, v := range []any{p[7], overlayOf(&overlay.Config{}), overlayOf(&overlay.Config{Peers: make([]overlay.Peer, 1)})} {
		if text, err := json.Marshal(v); err != nil || bytes.Contains(text, []byte("null")) {
			t.Errorf("%s, %v", text, err)
		}
	}
}

// An address that several sandboxes have may be in the right one: nobody is called dead then.
func TestAddressOfSeveral(t *testing.T) {
	t.Parallel()
	r := &reader{node: &Node{Host: &Namespace{NSID: rtnl.NoNamespace}}, all: map[owner.Owner]*Attachment{}, byLink: map[string]*Attachment{}}
	for i := range 2 {
		tap := &Link{Index: 2, Name: "eth0", Kind: "tun", Up: true, PeerNSID: rtnl.NoNamespace, Addresses: []netip.Prefix{netip.MustParsePrefix("10.8.0.2/24")}}
		r.node.Namespaces = append(r.node.Namespaces, &Namespace{Inode: uint64(i), NSID: rtnl.NoNamespace, Links: []*Link{tap}, byIndex: map[int]*Link{2: tap}})
	}
	a := r.of(owner.Owner{Network: "n", ContainerID: "c", IfName: "eth0"})
	a.Reserved = []netip.Addr{netip.MustParseAddr("10.8.0.2")}
	r.locate()
	if r.finish(); a.State != OK || len(a.Findings) > 0 || !a.Alive() {
		t.Errorf("%s, %v", a.State, a.Findings)
	}
}
