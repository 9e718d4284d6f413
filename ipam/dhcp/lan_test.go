package dhcp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/ipam/dhcp"
	"github.com/cnibox/cnibox/ipam/dhcp/daemon"
	"github.com/cnibox/cnibox/ipam/dhcp/dhcptest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/bridge"
	"github.com/cnibox/cnibox/roles/hostdevice"
	"github.com/cnibox/cnibox/roles/ipvlan"
	"github.com/cnibox/cnibox/roles/macvlan"
	"github.com/cnibox/cnibox/roles/roletest"
)

// lan is a host whose bridge br0 a DHCP server answers on, 10.40.0.1/16.
type lan struct {
	*roletest.Node
	*dhcptest.Server
	t             *testing.T
	socket, state string
	log           *log
}

// log is what a daemon says.
type log struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.String()
}

func newNode(t *testing.T) *lan {
	t.Helper()
	dir := t.TempDir()
	l := &lan{
		Node: roletest.NewNode(t, roles.Table{
			"dhcp": dhcp.New(), "bridge": bridge.New(), "macvlan": macvlan.New(), "host-device": hostdevice.New(),
			"ipvlan": ipvlan.New(),
		}),
		t: t, socket: filepath.Join(dir, "run", "dhcp.sock"), state: filepath.Join(dir, "leases"), log: &log{},
	}
	l.Host.Run("ip", "link", "add", "br0", "type", "bridge")
	l.Host.Run("ip", "link", "set", "br0", "up")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon says:\n%s", l.log)
		}
	})
	return l
}

func newLAN(t *testing.T, p dhcptest.Policy) *lan {
	t.Helper()
	l := newNode(t)
	l.Server = dhcptest.Start(t, l.Host, "br0", "10.40.0.1/16", p)
	return l
}

// inProcess runs a daemon until the test ends, or stop is called; it then ends as at SIGTERM.
func (l *lan) inProcess() (stop func()) {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	listener, err := daemon.Listen(func(string) string { return "" }, l.socket)
	if err != nil {
		l.t.Fatal(err)
	}
	d, err := daemon.New(ctx, daemon.Config{Socket: l.socket, State: l.state, Log: l.log, Timing: daemon.Timing{
		Timeout: 2 * time.Second, ResendMax: 500 * time.Millisecond, ResendTimeout: 5 * time.Second,
	}})
	if err != nil {
		l.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.Serve(ctx, listener) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Error(err)
		}
		d.Wait()
	})
	l.t.Cleanup(stop)
	return stop
}

// executable is cnibox, built once. CNIBOX_TEST_EXECUTABLE names one that was built beforehand.
var executable = sync.OnceValues(func() (string, error) {
	if built := os.Getenv("CNIBOX_TEST_EXECUTABLE"); built != "" {
		return built, nil
	}
	dir, err := os.MkdirTemp("", "cnibox-dhcp-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "cnibox")
	out, err := exec.Command("make", "-C", "../..", "build", "BIN="+file).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return file, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if file, err := executable(); err == nil && os.Getenv("CNIBOX_TEST_EXECUTABLE") == "" {
		_ = os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(code)
}

// program starts the daemon as a program on the host. It is killed when the test ends.
func (l *lan) program(wrapper ...string) *exec.Cmd {
	l.t.Helper()
	file, err := executable()
	if err != nil {
		l.t.Fatal(err)
	}
	return l.start(append(wrapper, file, "dhcp", "daemon", "--socketpath", l.socket, "--state-dir", l.state, "--resendmax", "500ms")...)
}

// start starts a daemon, and waits until it listens.
func (l *lan) start(argv ...string) *exec.Cmd {
	l.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = l.log, l.log
	if err := nstest.Enter(l.Host.Path, cmd.Start); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { kill(cmd) })
	eventually(l.t, 10*time.Second, "the daemon listens", func() bool {
		c, err := net.Dial("unix", l.socket)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return cmd
}

// changeLeases changes what is on disk.
func (l *lan) changeLeases(change func(lease map[string]any)) {
	l.t.Helper()
	files, err := filepath.Glob(filepath.Join(l.state, "*.json"))
	if err != nil || len(files) == 0 {
		l.t.Fatalf("no leases in %s: %v", l.state, err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		lease := map[string]any{}
		if err == nil {
			err = json.Unmarshal(text, &lease)
		}
		change(lease)
		if text, _ = json.Marshal(lease); err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			l.t.Fatal(err)
		}
	}
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(unix.SIGKILL)
	_ = cmd.Wait()
}

// conf is that of a bridge, with more keys in ipam.
func (l *lan) conf(keys ...string) string { return l.confOf("bridge", `"bridge": "br0"`, keys...) }

func (l *lan) confOf(role, roleKeys string, keys ...string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "lan", "type": %q, %s, "ipam": {%s}}`, role, roleKeys,
		strings.Join(append([]string{`"type": "dhcp"`, fmt.Sprintf(`"daemonSocketPath": %q`, l.socket)}, keys...), ", "))
}

// addrs are the IPv4 addresses of a pod's eth0.
func addrs(p *roletest.Pod) []string {
	var links []struct {
		Addrs []struct {
			Local string
			Bits  int `json:"prefixlen"`
		} `json:"addr_info"`
	}
	out, err := p.Try("ip", "-j", "-4", "addr", "show", "dev", "eth0")
	if err != nil || json.Unmarshal([]byte(out), &links) != nil || len(links) != 1 {
		return nil
	}
	var all []string
	for _, a := range links[0].Addrs {
		all = append(all, fmt.Sprintf("%s/%d", a.Local, a.Bits))
	}
	return all
}

// wantAddrs waits until the pod has just these addresses.
func wantAddrs(t *testing.T, p *roletest.Pod, limit time.Duration, want ...string) {
	t.Helper()
	eventually(t, limit, fmt.Sprintf("the pod has the addresses %v", want), func() bool { return slices.Equal(addrs(p), want) })
}

func (l *lan) wantHeld(want map[string]string) {
	l.t.Helper()
	eventually(l.t, 5*time.Second, fmt.Sprintf("the server has leased %v", want), func() bool {
		held := l.Held()
		for id, a := range want {
			if held[id] != netip.MustParseAddr(a) {
				return false
			}
		}
		return len(held) == len(want)
	})
}

func eventually(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// handed starts the daemon with a socket, as systemd does, and by the plugin's name, as the reference's unit has it.
func (l *lan) handed(socket *os.File) {
	l.t.Helper()
	file, err := executable()
	if err != nil {
		l.t.Fatal(err)
	}
	plugin := filepath.Join(l.t.TempDir(), "dhcp")
	if err := os.Symlink(file, plugin); err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh", plugin, "daemon", "--socketpath", "/nonexistent/dhcp.sock", "--state-dir", l.state)
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Stdout, cmd.Stderr = l.log, l.log
	if err := nstest.Enter(l.Host.Path, cmd.Start); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { kill(cmd) })
}
