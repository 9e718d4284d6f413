package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/private"
	"github.com/cnibox/cnibox/scripts/traffic"
)

// This file measures what goes from a pod of one node to one of another, through the tunnel and beside it.

const (
	tunnelCase    = "tunnel"
	sendOperation = "send 256 MiB"
	roundTrip     = "round trip"

	sent      = 256 << 20 // bytes, in each round
	pingPongs = 2000      // in each round
)

// site is two nodes on one link, each with a pod, and a connection between these.
type site struct {
	name   string
	byHand bool // without cnibox
	direct bool // beside the tunnel
	nodes  [2]*private.Node
	pods   [2]string // paths of their namespaces
	addrs  [2]string
	pair   *traffic.Pair
}

func sites() []*site {
	return []*site{
		{name: cnibox}, {name: cniboxDirect, direct: true}, {name: floor, byHand: true}, {name: floorDirect, byHand: true, direct: true},
	}
}

// tunnel has the sites take turns, for all else that the machine does falls upon them alike.
func (b *bench) tunnel(ctx context.Context, _ string) (err error) {
	if !b.roles["vxlan"] {
		b.report.note("tunnel: cnibox has no vxlan yet")
		return nil
	}
	var all []*site
	defer func() {
		for _, s := range all {
			err = errors.Join(err, s.close())
		}
		err = errors.Join(err, settle())
	}()
	for _, s := range sites() {
		if !b.options.contenders.MatchString(s.name) {
			continue
		}
		all = append(all, s)
		if err := s.open(ctx, filepath.Join(b.temp, cnibox)); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for round := range b.rounds {
		for _, s := range all {
			b.say.show("tunnel, %s: round %d of %d", s.name, round+1, b.rounds)
			if err := errors.Join(ctx.Err(), s.measure(b.report)); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		all = rotated(all)
	}
	return nil
}

func (s *site) measure(r *report) error {
	took, err := s.pair.Send(sent)
	if err != nil {
		return err
	}
	r.add(key{tunnelCase, 1, 1, sendOperation, s.name}, sample{wall: took})
	left := pingPongs
	return s.pair.PingPong(func(took time.Duration) bool {
		r.add(key{tunnelCase, 1, 1, roundTrip, s.name}, sample{wall: took})
		left--
		return left > 0
	})
}

// open makes the nodes, attaches a pod on each, and connects the pods.
func (s *site) open(ctx context.Context, farm string) error {
	for i := range s.nodes {
		n, err := private.NewNode(fmt.Sprintf("%s-%d", strings.ReplaceAll(s.name, " ", "-"), i+1))
		if err != nil {
			return err
		}
		s.nodes[i] = n
		if s.pods[i], err = n.NewPod("pod"); err != nil {
			return err
		}
	}
	if err := s.wire(); err != nil {
		return err
	}
	for i, n := range s.nodes {
		s.addrs[i] = fmt.Sprintf("10.244.%d.2", i+1)
		attach := func() error { return s.attach(ctx, i, farm) }
		if s.byHand {
			attach = func() error { return s.attachByHand(i) }
		}
		if err := n.Do(attach); err != nil {
			return err
		}
	}
	var err error
	s.pair, err = traffic.Connect(s.pods[0], s.pods[1], s.addrs[1])
	return err
}

// wire connects the nodes by a veth pair, which costs less than any network between real ones.
func (s *site) wire() error {
	err := nstest.Enter(s.nodes[0].NetNS, func() error { return run("ip link add eth0 type veth peer name eth0 netns " + s.nodes[1].NetNS) })
	for i, n := range s.nodes {
		err = errors.Join(err, nstest.Enter(n.NetNS, func() error {
			return run(fmt.Sprintf("ip addr add 192.0.2.%d/24 dev eth0", i+1), "ip link set lo up", "ip link set eth0 up")
		}))
	}
	return err
}

// attach has cnibox attach the pod.
func (s *site) attach(ctx context.Context, i int, farm string) error {
	list, err := s.list(i)
	if err != nil {
		return err
	}
	cni := libcni.NewCNIConfigWithCacheDir([]string{farm}, "/var/lib/cni-cache", nil)
	rt := &libcni.RuntimeConf{ContainerID: "pod", NetNS: private.NetNS("pod"), IfName: "eth0"}
	_, err = cni.AddNetworkList(ctx, list, rt)
	return err
}

// tunnelMTU is that of all pods: what the tunnel leaves of 1500, so that also what goes beside it is cut into equal pieces.
const tunnelMTU = 1450

func (s *site) list(i int) (*libcni.NetworkConfigList, error) {
	type object = map[string]any
	var peers []object
	for n := range s.nodes {
		peers = append(peers, object{
			"name": fmt.Sprintf("node%d", n+1), "underlay": []string{fmt.Sprintf("192.0.2.%d", n+1)}, "subnets": []string{podSubnet(n)},
		})
	}
	raw, err := json.Marshal(object{"cniVersion": "1.0.0", "name": "bench", "plugins": []object{{
		"type": "vxlan", "vni": 42, "ipMasq": true, "directRouting": s.direct, "mtu": tunnelMTU, "peers": peers,
		"ipam": object{"type": "host-local", "subnet": podSubnet(i), "routes": []object{{"dst": "0.0.0.0/0"}}},
	}}})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(raw)
}

func podSubnet(node int) string { return fmt.Sprintf("10.244.%d.0/24", node+1) }

// attachByHand makes the least that a node needs: a route to the other, through a tunnel or not, and a routed pod. Nothing looks at packets.
func (s *site) attachByHand(i int) error {
	other := 1 - i
	mac := func(node int) string { return fmt.Sprintf("02:00:00:00:00:%02d", node+1) }
	lines := []string{fmt.Sprintf("ip route add %s via 192.0.2.%d", podSubnet(other), other+1)}
	if !s.direct {
		lines = []string{
			fmt.Sprintf("ip link add vxlan42 mtu %d address %s type vxlan id 42 dstport 4789 local 192.0.2.%d nolearning", tunnelMTU, mac(i), i+1),
			"ip link set vxlan42 up",
			fmt.Sprintf("ip route add %s via 10.244.%d.0 dev vxlan42 onlink", podSubnet(other), other+1),
			fmt.Sprintf("ip neigh add 10.244.%d.0 lladdr %s dev vxlan42 nud permanent", other+1, mac(other)),
			fmt.Sprintf("bridge fdb append %s dev vxlan42 dst 192.0.2.%d", mac(other), other+1),
		}
	}
	return run(append(lines,
		fmt.Sprintf("ip link add pod mtu %d type veth peer name eth0 mtu %[1]d netns pod", tunnelMTU),
		fmt.Sprintf("ip addr add 10.244.%d.1/32 dev pod", i+1),
		"ip link set pod up",
		"ip route add "+s.addrs[i]+" dev pod",
		"ip -n pod addr add "+s.addrs[i]+"/32 dev eth0",
		"ip -n pod link set eth0 up",
		fmt.Sprintf("ip -n pod route add default via 10.244.%d.1 dev eth0 onlink", i+1),
		"sysctl -qw net.ipv4.ip_forward=1",
	)...)
}

func (s *site) close() (err error) {
	if s.pair != nil {
		err = s.pair.Close()
	}
	for i, n := range s.nodes {
		if s.pods[i] != "" {
			err = errors.Join(err, removeNetNS(s.pods[i]))
		}
		if n != nil {
			err = errors.Join(err, removeNetNS(n.NetNS))
		}
	}
	return err
}
