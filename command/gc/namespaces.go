package gc

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Sandbox is a network namespace besides the host's, as far as it can be reached: it is mounted, or a process runs in it.
type Sandbox struct {
	Path      string
	Processes int

	addrs []netip.Addr // without those of loopback and of links
	links map[string]bool
	id    int // by which the host's links tell that their other end is there; rtnl.NoNamespace: none does
}

// String is the namespace as people are told of it.
func (s *Sandbox) String() string {
	if s.Processes == 0 {
		return "the namespace " + s.Path
	}
	return fmt.Sprintf("the namespace %s (%d processes)", s.Path, s.Processes)
}

// Sandboxes lists the namespaces and what is in them. One that cannot be entered, or that has gone meanwhile, is passed over.
func Sandboxes(host *netutil.Namespace) ([]*Sandbox, error) {
	type identity struct{ dev, ino uint64 }
	of := func(path string) (identity, bool) {
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		return identity{st.Dev, st.Ino}, err == nil
	}
	own, _ := of("/proc/thread-self/ns/net")
	var all []*Sandbox
	known := map[identity]*Sandbox{own: nil}
	visit := func(path string, processes int) {
		id, ok := of(path)
		if !ok {
			return
		}
		s, seen := known[id]
		if !seen {
			s = &Sandbox{Path: path}
			known[id], all = s, append(all, s)
		}
		if s != nil {
			s.Processes += processes
		}
	}
	mounted, err := mountedNamespaces()
	if err != nil {
		return nil, err
	}
	for _, path := range mounted {
		visit(path, 0)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			visit(filepath.Join("/proc", e.Name(), "ns/net"), 1)
		}
	}
	var out []*Sandbox
	for _, s := range all {
		if s.read(host) == nil {
			out = append(out, s)
		}
	}
	return out, nil
}

// mountedNamespaces are the paths on which namespaces are mounted (proc_pid_mountinfo(5)).
func mountedNamespaces() (paths []string, err error) {
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[3], "net:[") {
			paths = append(paths, unescape(fields[4]))
		}
	}
	return paths, nil
}

// unescape takes the octal numbers out of a path, which the kernel puts there for white space.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

func (s *Sandbox) read(host *netutil.Namespace) error {
	n, err := netutil.Open(s.Path)
	if err != nil {
		return err
	}
	defer n.Close()
	s.id = rtnl.NoNamespace
	if answers, err := netutil.Ask(host, rtnl.GetNSID(n.FD())); err == nil && len(answers[0].Bodies) > 0 {
		s.id = rtnl.ParseNSID(answers[0].Bodies[0])
	}
	devices, err := netutil.Devices(n)
	if err != nil {
		return err
	}
	s.links = map[string]bool{}
	for _, d := range devices {
		s.links[d.Name] = true
	}
	bodies, err := netutil.List(n, "addresses", rtnl.GetAllAddrs())
	for _, b := range bodies {
		if a, ok := rtnl.ParseAddr(b); ok && !a.Prefix.Addr().IsLoopback() && !a.Prefix.Addr().IsLinkLocalUnicast() {
			s.addrs = append(s.addrs, a.Prefix.Addr())
		}
	}
	return err
}
