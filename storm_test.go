package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// storm is a node on which pods of several networks come and go at random for a while. CNIBOX_TEST_STORM says for how long ("10m"), and has there be 500
// pods; else it is a short one.
type storm struct {
	*pluginNode
	scenes []scene
	slots  []*slot
	kills  bool         // some calls are killed, at random
	gc     sync.RWMutex // the runtime's: nobody is attached or detached meanwhile (CNI spec, section 4, GC)

	mu      sync.Mutex
	holders map[string]int // by network and address
	took    map[string][]took
	killed  int
}

// slot is a pod that is there or not. One worker at a time has it.
type slot struct {
	number int
	ns     *nstest.NS
	scene  int // that it is attached by; -1: none
	result reply
}

// took is how long a call took that began so long after the beginning.
type took struct{ at, long time.Duration }

// stormScenes are three networks, one of them in two configurations.
func stormScenes(t *testing.T) []scene {
	t.Helper()
	one, other, routed := bridgeScene(), bridgeScene(), ptpScene()
	other.conf["hairpinMode"], other.conf["mtu"] = true, 1400
	routed.conf["name"] = "routed"
	all := []scene{one, other, routed}
	if nstest.Has(t, "vxlan") {
		tunnel := vxlanScene()
		tunnel.conf["name"] = "tunnel"
		all = append(all, tunnel)
	}
	for i, s := range all {
		n := max(i, 1) // the first two are one network
		s.conf["ipam"] = map[string]any{"type": "host-local", "ranges": []any{
			[]any{map[string]any{"subnet": fmt.Sprintf("10.%d.0.0/16", 60+n)}}, []any{map[string]any{"subnet": fmt.Sprintf("fd60:%d::/64", n)}},
		}}
	}
	return all
}

func TestStorm(t *testing.T) {
	t.Parallel()
	long, pods := 8*time.Second, 60
	if text := os.Getenv("CNIBOX_TEST_STORM"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		pods = 500
	}
	newStorm(t, pods).blow(long)
}

// The same with calls that are killed, each of which the runtime follows up with DEL: no address is given to two, no file is unreadable, and nothing is left.
func TestStormWithKills(t *testing.T) {
	t.Parallel()
	s := newStorm(t, 60)
	s.kills = true
	s.blow(8 * time.Second)
	t.Logf("%d calls were killed", s.killed)
	if s.killed == 0 {
		t.Error("no call was killed")
	}
}

func newStorm(t *testing.T, pods int) *storm {
	t.Helper()
	s := &storm{pluginNode: newPluginNode(t), scenes: stormScenes(t), holders: map[string]int{}, took: map[string][]took{}}
	s.host.VarLib = t.TempDir()
	for _, line := range []string{"link add up0 type veth peer name up1", "addr add 192.0.2.1/24 dev up0", "link set up0 up", "link set up1 up"} {
		s.host.Run("ip", strings.Fields(line)...)
	}
	for i := range pods {
		s.slots = append(s.slots, &slot{number: i, ns: nstest.New(t, fmt.Sprintf("pod%d", i)), scene: -1})
	}
	return s
}

// blow has the pods come and go for a while, and then go for good.
func (s *storm) blow(long time.Duration) {
	s.t.Helper()
	const workers = 20
	var all []*nstest.NS
	for _, p := range s.slots {
		all = append(all, p.ns)
	}
	clean := s.state(all...)
	begin := time.Now()
	quarter := make(chan int64, 1)
	time.AfterFunc(long/4, func() { quarter <- memAvailable(s.t) })
	err := together(workers, func(worker int) error {
		for time.Since(begin) < long {
			if err := s.step(s.slots[worker+rand.IntN(len(s.slots)/workers)*workers], begin); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.t.Error(err)
	}
	s.tell(long)
	s.t.Logf("memory: %d MB less available than after the first quarter", (<-quarter-memAvailable(s.t))>>20)
	for _, p := range s.slots {
		if err := s.leave(p, begin); err != nil {
			s.t.Error(err)
		}
	}
	s.wantEmpty(clean, all...)
}

// step attaches the pod, checks it, takes it away, or has garbage collected.
func (s *storm) step(p *slot, begin time.Time) error {
	switch n := rand.IntN(200); {
	case n == 0:
		return s.collect(begin)
	case p.scene < 0:
		return s.join(p, begin)
	case n < 100:
		s.gc.RLock()
		defer s.gc.RUnlock()
		return s.timed("CHECK", begin, func() error {
			return s.call("CHECK", s.attachmentOf(p).with("prevResult", p.result.result)).err
		})
	}
	return s.leave(p, begin)
}

func (s *storm) attachmentOf(p *slot) nodeCall {
	return s.attachment(s.scenes[p.scene], fmt.Sprintf("pod%d", p.number), p.ns.Path)
}

func (s *storm) timed(verb string, begin time.Time, do func() error) error {
	start := time.Now()
	err := do()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took[verb] = append(s.took[verb], took{start.Sub(begin), time.Since(start)})
	if err != nil {
		err = fmt.Errorf("%s after %v: %w", verb, start.Sub(begin).Round(time.Millisecond), err)
	}
	return err
}

func (s *storm) join(p *slot, begin time.Time) error {
	s.gc.RLock()
	defer s.gc.RUnlock()
	p.scene = rand.IntN(len(s.scenes))
	c := s.attachmentOf(p)
	if s.isKilled("ADD", c) {
		p.scene = -1
		return s.timed("DEL", begin, func() error { return s.call("DEL", c).err })
	}
	if err := s.timed("ADD", begin, func() error {
		p.result = s.call("ADD", c)
		return p.result.err
	}); err != nil {
		return err
	}
	return s.hold(p, c)
}

// hold notes who has an address, and that nobody else does.
func (s *storm) hold(p *slot, c nodeCall) error {
	addrs, err := p.result.addresses()
	if err != nil || len(addrs) != 2 {
		return fmt.Errorf("pod%d has the addresses %v: %w", p.number, addrs, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range addrs {
		key := fmt.Sprint(c.conf["name"], " ", a)
		if other, taken := s.holders[key]; taken {
			return fmt.Errorf("pod%d and pod%d both have %s", p.number, other, key)
		}
		s.holders[key] = p.number
	}
	return nil
}

func (s *storm) leave(p *slot, begin time.Time) error {
	if p.scene < 0 {
		return nil
	}
	s.gc.RLock()
	defer s.gc.RUnlock()
	c := s.attachmentOf(p)
	s.mu.Lock()
	for key, holder := range s.holders {
		if holder == p.number {
			delete(s.holders, key)
		}
	}
	s.mu.Unlock()
	p.scene = -1
	for s.isKilled("DEL", c) {
	}
	return s.timed("DEL", begin, func() error { return s.call("DEL", c).err })
}

// isKilled calls a plugin at times and kills it, and tells whether it has. A call that has come to its end by then is undone, or done already.
func (s *storm) isKilled(verb string, c nodeCall) bool {
	const longest = 100 * time.Millisecond // of an ADD that waits for others
	if !s.kills || rand.IntN(3) > 0 {
		return false
	}
	killed, a := s.kill(rand.N(longest), verb, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if killed {
		s.killed++
	}
	if a.err != nil {
		s.t.Errorf("%s: %v", verb, a.err)
	}
	return killed || verb == "ADD"
}

// collect has garbage collected in each network, while nobody comes or goes.
func (s *storm) collect(begin time.Time) error {
	s.gc.Lock()
	defer s.gc.Unlock()
	valid := map[any][]any{}
	for _, p := range s.slots {
		if p.scene >= 0 {
			name := s.attachmentOf(p).conf["name"]
			valid[name] = append(valid[name], map[string]any{"containerID": fmt.Sprintf("pod%d", p.number), "ifname": "eth0"})
		}
	}
	for _, sc := range s.scenes {
		c := s.attachment(sc, "", "")
		list := valid[c.conf["name"]]
		if list == nil {
			list = []any{}
		}
		if err := s.timed("GC", begin, func() error { return s.call("GC", c.with("cni.dev/valid-attachments", list)).err }); err != nil {
			return err
		}
	}
	return nil
}

// tell logs how many calls there were, and how long they took at the beginning and at the end.
func (s *storm) tell(long time.Duration) {
	s.t.Helper()
	for _, verb := range []string{"ADD", "CHECK", "DEL", "GC"} {
		var first, last []time.Duration
		for _, c := range s.took[verb] {
			switch {
			case c.at < long/4:
				first = append(first, c.long)
			case c.at > long*3/4:
				last = append(last, c.long)
			}
		}
		s.t.Logf("%-5s %6d calls, median %v in the first quarter, %v in the last", verb, len(s.took[verb]), median(first), median(last))
	}
}

func median(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.SortFunc(list, cmp.Compare)
	return list[len(list)/2].Round(10 * time.Microsecond)
}

// memAvailable is what the kernel would have for new programs, in bytes (proc_meminfo(5)).
func memAvailable(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Error(err)
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "MemAvailable:")
	kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Error(err)
	}
	return kilobytes << 10
}
