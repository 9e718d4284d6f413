package traffic_test

import (
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/traffic"
)

func TestPair(t *testing.T) {
	t.Parallel()
	a, b := nstest.New(t, "a"), nstest.New(t, "b")
	a.Run("ip", "link", "add", "eth0", "up", "type", "veth", "peer", "name", "eth0", "netns", b.Path)
	a.Run("ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
	b.Run("ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
	b.Run("ip", "link", "set", "eth0", "up")
	p, err := traffic.Connect(a.Path, b.Path, "192.0.2.2")
	if err != nil {
		t.Fatal(err)
	}
	took, err := p.Send(10 << 20)
	if err != nil || took <= 0 {
		t.Errorf("sending took %v: %v", took, err)
	}
	times := 0
	count := func(took time.Duration) bool {
		times++
		return times < 100
	}
	if err := p.PingPong(count); err != nil || times != 100 {
		t.Errorf("%d times: %v", times, err)
	}
	// What was sent before is no answer to what comes next.
	if _, err := p.Send(1); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := traffic.Connect(a.Path, b.Path, "192.0.2.3"); err == nil {
		t.Error("it connects to an address that the other does not have")
	}
}
