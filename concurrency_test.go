package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// crowd is how many pods come and go at once.
const crowd = 50

// together runs do for each of n at the same time, and gives the errors.
func together(n int, do func(i int) error) error {
	errs := make([]error, n)
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range n {
		done.Go(func() {
			start.Wait()
			errs[i] = do(i)
		})
	}
	start.Done()
	done.Wait()
	return errors.Join(errs...)
}

// addresses are those of a result.
func (a reply) addresses() (out []string, err error) {
	var result struct {
		IPs []struct{ Address, Gateway string }
	}
	err = json.Unmarshal(a.result, &result)
	for _, ip := range result.IPs {
		out = append(out, ip.Address)
	}
	return out, err
}

// TestManyAtOnce attaches many pods to a node on which nothing has been made, all at once, and detaches them so.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	for _, s := range []scene{bridgeScene(), ptpScene()} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			n := newPluginNode(t)
			pods, calls := make([]*nstest.NS, crowd), make([]nodeCall, crowd)
			for i := range pods {
				pods[i] = nstest.New(t, fmt.Sprintf("pod%d", i))
				calls[i] = n.attachment(s, fmt.Sprintf("pod%d", i), pods[i].Path)
			}
			clean := n.state(pods...)
			replies := make([]reply, crowd)
			err := together(crowd, func(i int) error {
				replies[i] = n.call("ADD", calls[i])
				return replies[i].err
			})
			if err != nil {
				t.Fatalf("ADD: %v", err)
			}
			holders := map[string]int{}
			for i, a := range replies {
				addrs, err := a.addresses()
				if err != nil || len(addrs) != 2 {
					t.Fatalf("pod%d has the addresses %v (%v)", i, addrs, err)
				}
				for _, addr := range addrs {
					if other, taken := holders[addr]; taken {
						t.Errorf("pod%d and pod%d both have %s", i, other, addr)
					}
					holders[addr] = i
				}
			}
			wantReachable(t, pods, replies)
			err = together(crowd, func(i int) error {
				check := n.call("CHECK", calls[i].with("prevResult", replies[i].result))
				return check.err
			})
			if err != nil {
				t.Errorf("CHECK: %v", err)
			}
			if err := together(crowd, func(i int) error { return n.call("DEL", calls[i]).err }); err != nil {
				t.Fatalf("DEL: %v", err)
			}
			n.wantEmpty(clean, pods...)
		})
	}
}

// wantReachable pings gateway and neighbour from some of the pods, by both families.
func wantReachable(t *testing.T, pods []*nstest.NS, replies []reply) {
	t.Helper()
	const every = 12
	for i := 0; i < len(pods); i += every {
		neighbour, err := replies[(i+1)%len(pods)].addresses()
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range append(neighbour, "10.44.0.1/24", "fd44::1/64") {
			if out, err := pods[i].Try("ping", "-c1", "-w10", filepath.Dir(addr)); err != nil {
				t.Errorf("pod%d does not reach %s: %v\n%s", i, addr, err, out)
			}
		}
	}
}

// wantEmpty compares the node with how it was before all attachments. What they have shared stays.
func (n *pluginNode) wantEmpty(clean string, pods ...*nstest.NS) {
	n.t.Helper()
	n.removeBridge()
	for name, text := range n.tables() {
		if hasElements.MatchString(text) {
			n.t.Errorf("the packet filter's table %s still has elements:\n%s", name, text)
		}
	}
	n.idle = n.tables()
	if diff := n.settle(clean, pods...); diff != "" {
		n.t.Errorf("something is left: %s", diff)
	}
}

// One attachment is deleted several times at once. A runtime that lost patience does so.
func TestConcurrentDELsFail(t *testing.T) {
	t.Parallel()
	const times = 4
	onStages(t, []scene{bridgeScene(), ptpScene(), portmapScene(), firewallScene()}, func(t *testing.T, st *stage) {
		for range 5 {
			st.must("ADD", st.call, "before DEL")
			if err := together(times, func(int) error { return st.pluginNode.call("DEL", st.call).err }); err != nil {
				t.Errorf("DEL: %v", err)
			}
			st.wantClean("after DEL, several times at once")
		}
	})
}

// Pods come and go at random while the runtime collects garbage. Those that stay are whole in the end.
func TestChurnWithGC(t *testing.T) {
	t.Parallel()
	const workers, rounds = 8, 6
	n := newPluginNode(t)
	stays := make([]*nstest.NS, workers)
	comesAndGoes := make([]*nstest.NS, workers)
	var valid []map[string]string
	for i := range workers {
		stays[i], comesAndGoes[i] = nstest.New(t, fmt.Sprintf("stays%d", i)), nstest.New(t, fmt.Sprintf("goes%d", i))
		for _, kind := range []string{"stays", "goes"} {
			valid = append(valid, map[string]string{"containerID": fmt.Sprintf("%s%d", kind, i), "ifname": "eth0"})
		}
	}
	all := append(append([]*nstest.NS{}, stays...), comesAndGoes...)
	clean := n.state(all...)
	s := bridgeScene()
	gc := n.attachment(s, "", "").with("cni.dev/valid-attachments", valid)
	replies := make([]reply, workers)
	err := together(workers, func(i int) error {
		replies[i] = n.call("ADD", n.attachment(s, fmt.Sprintf("stays%d", i), stays[i].Path))
		errs := []error{replies[i].err}
		goes := n.attachment(s, fmt.Sprintf("goes%d", i), comesAndGoes[i].Path)
		for range rounds {
			errs = append(errs, n.call("ADD", goes).err)
			if rand.IntN(3) == 0 {
				errs = append(errs, n.call("GC", gc).err)
			}
			errs = append(errs, n.call("DEL", goes).err)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Error(err)
	}
	for i := range workers {
		c := n.attachment(s, fmt.Sprintf("stays%d", i), stays[i].Path)
		if check := n.call("CHECK", c.with("prevResult", replies[i].result)); check.err != nil {
			t.Errorf("CHECK of stays%d: %v", i, check.err)
		}
	}
	n.must("GC", gc.with("cni.dev/valid-attachments", []any{}), "of all")
	n.wantEmpty(clean, all...)
}
