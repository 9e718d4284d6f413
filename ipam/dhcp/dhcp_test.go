package dhcp_test

import (
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/cnibox/cnibox/ipam/dhcp"
	"github.com/cnibox/cnibox/ipam/dhcp/daemon"
	"github.com/cnibox/cnibox/ipam/dhcp/dhcptest"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/roletest"
)

const request, release = dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeRelease

// isRenewal tells a request for more time, which names the address that the client has.
func isRenewal(m dhcptest.Seen) bool {
	return m.MessageType() == request && !m.ClientIPAddr.IsUnspecified()
}

func TestAPodHasItsLeaseUntilDel(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{})
	l.inProcess()
	l.Node.Server(l.Host, 80)
	p := l.Add("bridge", "a", l.conf())
	wantAddrs(t, p, 0, "10.40.0.10/16")
	l.wantHeld(map[string]string{"a/lan/eth0": "10.40.0.10"})
	l.WantSeen(p.NS, "tcp", "10.40.0.1:80", "10.40.0.10")
	if err := l.Check("bridge", "a", l.conf()); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	l.Del("bridge", "a", l.conf())
	l.wantHeld(nil)
	if m := l.Seen(release); len(m) != 1 || !m[0].Unicast || m[0].From.String() != "10.40.0.10" {
		t.Errorf("released by %v, want one from the address itself, to the server alone", m)
	}
	l.Del("bridge", "a", l.conf())
	if left, err := os.ReadDir(l.state); err != nil || len(left) > 0 {
		t.Errorf("leases left on disk: %v, %v", left, err)
	}
}

func TestALeaseIsRenewedAtT1ByTheServerAlone(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{Lease: 3 * time.Second, T1: time.Second, T2: 2 * time.Second})
	l.inProcess()
	p := l.Add("bridge", "a", l.conf())
	begun := time.Now()
	m := l.Await(t, begun, 3*time.Second, "a renewal", isRenewal)
	if !m.Unicast || m.From.String() != "10.40.0.10" || m.RequestedIPAddress() != nil || m.ServerIdentifier() != nil {
		t.Errorf("renewed by %s to the server alone: %t\n%s", m.From, m.Unicast, m.Summary())
	}
	if after := m.At.Sub(begun); after < 800*time.Millisecond {
		t.Errorf("renewed %s after ADD, want a second", after)
	}
	l.Await(t, begun.Add(3*time.Second), 3*time.Second, "a renewal when the first lease is over", isRenewal)
	wantAddrs(t, p, 0, "10.40.0.10/16")
	if n := l.Count(dhcpv4.MessageTypeDiscover); n != 1 {
		t.Errorf("%d times asked for an address, want once", n)
	}
}

func TestALeaseIsAskedForFromAnyServerAtT2(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{Lease: 4 * time.Second, T1: time.Second, T2: 2 * time.Second})
	l.inProcess()
	p := l.Add("bridge", "a", l.conf())
	begun := time.Now()
	l.Set(dhcptest.Policy{Mute: true})
	m := l.Await(t, begun, 5*time.Second, "a request to all", func(m dhcptest.Seen) bool { return isRenewal(m) && !m.Unicast })
	if after := m.At.Sub(begun); after < 1800*time.Millisecond || m.From.String() != "10.40.0.10" {
		t.Errorf("asked %s after ADD, from %s", after, m.From)
	}
	l.Set(dhcptest.Policy{})
	time.Sleep(time.Until(begun.Add(4500 * time.Millisecond)))
	wantAddrs(t, p, 0, "10.40.0.10/16")
}

func TestAnAddressGoesWhenItsTimeIsOverAndThereIsANewOneWhenTheServerIsBack(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{Lease: 2 * time.Second})
	l.inProcess()
	l.Node.Server(l.Host, 80)
	p := l.Add("bridge", "a", l.conf())
	l.Set(dhcptest.Policy{Silent: true})
	wantAddrs(t, p, 4*time.Second)
	if out := p.Run("ip", "link", "show", "eth0"); !strings.Contains(out, ",UP") {
		t.Errorf("the interface is down: %s", out)
	}
	l.Forget()
	l.Set(dhcptest.Policy{})
	wantAddrs(t, p, 8*time.Second, "10.40.0.11/16")
	l.WantSeen(p.NS, "tcp", "10.40.0.1:80", "10.40.0.11")
	if out := p.Run("ip", "route"); !strings.Contains(out, "default via 10.40.0.1 ") {
		t.Errorf("the routes are not back:\n%s", out)
	}
	l.Del("bridge", "a", l.conf())
	l.wantHeld(nil)
}

func TestAnAddressThatTheServerRefusesIsReplaced(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{Lease: 40 * time.Second, T1: time.Second})
	l.inProcess()
	l.Node.Server(l.Host, 80)
	p := l.Add("bridge", "a", l.conf())
	l.Set(dhcptest.Policy{Refuse: true})
	wantAddrs(t, p, 6*time.Second, "10.40.0.11/16")
	l.WantSeen(p.NS, "tcp", "10.40.0.1:80", "10.40.0.11")
	if out := p.Run("ip", "route"); !strings.Contains(out, "default via 10.40.0.1 ") {
		t.Errorf("the routes are not there:\n%s", out)
	}
	l.wantHeld(map[string]string{"a/lan/eth0": "10.40.0.11"})
}

func TestADaemonThatWasKilledGoesOnRenewing(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{Lease: 8 * time.Second, T1: 2 * time.Second})
	first := l.program()
	p := l.Add("bridge", "a", l.conf())
	kill(first)
	started := time.Now()
	l.program()
	l.Await(t, started, 5*time.Second, "a renewal", func(m dhcptest.Seen) bool { return isRenewal(m) && m.Unicast })
	wantAddrs(t, p, 0, "10.40.0.10/16")
	if n := l.Count(dhcpv4.MessageTypeDiscover); n != 1 {
		t.Errorf("%d times asked for an address, want once", n)
	}
	l.Del("bridge", "a", l.conf())
	l.wantHeld(nil)
}

func TestADaemonThatWasKilledRenewsAtOnceIfTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{Lease: time.Minute, T1: 30 * time.Second})
	first := l.program()
	p := l.Add("bridge", "a", l.conf())
	kill(first)
	l.changeLeases(func(lease map[string]any) {
		for _, key := range []string{"t1", "t2", "end"} {
			at, err := time.Parse(time.RFC3339Nano, lease[key].(string))
			if err != nil {
				t.Fatal(err)
			}
			lease[key] = at.Add(24 * time.Hour)
		}
	})
	started := time.Now()
	l.program()
	l.Await(t, started, 10*time.Second, "a renewal", isRenewal)
	wantAddrs(t, p, 0, "10.40.0.10/16")
}

func TestADaemonThatComesTooLateTakesTheAddressAwayAndAsksAnew(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{Lease: time.Second})
	first := l.program()
	p := l.Add("bridge", "a", l.conf())
	kill(first)
	l.Forget()
	l.Set(dhcptest.Policy{})
	time.Sleep(1200 * time.Millisecond)
	l.program()
	wantAddrs(t, p, 6*time.Second, "10.40.0.11/16")
}

func TestADaemonThatIsToldToEndKeepsTheLeases(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{})
	stop := l.inProcess()
	l.Add("bridge", "a", l.conf())
	stop()
	if n := l.Count(release); n > 0 {
		t.Errorf("%d leases given back", n)
	}
	l.inProcess()
	l.Del("bridge", "a", l.conf())
	l.wantHeld(nil)
}

func TestTheLeaseOfAContainerThatIsGoneEnds(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{Lease: 4 * time.Second, T1: time.Second})
	l.program()
	p := l.Add("bridge", "a", l.conf())
	p.Remove()
	eventually(t, 5*time.Second, "no lease on disk", func() bool {
		left, err := os.ReadDir(l.state)
		return err == nil && len(left) == 0
	})
	if n := l.Count(request); n != 1 {
		t.Errorf("%d requests, want that of ADD alone", n)
	}
}

// The host tells the server in the container's place.
func TestDelOfAContainerThatIsGoneGivesTheLeaseBack(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{})
	l.program()
	l.Add("bridge", "a", l.conf()).Remove()
	l.Del("bridge", "a", l.conf())
	l.wantHeld(nil)
}

func TestAddAgainIsAnsweredWithTheSameLease(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{})
	l.inProcess()
	p := l.Add("bridge", "a", l.conf())
	for range 2 {
		out := l.Must(roletest.Call{Verb: "ADD", Role: "dhcp", Pod: p, Conf: l.conf()})
		if !strings.Contains(string(out), "10.40.0.10/16") {
			t.Errorf("answered %s", out)
		}
	}
	if n := l.Count(dhcpv4.MessageTypeDiscover); n != 1 {
		t.Errorf("%d times asked for an address, want once", n)
	}
}

func TestTheServersOptionsAreInTheResult(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{Extra: []dhcpv4.Option{
		dhcpv4.OptDNS(net.IPv4(10, 40, 0, 53)), dhcpv4.OptDomainName("example.org"),
		dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{1300 >> 8, 1300 & 0xff}),
		dhcpv4.OptClasslessStaticRoute(&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(172, 20, 0, 0).To4(), Mask: net.CIDRMask(16, 32)}, Router: net.IPv4(10, 40, 0, 2)}),
	}})
	l.inProcess()
	p := l.Pod("a")
	out := l.Must(roletest.Call{Verb: "ADD", Role: "bridge", Pod: p, Conf: l.conf(
		`"priority": 77`, `"provide": [{"option": "host-name", "fromArg": "K8S_POD_NAME"}, {"option": "60", "value": "me"}]`,
		`"request": [{"option": "routers"}, {"skipDefault": true, "option": "121"}]`), Args: "IgnoreUnknown=1;K8S_POD_NAME=web-0"})
	var res struct {
		Routes []struct {
			Dst, GW       string
			MTU, Priority int
		}
		DNS struct {
			Nameservers []string
			Domain      string
		}
	}
	if err := json.Unmarshal(out, &res); err != nil {
		t.Fatal(err)
	}
	if len(res.Routes) != 1 || res.Routes[0].Dst != "172.20.0.0/16" || res.Routes[0].GW != "10.40.0.2" || res.Routes[0].MTU != 1300 || res.Routes[0].Priority != 77 {
		t.Errorf("the routes are %+v", res.Routes)
	}
	if len(res.DNS.Nameservers) != 1 || res.DNS.Nameservers[0] != "10.40.0.53" || res.DNS.Domain != "example.org" {
		t.Errorf("dns is %+v", res.DNS)
	}
	if out := p.Run("ip", "route"); !strings.Contains(out, "172.20.0.0/16 via 10.40.0.2") || !strings.Contains(out, "metric 77") || !strings.Contains(out, "mtu 1300") {
		t.Errorf("the pod's routes are\n%s", out)
	}
	asked := l.Seen(request)[0]
	if asked.HostName() != "web-0" || asked.ClassIdentifier() != "me" || len(asked.ParameterRequestList()) != 2 {
		t.Errorf("the server was told\n%s", asked.Summary())
	}
}

// The device is asked over when the pod has it, and before the host has it back.
func TestHostDeviceHasItsLeaseUntilDel(t *testing.T) {
	t.Parallel()
	l := newNode(t)
	lan := nstest.New(t, "lan")
	l.Host.Run("ip", "link", "add", "ens1", "type", "veth", "peer", "name", "eth0", "netns", lan.Path)
	server := dhcptest.Start(t, lan, "eth0", "10.41.0.1/24", dhcptest.Policy{})
	l.inProcess()
	l.Node.Server(lan, 80)
	conf := l.confOf("host-device", `"device": "ens1"`)
	p := l.Add("host-device", "a", conf)
	wantAddrs(t, p, 0, "10.41.0.10/24")
	l.WantSeen(p.NS, "tcp", "10.41.0.1:80", "10.41.0.10")
	if err := l.Check("host-device", "a", conf); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	l.Del("host-device", "a", conf)
	eventually(t, 5*time.Second, "the address is given back", func() bool { return len(server.Held()) == 0 })
	l.Host.Run("ip", "link", "show", "ens1")
	// Where no server answers, the host keeps the device.
	server.Set(dhcptest.Policy{Silent: true})
	_, err := l.Do(roletest.Call{Verb: "ADD", Role: "host-device", Pod: l.Pod("b"), Conf: conf})
	errtest.Want(t, err, errcode.TryAgainLater, "ipam: the dhcp daemon at "+l.socket+": no server offers an address")
	l.Host.Run("ip", "link", "show", "ens1")
	_, err = l.Do(roletest.Call{Verb: "ADD", Role: "host-device", Pod: l.Pod("b"), Conf: l.confOf("host-device", `"device": "ens1", "dpdkMode": true`)})
	errtest.Want(t, err, errcode.InvalidConfig, "ipam.type: this plugin asks over an interface")
}

func TestBadInputIsRefused(t *testing.T) {
	t.Parallel()
	l := roletest.NewNode(t, roles.Table{"dhcp": dhcp.New()})
	long := strings.Repeat("x", 256)
	l.WantRefused("dhcp", "",
		roletest.Refusal{Keys: `"ipam": {"type": "dhcp", "daemonSocketPath": "run/dhcp.sock"}`, Want: `ipam.daemonSocketPath: "run/dhcp.sock" is no absolute path`},
		roletest.Refusal{Keys: `"ipam": {"type": "dhcp", "families": ["ipv5"]}`, Want: `ipam.families[0]: "ipv5" is neither ipv4 nor ipv6`},
		roletest.Refusal{Keys: `"ipam": {"type": "dhcp", "families": ["ipv6", "ipv6"]}`, Want: `ipam.families[1]: "ipv6" is there twice`},
		roletest.Refusal{Keys: `"ipam": {"type": "dhcp", "families": "ipv6"}`, Want: `ipam.families: it is a JSON string`},
		roletest.Refusal{Keys: `"ipam": {"type": "dhcp", "request": [{"option": "nonsense"}]}`, Want: `ipam.request[0].option: "nonsense" is neither`},
		roletest.Refusal{Keys: `"ipam": {"type": "dhcp", "request": [{"option": "1"}, {"option": "255"}]}`, Want: `ipam.request[1].option: "255" is neither`},
		roletest.Refusal{Keys: `"ipam": {"type": "dhcp", "provide": [{"option": "0", "value": "x"}]}`, Want: `ipam.provide[0].option: "0" is neither`},
		roletest.Refusal{Keys: `"ipam": {"type": "dhcp", "provide": [{"option": "12", "value": "` + long + `"}]}`, Want: `ipam.provide[0].value: 256 bytes are more than 255`},
		roletest.Refusal{Keys: `"ipam": {"type": "dhcp", "priority": -1}`, Want: `ipam.priority: -1 is not within`},
	)
}

func TestReadmeExample(t *testing.T) {
	t.Parallel()
	l := newNode(t)
	lan := nstest.New(t, "lan")
	l.Host.Run("ip", "link", "add", "uplink", "up", "type", "veth", "peer", "name", "eth0", "netns", lan.Path)
	dhcptest.Start(t, lan, "eth0", "10.41.0.1/24", dhcptest.Policy{})
	l.inProcess()
	for _, example := range roletest.ReadmeExamples(t, 1) {
		conf := strings.Replace(example, `"type": "dhcp"`, `"type": "dhcp", "daemonSocketPath": "`+l.socket+`"`, 1)
		wantAddrs(t, l.Add("macvlan", "a", conf), 0, "10.41.0.10/24")
		if err := l.Check("macvlan", "a", conf); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		l.Del("macvlan", "a", conf)
	}
}

func TestADaemonTakesTheSocketThatItIsHanded(t *testing.T) {
	t.Parallel()
	l := newLAN(t, dhcptest.Policy{})
	socket, err := daemon.Listen(func(string) string { return "" }, l.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	file, err := socket.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	l.handed(file)
	p := l.Add("bridge", "a", l.conf())
	if p.Addrs[0] != netip.MustParseAddr("10.40.0.10") {
		t.Errorf("the address is %s", p.Addrs[0])
	}
}
