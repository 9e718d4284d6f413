package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// populate makes a node with so many attachments as role ptp leaves them, each in a namespace of its own, faster than the role does.
func populate(b *testing.B, n *shownNode, count int) {
	b.Helper()
	reserved := filepath.Join(n.Host.VarLib, "cni/networks/crowd")
	if err := os.MkdirAll(reserved, 0o700); err != nil {
		b.Fatal(err)
	}
	subnet := netip.MustParsePrefix("10.64.0.0/16")
	var batch strings.Builder
	var owners []owner.Owner
	var addrs []netip.Addr
	dir := b.TempDir()
	for i := range count {
		o := owner.Owner{Network: "crowd", ContainerID: containerID(i), IfName: "eth0"}
		addr := netip.AddrFrom4([4]byte{10, 64, byte(i / 250), byte(2 + i%250)})
		path := filepath.Join(dir, fmt.Sprintf("pod%d", i))
		if err := nstest.Create(path); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
		fmt.Fprintf(&batch, "link add %s up type veth peer name eth0 netns %s\nlink set %s alias %s\n", o.LinkName(), path, o.LinkName(), o)
		if err := os.WriteFile(filepath.Join(reserved, addr.String()), []byte(o.ContainerID+"\r\neth0"), 0o600); err != nil {
			b.Fatal(err)
		}
		owners, addrs = append(owners, o), append(addrs, addr)
	}
	err := n.Host.Do(func() error {
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(batch.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return filterAll(owners, addrs, subnet)
	})
	for i, addr := range addrs {
		err = errors.Join(err, nstest.Enter(filepath.Join(dir, fmt.Sprintf("pod%d", i)), func() error { return address(addr) }))
	}
	if err != nil {
		b.Fatal(err)
	}
	n.grow()
}

// filterAll gives each masquerading and a host port.
func filterAll(owners []owner.Owner, addrs []netip.Addr, subnet netip.Prefix) error {
	host, err := netutil.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	var errs []error
	for i, o := range owners {
		errs = append(errs, netutil.NFT(host).Add(o, []nft.Entry{
			nft.MasqueradeEntry{Addr: addrs[i], Subnet: subnet},
			nft.PortEntry{Protocol: unix.IPPROTO_TCP, HostPort: uint16(20000 + i), Addr: addrs[i], Port: 80},
		}))
	}
	return errors.Join(errs...)
}

// address gives eth0 of the thread's namespace an address, and takes it up.
func address(addr netip.Addr) error {
	s, err := rawnl.Open(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer s.Close()
	answers, err := s.Exchange(rtnl.GetLink("eth0"))
	if err != nil || len(answers[0].Bodies) == 0 {
		return errors.Join(err, answers[0].Err)
	}
	index := rtnl.ParseLink(answers[0].Bodies[0]).Index
	answers, err = s.Exchange(rtnl.NewAddr(rtnl.Addr{Link: index, Prefix: netip.PrefixFrom(addr, 32)}), rtnl.SetLink(index, rtnl.Change{Up: true}))
	for _, a := range answers {
		err = errors.Join(err, a.Err)
	}
	return err
}

// BenchmarkInspect is `cnibox inspect` of a node with 1,000 attachments, each in a namespace of its own, with a reservation, two elements and two
// records: healthy, and with an orphan, for which it looks twice.
func BenchmarkInspect(b *testing.B) {
	const count = 1000
	n := newShownNode(b)
	populate(b, n, count)
	measure := func(b *testing.B, args ...string) {
		var out string
		for b.Loop() {
			out = n.cnibox(args...)
		}
		if got := strings.Count(out, "veth"); got < count {
			b.Errorf("%d attachments told of", got)
		}
	}
	b.Run("healthy", func(b *testing.B) {
		measure(b, "inspect")
		if out := n.cnibox("inspect"); strings.Contains(out, "orphan") || strings.Contains(out, "drift") {
			b.Errorf("findings on a healthy node: %s", out[strings.LastIndex(out, "STATE"):])
		}
	})
	b.Run("json", func(b *testing.B) { measure(b, "inspect", "--output", "json") })
	b.Run("svg", func(b *testing.B) { measure(b, "topology", "--format", "svg") })
	b.Run("orphan", func(b *testing.B) {
		path := filepath.Join(n.Host.VarLib, "cni/networks/crowd/10.64.99.99")
		if err := os.WriteFile(path, []byte("lost\r\neth0"), 0o600); err != nil {
			b.Fatal(err)
		}
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, old, old); err != nil {
			b.Fatal(err)
		}
		measure(b, "inspect")
	})
}
