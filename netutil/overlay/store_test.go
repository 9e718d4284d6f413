package overlay_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/overlay"
)

func newStore(t *testing.T) (s *overlay.Store, state, run string) {
	t.Helper()
	state, run = filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "run")
	return overlay.OpenStore(state, run, "podnet"), state, run
}

// What pods rely on is kept beside the settings, and comes back with them as long as there are pods.
func TestTheStoreKnowsTheBridge(t *testing.T) {
	t.Parallel()
	s, state, _ := newStore(t)
	unlock, err := s.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	gateway := netip.MustParsePrefix("10.244.1.254/16")
	c := &overlay.Config{
		Network: "podnet", VNI: 42, Port: 4789, Subnets: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, Peers: manyPeers(2),
		Bridged: overlay.Bridged{Bridge: "br0", Group: netip.MustParseAddr("239.1.1.1"), AskAll: true, NoHost: true, MAC: []byte{2, 0, 0, 0, 0, 9}, KeptMTU: 1450},
	}
	add := func() error { return s.AddGateways([]netip.Prefix{gateway}) }
	for _, err := range []error{add(), s.Save(c), add(), add(), s.Use("veth1"), s.Use("veth2")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c.Gateways, c.Ports = []netip.Prefix{gateway}, []string{"veth1", "veth2"}
	if got, err := s.Load(); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("read %+v, %v", got, err)
	}
	recall := func(except string) overlay.Bridged {
		got := &overlay.Config{Bridged: overlay.Bridged{Bridge: "br0"}}
		if err := s.Recall(got, except); err != nil {
			t.Error(err)
		}
		return got.Bridged
	}
	if got := recall("veth2"); !reflect.DeepEqual(got.Ports, []string{"veth1"}) || got.KeptMTU != 1450 || len(got.Gateways) != 1 {
		t.Errorf("beside another pod there is %+v", got)
	}
	if _, err := s.Leave("veth1"); err != nil {
		t.Fatal(err)
	}
	if got := recall("veth2"); got.Ports != nil || got.KeptMTU != 0 || got.Gateways != nil || got.MAC.String() != "02:00:00:00:00:09" {
		t.Errorf("without another pod there is %+v", got)
	}
	routed := &overlay.Config{}
	if err := s.Recall(routed, ""); err != nil || routed.Gateways != nil || routed.Ports != nil {
		t.Errorf("without a bridge there are %v and %v, %v", routed.Gateways, routed.Ports, err)
	}
	if err := os.WriteFile(filepath.Join(state, "podnet", "settings"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := recall(""); got.MAC != nil || len(got.Ports) != 1 {
		t.Errorf("beside broken settings there is %+v", got)
	}
}

func TestTheStoreKeepsWhatItIsGiven(t *testing.T) {
	t.Parallel()
	s, state, _ := newStore(t)
	if c, err := s.Load(); c != nil || err != nil {
		t.Errorf("there is %v, %v", c, err)
	}
	c := &overlay.Config{
		Network: "podnet", VNI: 42, Port: 4789, Device: "eth0", Underlay: netip.MustParseAddr("192.0.2.1"), MTU: 1400, Direct: true,
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.255.0.0/24")}, Peers: manyPeers(300),
	}
	c.Peers[7].MAC = []byte{2, 0, 0, 0, 0, 7}
	if err := s.Save(c); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("read %+v, %v", got, err)
	}
	seen := map[string]bool{}
	for range 200 {
		some, err := s.Sample(32)
		if err != nil || len(some) == 0 || len(some) > 32 {
			t.Fatalf("a sample of %d, %v", len(some), err)
		}
		for _, p := range some {
			seen[p.Name] = true
		}
	}
	if len(seen) < 290 {
		t.Errorf("200 samples have but %d of the peers", len(seen))
	}
	if networks, err := overlay.Networks(state); err != nil || !reflect.DeepEqual(networks, []string{"podnet"}) {
		t.Errorf("networks %v, %v", networks, err)
	}
	if err := s.Forget(); err != nil {
		t.Fatal(err)
	}
	if networks, err := overlay.Networks(state); err != nil || len(networks) > 0 {
		t.Errorf("left are %v, %v", networks, err)
	}
}

func TestAFileOfPeersIsReadAnew(t *testing.T) {
	t.Parallel()
	s, _, _ := newStore(t)
	file := filepath.Join(t.TempDir(), "peers")
	c := &overlay.Config{Network: "podnet", VNI: 42, Port: 1, Peers: manyPeers(2), PeersFile: file}
	if err := s.Save(c); err != nil {
		t.Fatal(err)
	}
	got, err := s.Refresh()
	errtest.Want(t, err, errcode.InvalidConfig, "peersFile: ", "the last list that was good stays in force")
	if got == nil || len(got.Peers) != 2 {
		t.Errorf("in force is %+v", got)
	}
	if err := os.WriteFile(file, []byte(`[{"name": "a", "underlay": ["192.0.2.1"], "subnets": ["10.1.0.0/24"]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err = s.Refresh(); err != nil || len(got.Peers) != 1 || got.Peers[0].Name != "a" {
		t.Errorf("in force is %+v, %v", got, err)
	}
}

func TestTheLastUserIsToldSo(t *testing.T) {
	t.Parallel()
	s, _, run := newStore(t)
	if last, err := s.Leave("nobody"); !last || err != nil {
		t.Errorf("last: %t, %v", last, err)
	}
	use := func(user string) {
		unlock, err := s.Lock()
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		if err := s.Use(user); err != nil {
			t.Error(err)
		}
	}
	use("a")
	use("b")
	if last, err := s.Leave("a"); last || err != nil {
		t.Errorf("last: %t, %v", last, err)
	}
	if none, err := s.Keep(func(user string) bool { return user == "b" }); none || err != nil {
		t.Errorf("none: %t, %v", none, err)
	}
	if none, err := s.Keep(func(string) bool { return false }); !none || err != nil {
		t.Errorf("none: %t, %v", none, err)
	}
	// The network's folder comes and goes under the lock.
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			unlock, err := s.Lock()
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if err := s.Use("c"); err != nil {
				t.Error(err)
			}
			if last, err := s.Leave("c"); !last || err != nil {
				t.Errorf("last: %t, %v", last, err)
			}
			if err := s.Forget(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if left, err := os.ReadDir(run); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
