package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/nstest/faults"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/roletest"
)

// The tests of this file are named after faults that the reference plugins have in common, and show each role without them. Those of a single
// plugin have their tests in its folder; docs/reference-faults.md lists all.

// watcher is an ipam plugin with one address, which notes what it sees.
type watcher struct {
	pod     *nstest.NS
	refuses error    // what ADD and STATUS answer
	calls   []string // the verbs
	links   string   // those of the container at DEL
}

func (w *watcher) Add(context.Context, *roles.Request) (*types100.Result, error) {
	w.calls = append(w.calls, "ADD")
	_, far, _ := net.ParseCIDR("198.51.100.0/24")
	gateway := net.IPv4(10, 44, 0, 1)
	return &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		IPs:        []*types100.IPConfig{{Address: net.IPNet{IP: net.IPv4(10, 44, 0, 5), Mask: net.CIDRMask(24, 32)}, Gateway: gateway}},
		Routes:     []*types.Route{{Dst: *far, GW: gateway, MTU: 1300, AdvMSS: 1200}},
	}, w.refuses
}

func (w *watcher) Del(context.Context, *roles.Request) (err error) {
	w.calls = append(w.calls, "DEL")
	w.links, err = w.pod.Try("ip", "-br", "link")
	return err
}

func (w *watcher) Check(context.Context, *roles.Request) error                  { return nil }
func (w *watcher) GC(context.Context, *roles.Request, []roles.Attachment) error { return nil }
func (w *watcher) Status(context.Context, *roles.Request) error                 { return w.refuses }

// mainNode is a host with an uplink, and a role that makes the pod an interface with the watcher's address.
type mainNode struct {
	*roletest.Node
	pod  *roletest.Pod
	ipam *watcher
	role string
	keys string
}

// eachMain runs a test with each role that asks an ipam plugin for the addresses of the interface that it makes.
func eachMain(t *testing.T, test func(t *testing.T, n *mainNode)) {
	t.Helper()
	t.Parallel()
	for role, c := range map[string]struct{ feature, keys string }{
		"bridge":      {},
		"dummy":       {feature: "dummy"},
		"host-device": {keys: `"device": "up0",`},
		"ipvlan":      {"ipvlan", `"master": "up0",`},
		"macvlan":     {"macvlan", `"master": "up0",`},
		"ptp":         {},
		"tap":         {feature: "tun"},
		"vlan":        {"vlan", `"master": "up0", "vlanId": 7,`},
	} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			if c.feature != "" {
				nstest.Need(t, c.feature)
			}
			table, w := roleTable(), &watcher{}
			table["watcher"] = w
			n := &mainNode{Node: roletest.NewNode(t, table), ipam: w, role: role, keys: c.keys}
			n.Host.Run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
			for _, link := range []string{"up0", "up1"} {
				n.Host.Run("ip", "link", "set", link, "addrgenmode", "none", "up")
			}
			n.pod = n.Pod("a")
			w.pod = n.pod.NS
			test(t, n)
		})
	}
}

// call is a call of the role in a version of the specification.
func (n *mainNode) call(verb, version string) roletest.Call {
	conf := fmt.Sprintf(`{"cniVersion": %q, "name": "net", "type": %q, %s "ipam": {"type": "watcher"}}`, version, n.role, n.keys)
	return roletest.Call{Verb: verb, Role: n.role, Pod: n.pod, Conf: conf}
}

// wantCalled fails the test unless the ipam plugin was called with just these verbs.
func (n *mainNode) wantCalled(t *testing.T, verbs ...string) {
	t.Helper()
	if !slices.Equal(n.ipam.calls, verbs) {
		t.Errorf("the ipam plugin was called with %v, want %v", n.ipam.calls, verbs)
	}
}

// wantUntouched fails the test unless the host is as it was.
func (n *mainNode) wantUntouched(t *testing.T) {
	t.Helper()
	leaks, err := n.Host.Leaks("up0", "up1")
	if addrs := n.Host.Run("ip", "-o", "addr", "show", "dev", "up0"); err != nil || len(leaks) > 0 || addrs != "" {
		t.Errorf("the host has %q (%v), and on the uplink %q", leaks, err, addrs)
	}
}

// A plugin that fails may have reserved an address all the same, so its DEL must follow (CNI specification, section 4). Eight of eight reference
// plugins do not call it.
func TestFailedIPAMIsNotDeleted(t *testing.T) {
	eachMain(t, func(t *testing.T, n *mainNode) {
		n.ipam.refuses = errcode.Errorf(errcode.PoolExhausted, "no address")
		_, err := n.Do(n.call("ADD", "1.1.0"))
		errtest.Want(t, err, errcode.PoolExhausted, "no address")
		n.wantCalled(t, "ADD", "DEL")
		n.wantUntouched(t)
	})
}

// An address that is given back while its interface still stands can be another pod's before this one has stopped to use it.
func TestAddressIsGivenBackBeforeTheLinkGoes(t *testing.T) {
	eachMain(t, func(t *testing.T, n *mainNode) {
		n.Must(n.call("ADD", "1.1.0"))
		n.Must(n.call("DEL", "1.1.0"))
		n.wantCalled(t, "ADD", "DEL")
		if strings.Contains(n.ipam.links, "eth0") {
			t.Errorf("when the address was given back, the pod had\n%s", n.ipam.links)
		}
	})
}

// wantRoute fails the test unless the pod's route has the attributes that the ipam plugin asked for.
func (n *mainNode) wantRoute(t *testing.T) {
	t.Helper()
	out := n.pod.Run("ip", "route", "show", "198.51.100.0/24")
	if !strings.Contains(out, "via 10.44.0.1 dev eth0") || !strings.Contains(out, "mtu 1300 advmss 1200") {
		t.Errorf("the pod's route is %q", out)
	}
}

// The result tells the interface's MTU, and the attributes of routes, which the pod has.
func TestResultsHaveNoMTUAndNoRouteAttributes(t *testing.T) {
	eachMain(t, func(t *testing.T, n *mainNode) {
		out := n.Must(n.call("ADD", "1.1.0"))
		res, err := types100.NewResult(out)
		if err != nil {
			t.Fatal(err)
		}
		r := res.(*types100.Result)
		for _, i := range r.Interfaces {
			if i.Mtu != 1500 {
				t.Errorf("%s has the MTU %d", i.Name, i.Mtu)
			}
		}
		if len(r.Interfaces) == 0 || len(r.Routes) != 1 || r.Routes[0].MTU != 1300 || r.Routes[0].AdvMSS != 1200 {
			t.Errorf("answered %s", out)
		}
		n.wantRoute(t)
	})
}

// A result of an older version has no key that came later; the pod's route has its attributes all the same.
func TestOlderResultsHaveKeysOf110(t *testing.T) {
	eachMain(t, func(t *testing.T, n *mainNode) {
		for _, version := range []string{"0.4.0", "1.0.0"} {
			out := string(n.Must(n.call("ADD", version)))
			for _, key := range []string{"mtu", "advmss", "socketPath", "pciID"} {
				if strings.Contains(out, `"`+key+`"`) {
					t.Errorf("version %s, with %s: %s", version, key, out)
				}
			}
			if !strings.Contains(out, `"198.51.100.0/24"`) {
				t.Errorf("version %s: %s", version, out)
			}
			n.wantRoute(t)
			n.Must(n.call("DEL", version))
		}
	})
}

// CNI_NETNS that is the host's own is refused before anything is made in the host.
func TestHostNamespaceIsNoticedAfterADD(t *testing.T) {
	eachMain(t, func(t *testing.T, n *mainNode) {
		c := n.call("ADD", "1.1.0")
		c.Pod = &roletest.Pod{NS: n.Host, Name: "host"}
		_, err := n.Do(c)
		errtest.Want(t, err, errcode.InvalidNetNS, "CNI_NETNS: ", "own network namespace")
		n.wantCalled(t)
		n.wantUntouched(t)
	})
}

// STATUS of an interface's plugin is also that of the addresses', without which no ADD can succeed.
func TestStatusIsGoodWithoutAddresses(t *testing.T) {
	eachMain(t, func(t *testing.T, n *mainNode) {
		c := n.call("STATUS", "1.1.0")
		c.Pod = nil
		n.Must(c)
		n.ipam.refuses = errcode.Errorf(errcode.NotAvailable, "no address is left")
		_, err := n.Do(c)
		errtest.Want(t, err, errcode.NotAvailable, "no address is left")
	})
}

// GC takes away what attachments that are no longer valid have on the host: links, entries of the packet filter, addresses, records.
func TestGCFreesNothing(t *testing.T) {
	t.Parallel()
	for _, s := range scenes(t) {
		if s.cold || s.role == "host-device" { // whose device is in the pod, out of reach
			continue
		}
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			st := newStage(t, s)
			list := []scene{s} // of which a runtime calls all
			if s.behind != nil {
				list = append(list, *s.behind)
				st.must("DEL", st.attachment(*s.behind, "pod1", st.pod.Path), "to begin with")
			}
			clean := st.steady() // of the host alone: what is in a pod goes with it
			st.must("ADD", st.prepare(s, "pod1", st.pod.Path), "of the pod")
			for _, s := range list {
				valid := []any{map[string]any{"containerID": "neighbour", "ifname": "eth0"}}
				st.must("GC", st.attachment(s, "", "").with("cni.dev/valid-attachments", valid), "without the pod")
			}
			if diff := st.settle(clean); diff != "" {
				t.Errorf("left: %s", diff)
			}
		})
	}
}

// A power failure leaves no reservation without its text: that is on the disk before the file gets its name.
func TestReservationsAreNeitherSyncedNorRenamed(t *testing.T) {
	t.Parallel()
	n := newPluginNode(t)
	c := n.attachment(scene{role: "host-local", conf: map[string]any{"ipam": hostLocal()}}, "pod1", nstest.New(t, "pod").Path)
	a, seen := n.callWith(faults.Fault{}, "ADD", c)
	var steps []string
	for _, call := range seen.Calls {
		if name, _, _ := strings.Cut(call, "("); name == "fsync" || name == "renameat2" {
			steps = append(steps, name)
		}
	}
	if a.err != nil || !slices.Equal(steps, []string{"fsync", "renameat2", "fsync", "renameat2"}) {
		t.Errorf("%v, steps %q", a.err, steps)
	}
}
