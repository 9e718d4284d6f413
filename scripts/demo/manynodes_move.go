package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cnibox/cnibox/scripts/traffic"
)

// This file has a node move to another address below the tunnel while pods talk.

// connection is a TCP connection on which one byte after the other goes there and back.
type connection struct {
	trips   int
	longest time.Duration
	left    atomic.Int64  // round trips until it ends
	begun   chan struct{} // closed when some have been made
	ended   chan error
}

// some is how many round trips show that bytes go there and back.
const some = 1000

// talk begins a connection, which ends when it is told to, or when nothing arrives any more.
func talk(from, to *pod) (*connection, error) {
	pair, err := traffic.Connect(from.netns, to.netns, to.addrs[0])
	if err != nil {
		return nil, err
	}
	c := &connection{begun: make(chan struct{}), ended: make(chan error, 1)}
	c.left.Store(math.MaxInt64)
	go func() { c.ended <- errors.Join(pair.PingPong(c.count), pair.Close()) }()
	select {
	case <-c.begun:
		return c, nil
	case err := <-c.ended:
		return nil, err
	}
}

// count notes a round trip and tells whether there is to be another.
func (c *connection) count(took time.Duration) bool {
	if c.trips++; c.trips == some {
		close(c.begun)
	}
	c.longest = max(c.longest, took)
	return c.left.Add(-1) > 0
}

// end has it end after some more round trips.
func (c *connection) end() error {
	c.left.Store(some)
	return <-c.ended
}

func (m *manyNodes) connect() (_ string, err error) {
	m.conn, err = talk(m.nodes[0].pods[0], m.nodes[2].pods[0])
	return "one byte after the other, there and back", err
}

func (m *manyNodes) move() (string, error) {
	n := m.nodes[2]
	n.addr = movesTo
	return movesFrom + " is now " + movesTo, ip(
		"-n "+n.name+" addr del "+movesFrom+"/24 dev eth0",
		"-n "+n.name+" addr add "+movesTo+"/24 dev eth0",
		"-n "+n.name+" route replace default via "+routerA,
	)
}

// sync is what a script or timer does: it puts the new list in place of the old one, and has the tunnel follow.
func (m *manyNodes) sync() (string, error) {
	peers, err := os.ReadFile(filepath.Join(m.confs, "peers-moved.json"))
	if err != nil {
		return "", err
	}
	for _, n := range m.nodes {
		if err := n.tell(peers); err != nil {
			return "", err
		}
		if _, err := n.run(filepath.Join(m.farm, "cnibox"), "overlay", "sync"); err != nil {
			return "", err
		}
	}
	return "cnibox overlay sync on all four", nil
}

func (m *manyNodes) goesOn() (string, error) {
	if err := m.conn.end(); err != nil {
		return "", err
	}
	return fmt.Sprintf("after a pause of %d ms; %d round trips in all", m.conn.longest.Milliseconds(), m.conn.trips), nil
}
