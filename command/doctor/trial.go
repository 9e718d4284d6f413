package doctor

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// trial is a network namespace in which the kernel is asked to make things. It goes with all that is in it when it is closed.
type trial struct {
	*netutil.Namespace
	made int
}

func newTrial() (*trial, error) {
	var t trial
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- os.NewSyscallError("unshare", err)
			return
		}
		var err error
		t.Namespace, err = netutil.Open("/proc/thread-self/ns/net")
		done <- err
	}()
	if err := <-done; err != nil {
		return nil, err
	}
	return &t, nil
}

// ask makes requests; the first error is returned.
func (t *trial) ask(messages ...rawnl.Message) error {
	answers, err := netutil.Ask(t.Namespace, messages...)
	for _, a := range answers {
		err = errors.Join(err, a.Err)
	}
	return err
}

// name is one that no link has yet.
func (t *trial) name() string {
	t.made++
	return "x" + string(rune('a'+t.made/26)) + string(rune('a'+t.made%26))
}

// link is the index of a link that is made anew, on which others can be made; 0 where the kernel has no veth pairs.
func (t *trial) link() int {
	name := t.name()
	_ = t.ask(rtnl.NewVeth(rtnl.End{Name: name}, rtnl.End{Name: t.name()}, 0, 0))
	if d, _ := netutil.FindDevice(t.Namespace, name); d != nil {
		return d.Index
	}
	return 0
}

// kind makes a link of a kind on another.
func (t *trial) kind(kind string, c rtnl.Child) error {
	return t.ask(rtnl.NewLink(rtnl.New{End: rtnl.End{Name: t.name()}, Kind: kind, Parent: t.link(), Data: c.Data(kind)}))
}

// entries puts something into the packet filter, as plugins do.
func (t *trial) entries(entries ...nft.Entry) error {
	t.made++
	return netutil.NFT(t.Namespace).Add(owner.Owner{Network: "doctor", ContainerID: t.name(), IfName: "eth0"}, entries)
}

func (t *trial) nat() error {
	addr, subnet := netip.MustParseAddr("192.0.2.5"), netip.MustParsePrefix("192.0.2.0/24")
	return t.entries(nft.MasqueradeEntry{Addr: addr, Subnet: subnet}, nft.PortEntry{Protocol: unix.IPPROTO_TCP, HostPort: 8080, Addr: addr, Port: 80},
		nft.SourceNATEntry{Addr: addr, Subnet: subnet})
}

func (t *trial) conditions() error {
	return t.entries(nft.PortEntry{
		Protocol: unix.IPPROTO_TCP, HostPort: 8081, Addr: netip.MustParseAddr("192.0.2.6"), Port: 80,
		Conditions: []nft.Condition{{Key: "saddr", Value: "198.51.100.0/24"}, {Key: "mark", Value: "0x1/0x1"}},
	})
}

func (t *trial) admission() error {
	return t.entries(nft.ForwardEntry{Addr: netip.MustParseAddr("192.0.2.5"), Subnet: netip.MustParsePrefix("192.0.2.0/24")})
}

func (t *trial) spoofCheck() error {
	return t.entries(nft.SpoofCheckEntry{Port: "veth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
}

// shape tries a discipline on a link of its own.
func (t *trial) shape(discipline func(link int) rawnl.Message) error {
	return t.ask(discipline(t.link()))
}

// redirect has what comes in on one link go out on another.
func (t *trial) redirect() error {
	from, to := t.link(), t.link()
	return t.ask(rtnl.NewIngress(from), rtnl.NewFilter(rtnl.Filter{Link: from, Parent: rtnl.IngressQdisc, Class: 1<<16 | 1, To: to}))
}

// tun opens the device by which tap devices are made.
func (t *trial) tun() error {
	return t.Do(func() error {
		file, err := netutil.OpenTun(netutil.TunDevice)
		if err != nil {
			return err
		}
		return file.Close()
	})
}

func (t *trial) ipv6() error {
	_, err := t.Sysctl("net", "ipv6", "conf", "all", "disable_ipv6")
	return err
}
