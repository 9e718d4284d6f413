package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/greet"
	"github.com/cnibox/cnibox/scripts/traffic"
)

// serve answers in a namespace.
func serve(netns string, port int) error {
	return nstest.Enter(netns, func() error { return greet.Serve(port) })
}

// ask connects from a namespace, and has to be seen as an address: anyone's, if it is empty.
func ask(netns, addr string, port int, as string) (string, error) {
	to := net.JoinHostPort(addr, strconv.Itoa(port))
	var seen string
	err := nstest.Enter(netns, func() (err error) {
		seen, err = greet.Ask(to)
		return err
	})
	if err == nil && as != "" && seen != as {
		err = fmt.Errorf("%s saw %s, and not %s", to, seen, as)
	}
	return fmt.Sprintf("%s answered; it saw %s", to, seen), err
}

// listening waits until a container that has been started answers at its own address: what starts it does not wait for that.
func listening(addr string) error {
	return waitUntil(addr+" answers", func() (bool, error) {
		_, err := ask(hostNS, addr, podPort, "")
		return err == nil, err
	})
}

// wantSilence connects from a namespace to where nobody may answer.
func wantSilence(netns, addr string, port int) error {
	answer, err := ask(netns, addr, port, "")
	if err == nil {
		return fmt.Errorf("it should not: %s", answer)
	}
	return nil
}

// whileTalking does something while a connection of pods goes to and fro, and returns how long that had to wait at most.
func whileTalking(from, to, addr string, fn func() error) (longest time.Duration, err error) {
	pair, err := traffic.Connect(from, to, addr)
	if err != nil {
		return 0, err
	}
	defer func() { _ = pair.Close() }()
	var end atomic.Bool
	talk := make(chan error, 1)
	go func() {
		talk <- pair.PingPong(func(took time.Duration) bool {
			longest = max(longest, took)
			return !end.Load()
		})
	}()
	err = fn()
	end.Store(true)
	err = errors.Join(err, <-talk)
	return longest, err
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// The limit that pods get. Before it applies, as much as the burst goes at once.
const (
	limit     = 8_000_000 // bits a second
	sentBytes = 3_000_000
)

// limited has 3 MB sent to a pod, which has to take as long as its limit wants.
func limited(from, to, addr string, burst int) (string, error) {
	pair, err := traffic.Connect(from, to, addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = pair.Close() }()
	took, err := pair.Send(sentBytes)
	if err != nil {
		return "", err
	}
	if least := time.Second * time.Duration(8*sentBytes-burst) / limit; took < least*9/10 {
		return "", fmt.Errorf("%.1f MB took %s, and not %s", sentBytes/1e6, took, least)
	}
	return fmt.Sprintf("%.1f MB took %.1f s, %.1f Mbit/s of %.0f", sentBytes/1e6, took.Seconds(), 8*sentBytes/1e6/took.Seconds(), limit/1e6), nil
}
