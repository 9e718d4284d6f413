package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/nstest/faults"
)

// The tests of this file let every system call of the plugins go wrong that reads or changes something outside of the process, one in
// each run. Of more than a few calls of one kind in a row (the kernel's replies to the parts of a batch) some are left out, of very many calls too, and
// so is the fused list of plugins that have scenes of their own, unless CNIBOX_TEST_FAULTS=all is set.
func allFaults() bool { return os.Getenv("CNIBOX_TEST_FAULTS") == "all" }

// scene is an attachment on a node.
type scene struct {
	role string
	conf map[string]any
	// cold: before each ADD the node is as new, and bridge, tables and folders are still to be made. Else another pod is attached
	// already, and must never notice.
	cold bool
	// behind is the role that attaches the pod before this one, which is chained behind it.
	behind *scene
	mode   string // of a role that has several
}

func (s scene) String() string {
	name := s.role
	if s.behind != nil {
		name = s.behind.role + "+" + name
	}
	if s.mode != "" {
		name += ", " + s.mode
	}
	if s.cold {
		name += ", cold"
	}
	return name
}

// loses tells of vrf on an interface with addresses: the kernel takes these from it, and who is killed before they are put back has told nobody.
func (s scene) loses() bool { return s.role == "vrf" && s.behind.conf["ipam"] != nil }

// deviceName is the host's interface that host-device hands over.
const deviceName = "ens1"

func hostLocal() map[string]any {
	return map[string]any{
		"type":   "host-local",
		"ranges": []any{[]any{map[string]any{"subnet": "10.44.0.0/24"}}, []any{map[string]any{"subnet": "fd44::/64"}}},
		"routes": []any{map[string]any{"dst": "0.0.0.0/0"}, map[string]any{"dst": "::/0"}},
	}
}

func bridgeScene() scene {
	return scene{role: "bridge", conf: map[string]any{
		"bridge": bridgeName, "isGateway": true, "ipMasq": true, "macspoofchk": true, "ipam": hostLocal(),
	}}
}

func ptpScene() scene {
	return scene{role: "ptp", conf: map[string]any{"ipMasq": true, "ipam": hostLocal()}}
}

func portmapScene() scene {
	mapping := func(port int, protocol string) any {
		return map[string]any{"hostPort": port, "containerPort": 80, "protocol": protocol}
	}
	behind := bridgeScene()
	return scene{role: "portmap", behind: &behind, conf: map[string]any{
		"runtimeConfig": map[string]any{"portMappings": []any{mapping(8080, "tcp"), mapping(5353, "udp")}},
	}}
}

// vxlanScene has a peer, and an underlay of which nobody is at the other end.
func vxlanScene() scene {
	peer := map[string]any{"name": "b", "underlay": []any{"192.0.2.2"}, "subnets": []any{"10.48.0.0/24", "fd48::/64"}}
	return scene{role: "vxlan", conf: map[string]any{"vni": 7, "underlay": "192.0.2.1", "ipMasq": true, "peers": []any{peer}, "ipam": hostLocal()}}
}

// vxlanBridgedScene is the same with all pods on one link.
func vxlanBridgedScene() scene {
	s := vxlanScene()
	s.mode = "bridged"
	s.conf["mode"] = s.mode
	s.conf["ipam"] = map[string]any{"type": "host-local", "ranges": []any{
		[]any{map[string]any{"subnet": "10.44.0.0/16", "rangeStart": "10.44.1.1", "rangeEnd": "10.44.1.99", "gateway": "10.44.1.254"}},
		[]any{map[string]any{"subnet": "fd44::/64", "rangeStart": "fd44::1:1", "rangeEnd": "fd44::1:99", "gateway": "fd44::1:fe"}},
	}}
	return s
}

// firewallScene is beside another program's chain that drops what is forwarded.
func firewallScene() scene {
	behind := bridgeScene()
	return scene{role: "firewall", behind: &behind, conf: map[string]any{"ingressPolicy": "same-bridge"}}
}

// fusedScene is the scenes of bridge and portmap in one process.
func fusedScene() scene {
	bridge, portmap := bridgeScene(), portmapScene()
	bridge.conf["type"] = "bridge"
	plugins := []any{bridge.conf, map[string]any{"type": "portmap", "capabilities": map[string]any{"portMappings": true}}}
	return scene{role: "cnibox", conf: map[string]any{"plugins": plugins, "runtimeConfig": portmap.conf["runtimeConfig"]}}
}

// masterName is the host's interface that macvlan is made on.
const masterName = "up0"

// chainedScenes are behind a pair each. DATA stands for the node's folder.
func chainedScenes(t *testing.T) []scene {
	t.Helper()
	behind := ptpScene()
	all := []scene{
		{role: "sbr", behind: &behind, conf: map[string]any{"addSourceHints": true}},
		{role: "tuning", behind: &behind, conf: map[string]any{
			"dataDir": "DATA/tuning", "mtu": 1400, "txQLen": 55, "sysctl": map[string]any{"net.core.somaxconn": "77"},
		}},
		{role: "flannel", conf: map[string]any{
			"subnetFile": "DATA/subnet.env", "dataDir": "DATA/flannel", "delegate": map[string]any{"type": "ptp"},
			"ipam": map[string]any{"type": "host-local"},
		}},
	}
	if nstest.Has(t, "tbf") && nstest.Has(t, "ifb") {
		all = append(all, scene{role: "bandwidth", behind: &behind, conf: map[string]any{
			"ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 8000000, "egressBurst": 800000, "unshapedSubnets": []any{"10.0.0.0/8"},
		}})
	}
	return all
}

// scenes are the roles in the configurations in which they do most.
func scenes(t *testing.T) []scene {
	t.Helper()
	cold := bridgeScene()
	cold.cold = true
	alone := scene{role: "host-local", conf: map[string]any{"ipam": hostLocal()}}
	coldAlone := alone
	coldAlone.cold = true
	addresses := []any{map[string]any{"address": "10.45.0.5/24", "gateway": "10.45.0.1"}, map[string]any{"address": "fd45::5/64"}}
	all := []scene{
		cold, bridgeScene(), ptpScene(), coldAlone, alone,
		{role: "static", conf: map[string]any{"ipam": map[string]any{"type": "static", "addresses": addresses}}},
		{role: "loopback"},
		portmapScene(), firewallScene(),
		{role: "host-device", conf: map[string]any{"device": deviceName, "ipam": hostLocal()}},
	}
	all = append(all, chainedScenes(t)...)
	if nstest.Has(t, "vxlan") {
		first, bridged := vxlanScene(), vxlanBridgedScene()
		first.cold, bridged.cold = true, true
		all = append(all, vxlanScene(), first, bridged)
		if allFaults() {
			all = append(all, vxlanBridgedScene())
		}
	}
	if nstest.Has(t, "macvlan") {
		all = append(all, scene{role: "macvlan", conf: map[string]any{"master": masterName, "mtu": 1400, "ipam": hostLocal()}})
	}
	if nstest.Has(t, "tun") {
		all = append(all, scene{role: "tap", conf: map[string]any{"mtu": 1400, "owner": 107, "ipam": hostLocal()}})
	}
	if nstest.Has(t, "vrf") {
		withAddresses := ptpScene()
		without := scene{role: "bridge", conf: map[string]any{"bridge": bridgeName}}
		for _, behind := range []*scene{&withAddresses, &without} {
			all = append(all, scene{role: "vrf", behind: behind, conf: map[string]any{"vrfname": "blue"}})
		}
	}
	if allFaults() {
		all = append(all, fusedScene())
	}
	return all
}

// stage is a node on which a scene is played again and again.
type stage struct {
	*pluginNode
	scene scene
	pod   *nstest.NS
	call  nodeCall
	clean string // the state without the attachment
}

// onStages plays on a stage for each of the scenes, side by side.
func onStages(t *testing.T, all []scene, play func(t *testing.T, st *stage)) {
	t.Helper()
	for _, s := range all {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			play(t, newStage(t, s))
		})
	}
}

func newStage(t *testing.T, s scene) *stage {
	t.Helper()
	st := &stage{pluginNode: newPluginNode(t), scene: s, pod: nstest.New(t, "pod")}
	switch s.role {
	case "firewall":
		st.host.Run("iptables-nft", "-P", "FORWARD", "DROP")
	case "macvlan":
		st.host.Run("ip", "link", "add", masterName, "type", "veth", "peer", "name", "up1")
		st.host.Run("ip", "link", "set", masterName, "up")
	case "vxlan":
		st.host.VarLib = filepath.Join(st.data, "var-lib")
		if err := os.Mkdir(st.host.VarLib, 0o700); err != nil {
			t.Fatal(err)
		}
		st.host.Run("ip", "link", "add", masterName, "type", "veth", "peer", "name", "up1")
		st.host.Run("ip", "addr", "add", "192.0.2.1/24", "dev", masterName)
		st.host.Run("ip", "link", "set", masterName, "up")
		st.host.Run("ip", "link", "set", "up1", "up")
	case "flannel":
		env := "FLANNEL_NETWORK=10.46.0.0/16\nFLANNEL_SUBNET=10.46.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
		if err := os.WriteFile(filepath.Join(st.data, "subnet.env"), []byte(env), 0o600); err != nil {
			t.Fatal(err)
		}
	case "loopback":
		st.pod.Run("ip", "link", "set", "lo", "down")
	case "host-device":
		st.host.Run("ip", "link", "add", deviceName, "type", "veth", "peer", "name", "lan0")
		st.host.Run("ip", "link", "set", deviceName, "alias", "rack 7")
		st.host.Run("ip", "link", "set", "lan0", "up")
	}
	st.call = st.prepare(s, "pod1", st.pod.Path)
	if s.cold {
		st.must("ADD", st.call, "once")
		st.must("DEL", st.call, "once")
		st.idle = st.tables()
		st.forget()
	} else if s.role != "static" { // of which two attachments would have the same addresses
		other := s
		if s.behind != nil || s.role == "cnibox" || s.role == "host-device" { // which would have the same ports, or the device
			other = bridgeScene()
		}
		st.must("ADD", st.prepare(other, "neighbour", nstest.New(t, "neighbour").Path), "of the neighbour")
	}
	st.clean = st.steady(st.pod)
	return st
}

// prepare makes the call of a scene, and the attachment that it is chained behind.
func (st *stage) prepare(s scene, id, netns string) nodeCall {
	st.t.Helper()
	c := st.attachment(s, id, netns)
	if s.behind != nil {
		c.conf["prevResult"] = st.must("ADD", st.prepare(*s.behind, id, netns), "before it")
	}
	return c
}

// attachment makes the call of a scene.
func (n *pluginNode) attachment(s scene, id, netns string) nodeCall {
	c := nodeCall{role: s.role, id: id, netns: netns, conf: map[string]any{"cniVersion": "1.1.0", "name": "net", "type": s.role}}
	for k, v := range s.conf {
		c.conf[k] = n.withData(v)
	}
	return c
}

// withData is a part of a configuration with host-local's files kept in the node's folder.
func (n *pluginNode) withData(v any) any {
	switch v := v.(type) {
	case map[string]any:
		v = maps.Clone(v)
		for key, value := range v {
			v[key] = n.withData(value)
		}
		if v["type"] == "host-local" {
			v["dataDir"] = n.data
		}
		return v
	case string:
		return strings.Replace(v, "DATA", n.data, 1)
	case []any:
		v = slices.Clone(v)
		for i := range v {
			v[i] = n.withData(v[i])
		}
		return v
	}
	return v
}

// reset makes the node ready for the next ADD.
func (st *stage) reset() {
	st.t.Helper()
	if st.scene.cold {
		st.forget()
	}
}

// wantClean compares the state with that without the attachment, and makes it so for the next step if it is not.
func (st *stage) wantClean(when string) {
	st.t.Helper()
	diff := st.settle(st.clean, st.pod)
	if diff == "" {
		return
	}
	st.t.Errorf("%s: the state differs: %s", when, diff)
	st.must("DEL", st.call, "after "+when)
	st.reset()
	if diff := st.settle(st.clean, st.pod); diff != "" {
		st.t.Fatalf("%s: DEL does not help: %s", when, diff)
	}
}

// sweep plays a step for each call of a verb that a fault can hit. before and after are what must be done around the run that only
// counts the calls.
func (st *stage) sweep(kind faults.Kind, verb string, before, after func(), step func(faults.Fault, string)) {
	st.t.Helper()
	before()
	a, seen := st.callWith(faults.Fault{Kind: kind}, verb, st.call)
	if a.err != nil {
		st.t.Fatalf("%s without a fault: %v", verb, a.err)
	}
	after()
	total := len(seen.Calls)
	if total == 0 {
		st.t.Fatalf("%s: there is no call to %s", verb, kind)
	}
	most := 60
	if kind == faults.Meddle { // of which each step is several calls
		most = 20
	}
	chosen, steps := sample(seen.Calls, most), 0
	for turn, at := range chosen {
		can := []unix.Errno{unix.EIO}
		if at <= total {
			can = seen.Errnos[at-1]
		}
		for _, f := range variants(kind, can, turn) {
			f.At = at
			step(f, fmt.Sprintf("%s, %s call %d of %d%s", verb, kind, at, total, tell(f)))
			steps++
		}
	}
	st.t.Logf("%s, %s: %d of %d calls, %d runs", verb, kind, len(chosen)-more, total, steps)
}

// variants are the ways in which a call goes wrong that can fail with some numbers: all of them, or another one in each turn.
func variants(kind faults.Kind, can []unix.Errno, turn int) (all []faults.Fault) {
	if kind != faults.Refuse {
		errno := unix.EIO
		if slices.Contains(can, unix.ENOBUFS) {
			errno = unix.ENOBUFS
		}
		return []faults.Fault{{Kind: kind, Errno: errno}}
	}
	for _, errno := range can {
		all = append(all, faults.Fault{Errno: errno})
		if lasts(errno) {
			all = append(all, faults.Fault{Errno: errno, Onwards: true})
		}
	}
	if !allFaults() {
		turn %= len(all)
		all = all[turn : turn+1]
	}
	return all
}

// lasts tells of a failure that the next call meets as well, as a rule.
func lasts(errno unix.Errno) bool {
	return slices.Contains([]unix.Errno{unix.ENOSPC, unix.EROFS, unix.EMFILE}, errno)
}

func tell(f faults.Fault) string {
	switch {
	case f.Onwards:
		return ", " + unix.ErrnoName(f.Errno) + " from then on"
	case f.Errno != 0:
		return ", " + unix.ErrnoName(f.Errno)
	}
	return ""
}

// more is how many calls behind the last are tried: one run may make some that another does not.
const more = 3

// sample numbers the calls, all but the middle of a longer row of one kind, and of very many some that are spread over all.
func sample(calls []string, most int) (at []int) {
	const ends = 2
	all := allFaults()
	for i := range calls {
		same := func(j int) bool { return 0 <= j && j < len(calls) && calls[j] == calls[i] }
		if all || !same(i-ends) || !same(i+ends) {
			at = append(at, i+1)
		}
	}
	if n := len(at); !all && n > most {
		spread := make([]int, most)
		for i := range spread {
			spread[i] = at[i*n/most]
		}
		at = spread
	}
	for i := range more {
		at = append(at, len(calls)+1+i)
	}
	return at
}

func (st *stage) add() { st.t.Helper(); st.must("ADD", st.call, "between steps") }

func (st *stage) del() { st.t.Helper(); st.must("DEL", st.call, "between steps") }

// delBlind is the DEL of a runtime that knows the namespace, or no longer does, by turns, or GC. It never has a prevResult of its own.
func (st *stage) delBlind(turn int, when string) {
	st.t.Helper()
	c := st.call
	switch {
	case c.isInside() || turn%3 == 0:
	case turn%3 == 1 && st.scene.behind == nil: // to GC, a pod that another plugin of the list has attached is there
		neighbour := map[string]any{"containerID": "neighbour", "ifname": "eth0"}
		c = c.with("cni.dev/valid-attachments", []any{neighbour})
		c.id, c.netns = "", ""
		st.haveWritten(-time.Hour) // what is new may be in the making
		st.must("GC", c, when)
		return
	default:
		c.netns = ""
	}
	st.must("DEL", c, when)
}

// isInside tells of a role that has nothing but what is in the namespace, so that DEL needs it as long as it is there.
func (c nodeCall) isInside() bool {
	return slices.Contains([]string{"host-device", "loopback", "macvlan", "sbr", "tap", "tuning", "vrf"}, c.role)
}

// removeOwnBridge removes the bridge if it was an ADD here that made it: other pods may use it, so it stays after DEL.
func (st *stage) removeOwnBridge() {
	st.t.Helper()
	if st.scene.cold {
		st.removeBridge()
	}
}

// An ADD of which a call fails leaves nothing, or is whole all the same.
func TestFaultInADD(t *testing.T) {
	t.Parallel()
	for _, s := range scenes(t) {
		for _, kind := range []faults.Kind{faults.Refuse, faults.Lose} {
			t.Run(fmt.Sprint(s, ", ", kind), func(t *testing.T) {
				t.Parallel()
				st := newStage(t, s)
				st.sweep(kind, "ADD", st.reset, st.del, st.faultInADD)
			})
		}
	}
}

func (st *stage) faultInADD(f faults.Fault, when string) {
	st.t.Helper()
	st.reset()
	a, _ := st.callWith(f, "ADD", st.call)
	when += ", " + a.fault
	switch {
	case errors.Is(a.err, errNotTold):
		st.t.Errorf("%s: %v", when, a.err)
	case a.err != nil && a.errno == unix.EINTR:
		st.t.Errorf("%s: a signal has it fail: %v", when, a.err)
	case a.err != nil && f.Onwards && (a.errno == unix.EROFS || a.errno == unix.EMFILE): // where nothing can be opened or removed, nothing can be undone
		st.must("DEL", st.call, "after "+when)
	case a.err == nil:
		if check := st.pluginNode.call("CHECK", st.call.with("prevResult", a.result)); check.err != nil {
			st.t.Errorf("%s: CHECK: %v", when, check.err)
		}
		st.must("DEL", st.call, "after "+when)
		st.removeOwnBridge()
	}
	st.wantClean(when)
}

// After an ADD that was killed, DEL leaves nothing, with the namespace and without, and the attachment can be made.
func TestKillInADD(t *testing.T) {
	t.Parallel()
	onStages(t, slices.DeleteFunc(scenes(t), scene.loses), func(_ *testing.T, st *stage) {
		st.sweep(faults.Kill, "ADD", st.reset, st.del, st.killInADD)
	})
}

func (st *stage) killInADD(f faults.Fault, when string) {
	st.t.Helper()
	st.reset()
	a, _ := st.callWith(f, "ADD", st.call)
	when += ", " + a.fault
	if a.killed != (a.fault != "") {
		st.t.Errorf("%s: killed: %v", when, a.killed)
	}
	st.delBlind(f.At, "after "+when)
	st.removeOwnBridge()
	st.wantClean(when)
	st.must("ADD", st.call, "after DEL after "+when)
	st.must("DEL", st.call, "after all of "+when) // the next step looks at what it leaves
}

// A DEL of which a call fails, or that is killed, tells no lies, and the next one leaves nothing.
func TestFaultInDEL(t *testing.T) {
	t.Parallel()
	for _, s := range scenes(t) {
		for _, kind := range []faults.Kind{faults.Refuse, faults.Lose, faults.Kill} {
			// With the last pod the role vxlan takes its tunnel away; of others it is no different from that of any pod.
			if s.cold && (s.role != "vxlan" || !allFaults()) || s.role == "static" && kind != faults.Refuse || s.loses() { // the DEL of static changes nothing
				continue
			}
			t.Run(fmt.Sprint(s, ", ", kind), func(t *testing.T) {
				t.Parallel()
				st := newStage(t, s)
				st.sweep(kind, "DEL", st.add, func() {}, st.faultInDEL)
			})
		}
	}
}

func (st *stage) faultInDEL(f faults.Fault, when string) {
	st.t.Helper()
	st.add()
	a, _ := st.callWith(f, "DEL", st.call)
	when += ", " + a.fault
	told := !a.killed
	if told && errors.Is(a.err, errNotTold) {
		st.t.Errorf("%s: %v", when, a.err)
	}
	if told && a.err == nil && !st.call.isInside() { // to which a namespace that cannot be opened is gone
		st.wantClean(when + ", which succeeded")
	}
	st.delBlind(f.At, "again after "+when)
	st.wantClean(when + ", DEL again")
}

// An ADD whose result nobody reads any more is undone.
func TestLostReader(t *testing.T) {
	t.Parallel()
	onStages(t, scenes(t), func(t *testing.T, st *stage) {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_ = read.Close()
		if err := st.start("ADD", st.call, write, nil); err == nil {
			t.Error("ADD succeeds")
		}
		_ = write.Close()
		st.wantClean("ADD without a reader")
	})
}

// A DEL that cannot read who has an address, for want of descriptors, does not say that it has given all back.
func TestDELWithoutDescriptors(t *testing.T) {
	t.Parallel()
	st := newStage(t, scene{role: "host-local", conf: map[string]any{"ipam": hostLocal()}})
	st.add()
	a, _ := st.callWith(faults.Fault{On: "openat(10.44.0.", Errno: unix.EMFILE, Onwards: true}, "DEL", st.call)
	if a.fault == "" || a.err == nil || !strings.Contains(a.err.Error(), "cannot tell who holds") {
		t.Errorf("DEL where %s fails: %v", a.fault, a.err)
	}
	st.del()
	st.wantClean("DEL with descriptors")
}
