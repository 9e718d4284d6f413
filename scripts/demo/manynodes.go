package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/private"
	"github.com/cnibox/cnibox/scripts/traffic"
)

// manyNodes is the scene of four nodes, three on one switch and one behind a router, with two pods each.
type manyNodes struct {
	farm  string
	confs string // folder of the configurations
	nodes []*node
	conn  *connection // of pods, that goes on while a node moves
}

const (
	movesFrom = "192.0.2.13" // node-c
	movesTo   = "192.0.2.33"
	routerA   = "192.0.2.254"
	routerB   = "198.51.100.254"
)

func playManyNodes(farm, confs string) error {
	m := &manyNodes{farm: farm, confs: confs}
	fmt.Printf("cnibox: %s, for two pods on each of four nodes\n\n", confs)
	return play(m.steps(), m.drawing)
}

func (m *manyNodes) steps() []step {
	steps := []step{{"make a switch, a router and four nodes", m.makeNodes}}
	for i, name := range []string{"a", "b", "c", "d"} {
		steps = append(steps, step{"ADD two pods on node-" + name, func() (string, error) { return m.add(i, name) }})
	}
	return append(steps,
		step{"all pods to all others, IPv4 and IPv6", m.allPairs},
		step{"the way from node-a to pod-b1", m.way},
		step{"1 GB from node-a to node-b, without tunnel", func() (string, error) { return rate(m.nodes[0].NetNS, m.nodes[1].NetNS, m.nodes[1].addr) }},
		step{"1 GB from pod-a1 to pod-b1, in the tunnel", func() (string, error) { return podRate(m.nodes[0].pods[0], m.nodes[1].pods[0]) }},
		step{"1 GB from pod-a1 to pod-d1, past the router", func() (string, error) { return podRate(m.nodes[0].pods[0], m.nodes[3].pods[0]) }},
		step{"CHECK all eight", m.check},
		step{"a connection from pod-a1 to pod-c1", m.connect},
		step{"node-c gets another underlay address", m.move},
		step{"the nodes get a new list of peers, and sync", m.sync},
		step{"the same connection goes on", m.goesOn},
		step{"all pods to all others, as before", m.allPairs},
		step{"CHECK all eight", m.check},
		step{"DEL all eight", m.del},
		step{"nothing is left", m.nothingLeft},
	)
}

// makeNodes makes the namespaces, the links between them, and the nodes' lists of peers.
func (m *manyNodes) makeNodes() (string, error) {
	peers, err := os.ReadFile(filepath.Join(m.confs, "peers.json"))
	if err != nil {
		return "", err
	}
	for _, name := range []string{"switch", "router"} {
		if err := nstest.Create(private.NetNS(name)); err != nil {
			return "", err
		}
	}
	lines := []string{
		"-n switch link add lan up type bridge",
		"-n router link add eth0 type veth peer name port0 netns switch",
		"-n switch link set port0 master lan up",
		"-n router addr add " + routerA + "/24 dev eth0",
		"-n router link set eth0 up",
	}
	for i, addr := range []string{"192.0.2.11", "192.0.2.12", movesFrom, "198.51.100.14"} {
		name := "node-" + string(rune('a'+i))
		n, err := newNode(name, addr, m.farm, m.confs)
		if err != nil {
			return "", err
		}
		if err := n.tell(peers); err != nil {
			return "", err
		}
		m.nodes = append(m.nodes, n)
		lines = append(lines, m.wire(i)...)
	}
	if err := ip(lines...); err != nil {
		return "", err
	}
	err = nstest.Enter(private.NetNS("router"), func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	return "three on 192.0.2.0/24, node-d on 198.51.100.0/24", err
}

// wire connects a node: the last one to the router, the others to the switch.
func (m *manyNodes) wire(i int) []string {
	n, port, gateway := m.nodes[i], "port"+strconv.Itoa(i+1), routerA
	lines := []string{
		"-n switch link add " + port + " type veth peer name eth0 netns " + n.name,
		"-n switch link set " + port + " master lan up",
	}
	if strings.HasPrefix(n.addr, "198.51.100.") {
		gateway = routerB
		lines = []string{
			"-n router link add eth1 type veth peer name eth0 netns " + n.name,
			"-n router addr add " + routerB + "/24 dev eth1",
			"-n router link set eth1 up",
		}
	}
	return append(lines,
		"-n "+n.name+" link set lo up",
		"-n "+n.name+" addr add "+n.addr+"/24 dev eth0",
		"-n "+n.name+" link set eth0 up",
		"-n "+n.name+" route add default via "+gateway,
	)
}

func (m *manyNodes) add(i int, letter string) (string, error) {
	n := m.nodes[i]
	for _, number := range []string{"1", "2"} {
		if err := n.add("pod-" + letter + number); err != nil {
			return "", err
		}
	}
	return strings.Join(slices.Concat(n.pods[0].addrs, n.pods[1].addrs), ", "), nil
}

// pods are those of all nodes.
func (m *manyNodes) pods() (all []*pod) {
	for _, n := range m.nodes {
		all = append(all, n.pods...)
	}
	return all
}

// allPairs has each pod ask each other one, which must see the pod's own address.
func (m *manyNodes) allPairs() (string, error) {
	count := 0
	for _, from := range m.pods() {
		for _, to := range m.pods() {
			if from == to {
				continue
			}
			for i, addr := range to.addrs {
				seen, err := from.ask(net.JoinHostPort(addr, strconv.Itoa(podPort)))
				if err != nil {
					return "", fmt.Errorf("%s to %s: %w", from.name, to.name, err)
				}
				if seen != from.addrs[i] {
					return "", fmt.Errorf("%s saw %s, which is %s, as %s", to.name, from.name, from.addrs[i], seen)
				}
				count++
			}
		}
	}
	return fmt.Sprintf("%d connections; each saw the pod's own address", count), nil
}

func (m *manyNodes) way() (string, error) {
	out, err := m.nodes[0].run("ip", "-oneline", "route", "get", m.nodes[1].pods[0].addrs[0])
	way, _, _ := strings.Cut(out, " src ")
	return way, err
}

// amount is what is sent to see how fast it goes, in bytes.
const amount = 1e9

func rate(from, to, addr string) (string, error) {
	p, err := traffic.Connect(from, to, addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = p.Close() }()
	took, err := p.Send(amount)
	return fmt.Sprintf("%.1f Gbit/s", 8*amount/1e9/took.Seconds()), err
}

func podRate(from, to *pod) (string, error) { return rate(from.netns, to.netns, to.addrs[0]) }

func (m *manyNodes) check() (string, error) {
	for _, n := range m.nodes {
		if err := n.each(n.runtime.check); err != nil {
			return "", err
		}
	}
	return "all as ADD made it", nil
}

func (m *manyNodes) del() (string, error) {
	for _, n := range m.nodes {
		if err := n.each(n.runtime.del); err != nil {
			return "", err
		}
	}
	return "", nil
}

func (m *manyNodes) nothingLeft() (string, error) {
	for _, n := range m.nodes {
		if err := n.nothingLeft(); err != nil {
			return "", err
		}
	}
	return "no link, no route, no address, no packet filter entry", nil
}
