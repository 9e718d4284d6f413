package node

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// This file finds the network namespaces that there are, and reads the links and addresses in each.

// selfNS is the namespace of the calling thread.
const selfNS = "/proc/thread-self/ns/net"

// places are namespaces by inode: each once, however many paths lead to it.
type places map[uint64]*Namespace

// add notes that a path leads to a namespace. A mount outlives a process, so it is the better one.
func (p places) add(inode uint64, path string, pid int) {
	ns := p[inode]
	if ns == nil {
		ns = &Namespace{Inode: inode, Links: []*Link{}, NSID: rtnl.NoNamespace, hostNSID: rtnl.NoNamespace}
		p[inode] = ns
	}
	if ns.Path == "" || pid == 0 && strings.HasPrefix(ns.Path, "/proc/") {
		ns.Path = path
	}
	if ns.PID == 0 {
		ns.PID = pid
	}
}

// inodeOf reads what /proc and mountinfo call a network namespace: net:[4026531840].
func inodeOf(text string) (inode uint64, ok bool) {
	text, ok = strings.CutPrefix(text, "net:[")
	if !ok {
		return 0, false
	}
	text, ok = strings.CutSuffix(text, "]")
	inode, err := strconv.ParseUint(text, 10, 64)
	return inode, ok && err == nil
}

// findMounted adds the namespaces that are mounted somewhere, as runtimes and ip-netns(8) do.
func (p places) findMounted(mountinfo []byte) {
	for line := range bytes.Lines(mountinfo) {
		inode, path, ok := mountedNS(string(bytes.TrimSuffix(line, []byte("\n"))))
		if ok {
			p.add(inode, path, 0)
		}
	}
}

// mountedNS reads a line of /proc/self/mountinfo (proc_pid_mountinfo(5)) if it is about a network namespace.
func mountedNS(line string) (inode uint64, path string, ok bool) {
	fields := strings.Split(line, " ")
	if len(fields) < 5 {
		return 0, "", false
	}
	inode, ok = inodeOf(fields[3])
	return inode, unescape(fields[4]), ok
}

// unescape reads a path of mountinfo: what would end a field there is a backslash and three octal digits.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// findProcesses adds the namespaces of processes. Those that end meanwhile are passed over; that this one lacks the right to look at
// others' is an error, as who is in them would be taken for dead.
func (p places) findProcesses() error {
	dir, err := os.Open("/proc")
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	hidden := 0
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		path := "/proc/" + name + "/ns/net"
		target, err := os.Readlink(path)
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			hidden++
		}
		if inode, ok := inodeOf(target); ok {
			p.add(inode, path, pid)
		}
	}
	if hidden > 0 && !maySeeAll() {
		return fmt.Errorf("those of %d processes are hidden from this one: it wants CAP_SYS_PTRACE", hidden)
	}
	return nil
}

// maySeeAll tells whether the thread has CAP_SYS_PTRACE. A process that is hidden all the same, as by a security module, is no pod's.
func maySeeAll() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	return unix.Capget(&header, &sets[0]) == nil && sets[0].Effective>>unix.CAP_SYS_PTRACE&1 == 1
}

// findPath adds the namespace that a path leads to, if it does to one; it returns its inode.
func (p places) findPath(path string) (inode uint64, ok bool) {
	inode, ok = namespaceAt(path)
	if ok {
		pid := 0
		if strings.HasPrefix(path, "/proc/") {
			pid, _ = strconv.Atoi(strings.SplitN(path, "/", 4)[2])
		}
		p.add(inode, path, pid)
	}
	return inode, ok
}

// nsMagic is the type of the file system that namespaces' files are on (NSFS_MAGIC, linux/magic.h).
const nsMagic = 0x6e736673

// namespaceAt is the inode of the namespace that a path leads to.
func namespaceAt(path string) (inode uint64, ok bool) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Statfs(path, &fs) != nil || int64(fs.Type) != nsMagic || unix.Stat(path, &st) != nil {
		return 0, false
	}
	return st.Ino, true
}

// readNamespaces finds and reads all. The host's is the one that the process runs in.
func (r *reader) readNamespaces(paths []string) error {
	hostFile, err := os.Open(selfNS)
	if err != nil {
		return err
	}
	defer func() { _ = hostFile.Close() }()
	hostInode, ok := namespaceAt(selfNS)
	if !ok {
		return fmt.Errorf("%s is no namespace", selfNS)
	}
	hostSocket, err := rawnl.Open(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer hostSocket.Close()

	found := places{}
	text, err := os.ReadFile("/proc/self/mountinfo")
	found.findMounted(text)
	hidden := errors.Join(err, found.findProcesses())
	for _, path := range paths {
		found.findPath(path)
	}
	delete(found, hostInode)

	r.node.Host = &Namespace{Inode: hostInode, Path: selfNS, PID: os.Getpid(), NSID: rtnl.NoNamespace, hostNSID: rtnl.NoNamespace}
	for _, ns := range found {
		r.node.Namespaces = append(r.node.Namespaces, ns)
	}
	slices.SortFunc(r.node.Namespaces, func(a, b *Namespace) int { return cmp.Compare(a.Inode, b.Inode) })
	if r.readSandboxes(hostSocket, int(hostFile.Fd())); r.unseen > 0 {
		r.problem("network namespaces", fmt.Errorf("%d could not be entered", r.unseen))
	}
	if hidden != nil && os.Geteuid() == 0 { // of others read tells
		r.unseen++
		r.problem("network namespaces", hidden)
	}
	// The host comes last: a link that a sandbox leads to was there before, and is only gone here if it is gone there.
	if err := r.node.Host.read(hostSocket); err != nil {
		return fmt.Errorf("links of the host: %w", err)
	}
	return nil
}

// readSandboxes reads the links of each namespace, on one thread that moves from one to the next and ends with it. Those that have gone meanwhile are left
// out.
func (r *reader) readSandboxes(host *rawnl.Socket, hostFD int) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, so that nothing else lands on a moved thread
		r.node.Namespaces = slices.DeleteFunc(r.node.Namespaces, func(ns *Namespace) bool {
			if ns.enter(host, hostFD) == nil {
				return false
			}
			inode, ok := namespaceAt(ns.Path)
			gone := !ok || inode != ns.Inode
			if !gone {
				r.unseen++
			}
			return gone
		})
	}()
	<-done
}

// enter moves the thread into the namespace and reads it.
func (n *Namespace) enter(host *rawnl.Socket, hostFD int) error {
	fd, err := n.move()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	s, err := rawnl.Open(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer s.Close()
	if n.NSID, err = nsidOf(host, fd); err != nil {
		return err
	}
	if n.hostNSID, err = nsidOf(s, hostFD); err != nil {
		return err
	}
	return n.read(s)
}

// move moves the thread into the namespace, of which it returns a descriptor.
func (n *Namespace) move() (fd int, err error) {
	fd, err = unix.Open(n.Path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// nsidOf asks by what number a namespace knows another.
func nsidOf(s *rawnl.Socket, fd int) (int, error) {
	answers, err := s.Exchange(rtnl.GetNSID(fd))
	if err != nil || answers[0].Err != nil || len(answers[0].Bodies) == 0 {
		return rtnl.NoNamespace, err
	}
	return rtnl.ParseNSID(answers[0].Bodies[0]), nil
}

// read lists links and addresses.
func (n *Namespace) read(s *rawnl.Socket) error {
	links, err := rawnl.Dump(s.Exchange, rtnl.GetLinks())
	if err == nil {
		err = links.Err
	}
	if err != nil {
		return err
	}
	addrs, err := rawnl.Dump(s.Exchange, rtnl.GetAllAddrs())
	if err == nil {
		err = addrs.Err
	}
	if err != nil {
		return err
	}
	n.Links, n.byIndex = make([]*Link, 0, len(links.Bodies)), make(map[int]*Link, len(links.Bodies))
	for _, b := range links.Bodies {
		if l := parseLink(b); l != nil {
			n.Links = append(n.Links, l)
			n.byIndex[l.Index] = l
		}
	}
	for _, b := range addrs.Bodies {
		if a, ok := rtnl.ParseAddr(b); ok && n.byIndex[a.Link] != nil {
			n.byIndex[a.Link].Addresses = append(n.byIndex[a.Link].Addresses, a.Prefix)
		}
	}
	return nil
}

func parseLink(b []byte) *Link {
	d := rtnl.ParseDevice(b)
	if d == nil {
		return nil
	}
	l := &Link{
		Index: d.Index, Name: ui.Printable(d.Name), Kind: d.Kind, MAC: d.MAC.String(), MTU: d.MTU, Up: d.Up(), Running: d.Running() || d.RunsUntold(),
		Master: d.Master, Peer: d.Peer, PeerNSID: d.PeerNamespace, Alias: ui.Printable(d.Alias), AltNames: d.AltNames, VLAN: int(d.Child.ID),
	}
	if v, ok := rtnl.ParseVXLAN(b); ok {
		l.VXLAN = &VXLAN{v.VNI, v.Port, v.Local}
	}
	return l
}
