// Package roletest calls roles in process, as a runtime calls programs, on a host made of network namespaces.
package roletest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
)

// Node is a host with its pods.
type Node struct {
	Host *nstest.NS

	t     testing.TB
	table roles.Table
	pods  map[string]*Pod
}

// Pod is a sandbox. Addrs are those of its last ADD.
type Pod struct {
	*nstest.NS
	Name  string
	Addrs []netip.Addr

	result []byte
}

// NewNode makes a host on which the roles of the table can be called.
func NewNode(t testing.TB, table roles.Table) *Node {
	t.Helper()
	return &Node{Host: nstest.New(t, "host"), t: t, table: table, pods: map[string]*Pod{}}
}

// Pod makes a pod, or finds the one that has been made.
func (n *Node) Pod(name string) *Pod {
	n.t.Helper()
	if n.pods[name] == nil {
		n.pods[name] = &Pod{NS: nstest.New(n.t, name), Name: name}
	}
	return n.pods[name]
}

// Outside makes a namespace that is linked to the host: 192.0.2.1 and 2001:db8::1 are the host's addresses there, 192.0.2.100 and
// 2001:db8::100 the other's. It knows no route to any pod.
func (n *Node) Outside() *nstest.NS {
	n.t.Helper()
	out := nstest.New(n.t, "outside")
	n.Host.Run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", out.Path)
	for ns, side := range map[*nstest.NS][2]string{n.Host: {"uplink", "1"}, out: {"eth0", "100"}} {
		ns.Run("sysctl", "-qw", "net.ipv6.conf."+side[0]+".accept_dad=0")
		ns.Run("ip", "addr", "add", "192.0.2."+side[1]+"/24", "dev", side[0])
		ns.Run("ip", "addr", "add", "2001:db8::"+side[1]+"/64", "dev", side[0], "nodad")
		ns.Run("ip", "link", "set", side[0], "up")
	}
	WaitUp(n.Host, "uplink")
	WaitUp(out, "eth0")
	return out
}

// WaitUp waits for the link's carrier, which a namespace's first link gets up to a second late.
func WaitUp(ns *nstest.NS, link string) {
	for range 300 {
		if strings.Contains(ns.Run("ip", "-br", "link", "show", link), " UP ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Call is one call of a plugin.
type Call struct {
	Verb, Role string
	Pod        *Pod              // nil: GC and STATUS
	Conf       string            // the whole configuration
	IfName     string            // eth0 if empty
	Args       string            // CNI_ARGS
	NoSandbox  bool              // CNI_NETNS is empty
	Env        map[string]string // in place of what the variables would be
}

// Do makes the call and returns what was printed, or the error with its code.
func (n *Node) Do(c Call) ([]byte, error) {
	env := map[string]string{"CNI_COMMAND": c.Verb, "CNI_PATH": "/nonexistent", "CNI_ARGS": c.Args}
	if c.Pod != nil {
		env["CNI_CONTAINERID"], env["CNI_IFNAME"], env["CNI_NETNS"] = c.Pod.Name, c.IfName, c.Pod.Path
		if c.IfName == "" {
			env["CNI_IFNAME"] = "eth0"
		}
		if c.NoSandbox {
			env["CNI_NETNS"] = ""
		}
	}
	maps.Copy(env, c.Env)
	var stdout, stderr bytes.Buffer
	status := 0
	err := n.Host.Do(func() error {
		x := roles.Exchange{
			Getenv: func(name string) string { return env[name] },
			Stdin:  strings.NewReader(c.Conf), Stdout: &stdout, Stderr: &stderr,
		}
		status = roles.Run(context.Background(), x, c.Role, n.table)
		return nil
	})
	if err != nil || status == 0 {
		return stdout.Bytes(), err
	}
	var answer struct {
		Code         uint
		Msg, Details string
	}
	if err := json.Unmarshal(stdout.Bytes(), &answer); err != nil {
		return nil, fmt.Errorf("%s %s: exit status %d, and on stdout %q: %w", c.Role, c.Verb, status, stdout.String(), err)
	}
	return nil, errcode.Errorf(answer.Code, "%s", strings.TrimSpace(answer.Msg+" "+answer.Details))
}

// Must is Do for calls that must succeed.
func (n *Node) Must(c Call) []byte {
	n.t.Helper()
	out, err := n.Do(c)
	if err != nil {
		n.t.Fatalf("%s %s: %v", c.Role, c.Verb, err)
	}
	return out
}

// Add makes the ADD of a pod's eth0, which must succeed. The result is kept for Check and Del.
func (n *Node) Add(role, pod, conf string) *Pod {
	n.t.Helper()
	p := n.Pod(pod)
	p.result = n.Must(Call{Verb: "ADD", Role: role, Pod: p, Conf: conf})
	res, err := types100.NewResult(p.result)
	if err != nil {
		n.t.Fatalf("%s answered %s: %v", role, p.result, err)
	}
	p.Addrs = nil
	for _, ip := range res.(*types100.Result).IPs {
		a, _ := netip.AddrFromSlice(ip.Address.IP)
		p.Addrs = append(p.Addrs, a.Unmap())
	}
	return p
}

// Result is the pod's last result.
func (p *Pod) Result() []byte { return p.result }

// WithResult makes a result the pod's last one.
func (p *Pod) WithResult(result []byte) { p.result = result }

// WithPrev is the configuration with the pod's last result as prevResult, as a runtime calls with it.
func (p *Pod) WithPrev(conf string) string {
	if p.result == nil {
		return conf
	}
	return strings.TrimRight(strings.TrimSpace(conf), "}") + balance(conf) + `, "prevResult": ` + string(p.result) + "}"
}

// balance is the braces that WithPrev has taken away too many.
func balance(conf string) string {
	trimmed := strings.TrimSpace(conf)
	n := len(trimmed) - len(strings.TrimRight(trimmed, "}"))
	return strings.Repeat("}", n-1)
}

// Check is the CHECK of a pod's eth0.
func (n *Node) Check(role, pod, conf string) error {
	p := n.Pod(pod)
	_, err := n.Do(Call{Verb: "CHECK", Role: role, Pod: p, Conf: p.WithPrev(conf)})
	return err
}

// Del is the DEL of a pod's eth0, which must succeed.
func (n *Node) Del(role, pod, conf string) {
	n.t.Helper()
	n.Must(Call{Verb: "DEL", Role: role, Pod: n.Pod(pod), Conf: n.Pod(pod).WithPrev(conf)})
}

// Server answers every connection to a TCP port, and every datagram to the UDP port of that number, with the address of who asked.
func (n *Node) Server(ns *nstest.NS, port int) {
	n.t.Helper()
	n.NamedServer("", ns, port)
}

// NamedServer is a Server that puts a name in front of the address, where several could be the one that answers.
func (n *Node) NamedServer(name string, ns *nstest.NS, port int) {
	n.t.Helper()
	err := ns.Do(func() error {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		u, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		if err != nil {
			return errors.Join(err, l.Close())
		}
		n.t.Cleanup(func() { _, _ = l.Close(), u.Close() })
		go serveTCP(l, name)
		go serveUDP(u, name)
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

func serveTCP(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte(name + host(c.RemoteAddr())))
		_ = c.Close()
	}
}

func serveUDP(u net.PacketConn, name string) {
	buf := make([]byte, 1500)
	for {
		_, from, err := u.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = u.WriteTo([]byte(name+host(from)), from)
	}
}

// host is an address without the port.
func host(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return err.Error()
	}
	return ap.Addr().Unmap().WithZone("").String()
}

// How long to wait for what should come, which a busy machine may delay, and for what should not.
const (
	patience   = 5 * time.Second
	impatience = 500 * time.Millisecond
)

// ask connects from a namespace to a Server at "address:port", by "tcp" or "udp", and returns whom it saw.
func ask(ns *nstest.NS, network, to string, wait time.Duration) (seen string, err error) {
	c, err := dial(ns, network, to, wait)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	return exchange(c, wait)
}

// Dial connects from a namespace, for what is to be asked over one connection more than once.
func (n *Node) Dial(ns *nstest.NS, network, to string) net.Conn {
	n.t.Helper()
	c, err := dial(ns, network, to, patience)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	return c
}

func dial(ns *nstest.NS, network, to string, wait time.Duration) (c net.Conn, err error) {
	err = ns.Do(func() error {
		c, err = net.DialTimeout(network, to, wait)
		return err
	})
	return c, err
}

// Exchange asks a Server over a connection that Dial has made.
func Exchange(c net.Conn) (seen string, err error) { return exchange(c, patience) }

func exchange(c net.Conn, wait time.Duration) (seen string, err error) {
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		return "", err
	}
	if c.LocalAddr().Network() == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
	}
	buf := make([]byte, 100)
	k, err := c.Read(buf)
	return string(buf[:k]), err
}

// WantSeen fails the test unless the server saw the asker as from; an empty from means that no answer must come.
func (n *Node) WantSeen(ns *nstest.NS, network, to, from string) {
	n.t.Helper()
	wait := patience
	if from == "" {
		wait = impatience
	}
	seen, err := ask(ns, network, to, wait)
	switch {
	case from == "" && err == nil:
		n.t.Errorf("%s %s answered, and should not; it saw %s", network, to, seen)
	case from != "" && (err != nil || seen != from):
		n.t.Errorf("%s %s saw %q (%v), want %s", network, to, seen, err, from)
	}
}

// Clean fails the test if the host has a link besides those named, or an element in the packet filter.
func (n *Node) Clean(links ...string) {
	n.t.Helper()
	keep := map[string]bool{"lo": true, "uplink": true}
	for _, l := range links {
		keep[l] = true
	}
	for line := range strings.Lines(n.Host.Run("ip", "-br", "link")) {
		name, _, _ := strings.Cut(strings.Fields(line)[0], "@")
		if !keep[name] {
			n.t.Errorf("interface left: %s", strings.TrimSpace(line))
		}
	}
	if rules := n.Host.Run("nft", "list", "ruleset"); strings.Contains(rules, "elements") || strings.Contains(rules, "/eth0") {
		n.t.Errorf("packet filter entries left:\n%s", rules)
	}
}
