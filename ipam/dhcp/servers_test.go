package dhcp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/cnibox/cnibox/roles/roletest"
)

// TestWithServers has each server go through what happens in the life of a lease. Most of that is waiting, so all of it happens at once.
func TestWithServers(t *testing.T) {
	t.Parallel()
	for _, p := range products() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			var all sync.WaitGroup
			for event, test := range map[string]func(*testing.T, product){
				"lease": leaseAndRelease, "renewal": renewal, "expiry": expiry, "NAK": refusal, "server gone for a while": serverGone,
				"daemon killed": daemonKilled,
			} {
				all.Go(func() { t.Run(event, func(t *testing.T) { test(t, p) }) })
			}
			all.Wait()
		})
	}
}

// long is a lease that does not end while the test runs, though the server is asked for more time every three seconds.
func long() offer { return offer{"10.40.0", 120, 3, 90} }

func leaseAndRelease(t *testing.T, p product) {
	l := newNode(t)
	s := l.serve(p, offer{"10.40.0", 120, 60, 105})
	l.inProcess()
	pod := l.Add("bridge", "a", l.conf())
	l.wantNet(pod, "10.40.0")
	if err := l.Check("bridge", "a", l.conf()); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	a := address(pod)
	if left := time.Until(s.ends(a)); left < time.Minute || left > 2*time.Minute {
		t.Errorf("the server has leased %s for another %s", a, left)
	}
	l.Del("bridge", "a", l.conf())
	s.wantReleased(a)
}

func renewal(t *testing.T, p product) {
	l := newNode(t)
	s := l.serve(p, long())
	l.inProcess()
	pod := l.Add("bridge", "a", l.conf())
	whole := s.watch(pod)
	for range 2 {
		s.renewed(address(pod))
	}
	whole()
}

// Of a server whose leases are too long to wait for, the pod's ends sooner by the daemon's own record.
func expiry(t *testing.T, p product) {
	const lasts = 6 * time.Second
	l := newNode(t)
	o := offer{"10.40.0", int(max(lasts, p.shortest).Seconds()), 3, 5}
	s := l.serve(p, o)
	d := l.program()
	pod := l.Add("bridge", "a", l.conf())
	s.kill()
	end := s.ends(pod.Addrs[0].String()) // rounded down, as the server's clock has seconds
	if end.IsZero() {
		t.Fatalf("the server has not leased %s", pod.Addrs[0])
	}
	if p.shortest > lasts {
		kill(d)
		end = l.hasten(lasts / 2)
		l.program()
	}
	wantAddrs(t, pod, 20*time.Second)
	if early := time.Until(end); early > 0 {
		t.Errorf("the address has gone %s before the lease's end", early)
	}
	s.start(long())
	l.wantNet(pod, "10.40.0")
	if a := address(pod); s.ends(a).Before(time.Now()) {
		t.Errorf("the server has not leased %s", a)
	}
}

func refusal(t *testing.T, p product) {
	l := newNode(t)
	s := l.serve(p, long())
	l.inProcess()
	pod := l.Add("bridge", "a", l.conf())
	l.wantNet(pod, "10.40.0")
	old := address(pod)
	s.kill()
	o := long()
	o.net = "10.41.0"
	s.start(o)
	l.wantNet(pod, "10.41.0")
	if s.said("DHCPNAK", old) == 0 {
		t.Errorf("the server has not refused %s", old)
	}
	a := address(pod)
	s.renewed(a)
	l.Del("bridge", "a", l.conf())
	s.wantReleased(a)
}

func serverGone(t *testing.T, p product) {
	l := newNode(t)
	o := offer{"10.40.0", 120, 3, 4}
	s := l.serve(p, o)
	l.inProcess()
	pod := l.Add("bridge", "a", l.conf())
	whole := s.watch(pod)
	s.kill()
	eventually(t, 20*time.Second, "the server is asked in vain", func() bool { return strings.Contains(l.log.String(), "no server answers") })
	s.start(o)
	s.renewed(address(pod))
	whole()
}

func daemonKilled(t *testing.T, p product) {
	l := newNode(t)
	s := l.serve(p, long())
	d := l.program()
	pod := l.Add("bridge", "a", l.conf())
	whole := s.watch(pod)
	kill(d)
	l.program()
	for range 2 {
		s.renewed(address(pod))
	}
	whole()
	a := address(pod)
	l.Del("bridge", "a", l.conf())
	s.wantReleased(a)
}

// TestManyLeasesWithServers has 200 pods ask for an address at the same time, and give it back.
func TestManyLeasesWithServers(t *testing.T) {
	t.Parallel()
	for _, p := range products() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			const count = 200
			l := newNode(t)
			s := l.serve(p, offer{"10.40.0", 3600, 1800, 3000})
			l.program()
			pods := make([]*roletest.Pod, count)
			for i := range pods {
				pods[i] = l.Pod(fmt.Sprintf("p%d", i))
			}
			held, owner := make([]string, count), map[string]string{}
			for i, out := range l.all(pods, "ADD") {
				var res answerOf
				if err := json.Unmarshal(out, &res); err != nil || len(res.IPs) != 1 {
					t.Fatalf("%s has %s", pods[i].Name, out)
				}
				a, _, _ := strings.Cut(res.IPs[0].Address, "/")
				l.WantSeen(pods[i].NS, "tcp", "10.40.0.1:80", a)
				if s.ends(a).IsZero() || owner[a] != "" {
					t.Errorf("%s has %s, which the server has not leased, or is that of %q too", pods[i].Name, a, owner[a])
				}
				held[i], owner[a] = a, pods[i].Name
			}
			// A release is sent once. More of them than wait in the server's socket, about 160, are lost while it writes its file.
			for i := 0; i < count; i += 50 {
				l.all(pods[i:i+50], "DEL")
				for _, a := range held[i : i+50] {
					s.wantReleased(a)
				}
			}
		})
	}
}

// wantNet waits until the pod has one address, of the network, and one default route, to its router, which it then reaches.
func (l *lan) wantNet(p *roletest.Pod, net string) {
	l.t.Helper()
	eventually(l.t, 20*time.Second, "the pod has an address of "+net+".0/24, and its route", func() bool {
		all, routes := addrs(p), p.Run("ip", "route")
		return len(all) == 1 && strings.HasPrefix(all[0], net+".") &&
			strings.Count(routes, "default") == 1 && strings.Contains(routes, "default via "+net+".1 ")
	})
	l.WantSeen(p.NS, "tcp", net+".1:80", address(p))
}

// address is the pod's first one, empty if it has none.
func address(p *roletest.Pod) string {
	for _, a := range addrs(p) {
		a, _, _ = strings.Cut(a, "/")
		return a
	}
	return ""
}

// all makes a call for each of the pods at once, and returns the answers.
func (l *lan) all(pods []*roletest.Pod, verb string) [][]byte {
	l.t.Helper()
	answers := make([][]byte, len(pods))
	var all sync.WaitGroup
	for i, p := range pods {
		all.Go(func() {
			var err error
			if answers[i], err = l.Do(roletest.Call{Verb: verb, Role: "bridge", Pod: p, Conf: l.conf()}); err != nil {
				l.t.Errorf("%s of %s: %v", verb, p.Name, err)
			}
		})
	}
	all.Wait()
	return answers
}

// wantReleased waits until the server has been told that an address is free, and has written it.
func (s *realServer) wantReleased(address string) {
	s.l.t.Helper()
	eventually(s.l.t, 5*time.Second, s.name+" has "+address+" back", func() bool {
		return s.said("DHCPRELEASE", address) == 1 && s.ends(address).IsZero()
	})
}

// watch has the pod talk to the host over one connection until the function that it returns is called. That fails the test if an answer has not
// come, if an address of the pod has come or gone, or if the server was asked for one meanwhile.
func (s *realServer) watch(p *roletest.Pod) (whole func()) {
	l := s.l
	l.t.Helper()
	eventually(l.t, 20*time.Second, "the server tells of the lease", func() bool { return s.said("DHCPACK", address(p)) > 0 })
	asked := s.said("DHCPDISCOVER", "") // which it told of before
	changes, done := make(chan netlink.AddrUpdate, 100), make(chan struct{})
	l.t.Cleanup(func() { close(done) })
	if err := p.Do(func() error { return netlink.AddrSubscribe(changes, done) }); err != nil {
		l.t.Fatal(err)
	}
	l.echo()
	c := l.Dial(p.NS, "tcp", "10.40.0.1:7")
	ended, stop := make(chan error, 1), make(chan struct{})
	go func() { ended <- talk(c, stop) }()
	return func() {
		l.t.Helper()
		close(stop)
		if err := <-ended; err != nil {
			l.t.Errorf("the pod's connection: %v", err)
		}
		for len(changes) > 0 {
			if u := <-changes; u.LinkAddress.IP.To4() != nil {
				l.t.Errorf("the address %s has come (or else gone): %t", &u.LinkAddress, u.NewAddr)
			}
		}
		if s.said("DHCPDISCOVER", "") != asked {
			l.t.Error("an address was asked for anew")
		}
	}
}

// talk says something every few milliseconds, and waits for it to come back.
func talk(c net.Conn, stop <-chan struct{}) error {
	for {
		if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		if _, err := c.Write([]byte("?")); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// echo has the host send back what comes to port 7.
func (l *lan) echo() {
	l.t.Helper()
	err := l.Host.Do(func() error {
		server, err := net.Listen("tcp", ":7")
		if err != nil {
			return err
		}
		l.t.Cleanup(func() { _ = server.Close() })
		go func() {
			for {
				c, err := server.Accept()
				if err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(c, c)
					_ = c.Close()
				}()
			}
		}()
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// hasten rewrites the one lease of a daemon that does not run, as if all of its time but what is left had passed, and returns its end.
func (l *lan) hasten(left time.Duration) (end time.Time) {
	l.t.Helper()
	files, err := filepath.Glob(filepath.Join(l.state, "*.json"))
	if err == nil && len(files) != 1 {
		err = fmt.Errorf("%d leases in %s", len(files), l.state)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	text, err := os.ReadFile(files[0])
	lease := map[string]any{}
	err = errors.Join(err, json.Unmarshal(text, &lease))
	now := time.Now()
	end = now.Add(left)
	lease["t1"], lease["t2"], lease["end"] = now, now, end
	text, marshalErr := json.Marshal(lease)
	if err = errors.Join(err, marshalErr, os.WriteFile(files[0], text, 0o600)); err != nil {
		l.t.Fatal(err)
	}
	return end
}
