package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
)

const (
	firstHostPort  = 20_000
	portsOfOne     = 250 // at most, for each of the pods that share the mappings
	connectsARound = 400
	portsTried     = 10
)

// doors is a host with pods behind many port mappings, and a neighbour outside.
type doors struct {
	*host
	mappings  int
	outside   string
	listeners []net.Listener
}

// connections measures how long a new connection through a host port takes, by the number of mappings.
func (b *bench) connections(ctx context.Context, name string) (err error) {
	if !b.roles["portmap"] {
		b.report.note("%s: cnibox has no portmap yet", name)
		return nil
	}
	var all []*doors
	defer func() {
		for _, d := range all {
			err = errors.Join(err, d.close())
		}
		err = errors.Join(err, settle())
	}()
	for _, mappings := range pick(b.quick, []int{10, 1000}, []int{10, 1000, 10_000}) {
		for _, c := range b.contenders {
			if c.name != cnibox && c.name != refNftables { // the iptables backend would take minutes to make them
				continue
			}
			h, err := b.newHost(c, network{name: name, main: "bridge", v4: true, masq: true, chain: []string{"portmap"}})
			if err != nil {
				return err
			}
			d := &doors{host: h, mappings: mappings, outside: h.netns + "-outside"}
			all = append(all, d)
			if err := d.open(ctx); err != nil {
				return fmt.Errorf("%s: %d mappings: %w", c.name, mappings, err)
			}
		}
	}
	for range b.rounds {
		for _, d := range all {
			if err := errors.Join(ctx.Err(), b.knock(d)); err != nil {
				return fmt.Errorf("%s: %d mappings: %w", d.name, d.mappings, err)
			}
		}
	}
	return nil
}

// open makes the neighbour and the pods, which listen.
func (d *doors) open(ctx context.Context) error {
	if err := nstest.Create(d.outside); err != nil {
		return err
	}
	err := nstest.Enter(d.netns, func() error {
		return run("ip link add uplink type veth peer name eth0 netns "+d.outside, "ip addr add 192.0.2.1/24 dev uplink", "ip link set uplink up")
	})
	if err != nil {
		return err
	}
	err = nstest.Enter(d.outside, func() error {
		return run("ip addr add 192.0.2.100/24 dev eth0", "ip link set eth0 up")
	})
	for first := 0; err == nil && first < d.mappings; first += portsOfOne {
		d.progress("%d of %d mappings", first, d.mappings)
		err = d.openOne(ctx, first, min(portsOfOne, d.mappings-first))
	}
	return err
}

func (d *doors) openOne(ctx context.Context, first, count int) error {
	p, err := d.newPod()
	if err != nil {
		return err
	}
	var mappings []any
	for i := range count {
		mappings = append(mappings, map[string]any{"hostPort": firstHostPort + first + i, "containerPort": 80, "protocol": "tcp"})
	}
	p.rt.CapabilityArgs = map[string]any{"portMappings": mappings}
	if err := nstest.Enter(d.netns, func() error { return d.add(ctx, p) }); err != nil {
		return err
	}
	return nstest.Enter(p.netns, func() error {
		l, err := net.Listen("tcp4", ":80")
		if err != nil {
			return err
		}
		d.listeners = append(d.listeners, l)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_ = conn.Close()
			}
		}()
		return nil
	})
}

// knock connects to a few ports at random. They are all of one pod, halfway through the mappings, so that nothing but these differs with their
// number: where rules are tried one after the other, that is the mean.
func (b *bench) knock(d *doors) error {
	first := d.mappings / 2 / portsOfOne * portsOfOne
	k := key{"new connections", d.mappings, 1, "connect", d.name}
	return nstest.Enter(d.outside, func() error {
		for range connectsARound {
			took, err := connect(unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}, Port: firstHostPort + first + rand.IntN(portsTried)})
			if err != nil {
				return err
			}
			b.report.add(k, sample{wall: took})
		}
		return nil
	})
}

// connect times the handshake alone, and leaves no connection behind that would wait.
func connect(to unix.SockaddrInet4) (time.Duration, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return 0, err
	}
	start := time.Now()
	err = unix.Connect(fd, &to)
	return time.Since(start), err
}

func (d *doors) close() error {
	for _, l := range d.listeners {
		_ = l.Close()
	}
	return errors.Join(removeNetNS(d.outside), d.host.close())
}
