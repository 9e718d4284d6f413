package hostlocal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/nstest"
	refplugins "github.com/cnibox/cnibox/scripts/reference"
)

// plugin is an executable host-local.
type plugin string

// buildPlugins makes the reference's host-local, as tools/reference/go.mod names it, and ours.
func buildPlugins(t *testing.T) (reference, own plugin) {
	t.Helper()
	dir := t.TempDir()
	reference, own = plugin(filepath.Join(dir, "reference", "host-local")), plugin(filepath.Join(dir, "host-local"))
	if err := refplugins.Build(filepath.Dir(string(reference)), "ipam/host-local"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("make", "-C", "../..", "build", "BIN="+string(own))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return reference, own
}

// pod is an attachment, as the two plugins know it.
type pod struct{ id, ifName string }

func (p pod) text() string { return p.id + "\r\n" + p.ifName }

// order is one call of a plugin.
type order struct {
	verb  string
	pod   pod
	args  string         // CNI_ARGS
	conf  map[string]any // more keys of the configuration
	netNS string         // CNI_NETNS
	ipam  map[string]any // the section ipam
}

// answer is what a plugin prints.
type answer struct {
	IPs []struct {
		Address netip.Prefix `json:"address"`
		Gateway string       `json:"gateway"`
	} `json:"ips"`
	Code uint   `json:"code"`
	Msg  string `json:"msg"`
}

// addrs is the answered addresses, each with its gateway.
func (a answer) addrs() string {
	var out []string
	for _, ip := range a.IPs {
		out = append(out, ip.Address.String()+" "+ip.Gateway)
	}
	return strings.Join(out, ", ")
}

// command is the plugin with its variables and its configuration.
func (p plugin) command(t *testing.T, version string, o order) *exec.Cmd {
	conf := map[string]any{"cniVersion": version, "name": "net", "type": "x", "ipam": o.ipam}
	maps.Copy(conf, o.conf)
	stdin, err := json.Marshal(conf)
	if err != nil {
		t.Error(err)
	}
	cmd := exec.Command(string(p))
	cmd.Env = []string{"CNI_COMMAND=" + o.verb, "CNI_PATH=/nowhere"}
	if o.verb != "GC" {
		cmd.Env = append(cmd.Env, "CNI_CONTAINERID="+o.pod.id, "CNI_IFNAME="+o.pod.ifName, "CNI_NETNS="+o.netNS, "CNI_ARGS="+o.args)
	}
	cmd.Stdin = bytes.NewReader(stdin)
	return cmd
}

// call starts the plugin. That it succeeds exactly if it answers no error is a matter of course.
func (p plugin) call(t *testing.T, version string, o order) (a answer) {
	out, failed := p.command(t, version, o).Output()
	var err error
	if len(out) > 0 {
		err = json.Unmarshal(out, &a)
	}
	if err != nil || (failed != nil) != (a.Code != 0) {
		t.Errorf("%s: %s %v: %v, %v, answered %s", p, o.verb, o.pod, failed, err, out)
	}
	return a
}

// node is a folder of reservations, and what it has to hold.
type node struct {
	*testing.T
	*rand.Rand
	reference, own plugin
	dir, netNS     string
	ipam           map[string]any
	sets           [][]pool
	files          map[string]string // address -> text
	last           []netip.Addr      // by range set
}

func (n *node) pod() pod {
	return pod{fmt.Sprintf("%064x", n.IntN(9)), []string{"eth0", "net1"}[n.IntN(2)]}
}

// plugin is one of the two.
func (n *node) plugin() plugin { return []plugin{n.reference, n.own}[n.IntN(2)] }

func (n *node) held(p pod) (full, old []string) {
	for _, name := range slices.Sorted(maps.Keys(n.files)) {
		switch n.files[name] {
		case p.text():
			full = append(full, name)
		case p.id:
			old = append(old, name)
		}
	}
	return full, old
}

// pick goes round a range set, one address at a time. A wanted address is taken as it is.
func (n *node) pick(i int, want netip.Addr) (netip.Addr, bool) {
	var all []netip.Addr
	for _, p := range n.sets[i] {
		for a := p.First; a.Compare(p.Last) <= 0; a = a.Next() {
			if want == a && a == p.gateway {
				return a, false
			}
			all = append(all, a)
		}
	}
	if want.IsValid() {
		return want, n.files[want.String()] == ""
	}
	start := slices.Index(all, n.last[i]) + 1
	for k := range all {
		if a := all[(start+k)%len(all)]; n.files[a.String()] == "" && a != poolOf(n.sets[i], a).gateway {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// wishes asks for some addresses, by any of the three ways.
func (n *node) wishes(o *order) []netip.Addr {
	wants := make([]netip.Addr, len(n.sets))
	var texts []string
	for i, set := range n.sets {
		if n.IntN(2) == 0 {
			continue
		}
		p := set[n.IntN(len(set))]
		wants[i] = p.First
		for range n.IntN(8) {
			if wants[i] != p.Last {
				wants[i] = wants[i].Next()
			}
		}
		texts = append(texts, wants[i].String())
	}
	switch way := n.IntN(3); {
	case len(texts) == 0:
	case way == 0:
		o.conf["runtimeConfig"] = map[string]any{"ips": texts}
	case way == 1:
		o.conf["args"] = map[string]any{"cni": map[string]any{"ips": texts}}
	default: // the reference takes one address here
		o.args = "IgnoreUnknown=1;K8S_POD_NAME=x;IP=" + texts[0]
		o.conf["args"] = map[string]any{"cni": map[string]any{"ips": texts[1:]}}
	}
	return wants
}

func (n *node) add() {
	who := n.plugin()
	o := order{verb: "ADD", pod: n.pod(), netNS: n.netNS, ipam: n.ipam, conf: map[string]any{}}
	full, old := n.held(o.pod)
	has := len(full)+len(old) > 0
	wants := make([]netip.Addr, len(n.sets))
	if !has && n.IntN(3) == 0 { // the reference gives a pod that has an address another one if it is asked to
		wants = n.wishes(&o)
	}
	var want []string
	picks, ok := make([]netip.Addr, 0, len(n.sets)), !has
	for i := 0; ok && i < len(n.sets); i++ {
		var addr netip.Addr
		if addr, ok = n.pick(i, wants[i]); ok {
			p := poolOf(n.sets[i], addr)
			picks = append(picks, addr)
			want = append(want, netip.PrefixFrom(addr, p.subnet.Bits()).String()+" "+p.gateway.String())
		}
	}
	got := who.call(n.T, []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}[n.IntN(4)], o)
	if ok != (got.Code == 0) || ok && got.addrs() != strings.Join(want, ", ") {
		n.Fatalf("%s: ADD %v %+v answered %+v, want %v, %v", who, o.pod, o, got, ok, want)
	}
	for i, addr := range picks {
		if ok {
			n.files[addr.String()] = o.pod.text()
		}
		if ok || who == n.reference { // which takes back the file, but not this
			n.last[i] = addr
		}
	}
}

func (n *node) del() {
	o := order{verb: "DEL", pod: n.pod(), ipam: n.ipam}
	if n.IntN(2) == 0 {
		o.netNS = n.netNS
	}
	who := n.plugin()
	if a := who.call(n.T, "1.0.0", o); a.Code != 0 {
		n.Fatalf("%s: DEL %v: %+v", who, o.pod, a)
	}
	times := 1
	if who == n.reference { // which does it over for each range set
		times = len(n.sets)
	}
	for range times {
		gone, old := n.held(o.pod)
		if len(gone) == 0 {
			gone = old
		}
		for _, name := range gone {
			delete(n.files, name)
		}
	}
}

func (n *node) check() {
	o := order{verb: "CHECK", pod: n.pod(), netNS: n.netNS, ipam: n.ipam}
	o.conf = map[string]any{"prevResult": map[string]any{"cniVersion": "1.0.0"}}
	full, old := n.held(o.pod)
	who := n.plugin()
	if a := who.call(n.T, "1.0.0", o); (a.Code == 0) != (len(full)+len(old) > 0) {
		n.Fatalf("%s: CHECK %v: %+v, it has %v %v", who, o.pod, a, full, old)
	}
}

// collect is GC, which the reference answers too, but does nothing.
func (n *node) collect() {
	var valid []map[string]string
	keep := map[string]bool{}
	for range 16 {
		p := n.pod()
		valid = append(valid, map[string]string{"containerID": p.id, "ifname": p.ifName})
		keep[p.text()], keep[p.id] = true, true
	}
	who := n.plugin()
	a := who.call(n.T, "1.1.0", order{verb: "GC", ipam: n.ipam, conf: map[string]any{"cni.dev/valid-attachments": valid}})
	if a.Code != 0 {
		n.Fatalf("%s: GC: %+v", who, a)
	}
	if who == n.own {
		maps.DeleteFunc(n.files, func(_, text string) bool { return !keep[text] })
	}
}

// ancient makes an address file as plugins before 2018 did: with the container ID alone. The pod then has one of each range set.
func (n *node) ancient() {
	p := n.pod()
	if full, old := n.held(p); len(full)+len(old) > 0 {
		return
	}
	for _, set := range n.sets {
		addr := set[0].Last
		if n.files[addr.String()] != "" {
			return
		}
	}
	for _, set := range n.sets {
		name := set[0].Last.String()
		n.files[name] = p.id
		if err := os.WriteFile(filepath.Join(n.dir, "net", name), []byte(p.id), 0o600); err != nil {
			n.Fatal(err)
		}
	}
}

// compare wants the folder to be as the reference would have left it, byte for byte.
func (n *node) compare(step string) {
	want := map[string]string{"lock": ""}
	maps.Copy(want, n.files)
	for i, a := range n.last {
		if a.IsValid() {
			want[fmt.Sprint("last_reserved_ip.", i)] = a.String()
		}
	}
	got := map[string]string{}
	entries, err := os.ReadDir(filepath.Join(n.dir, "net"))
	if err != nil {
		n.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(n.dir, "net", e.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			n.Fatal(err)
		}
		got[e.Name()] = string(text)
		// The lock's mode is that of whoever came first.
		if st, err := os.Stat(path); e.Name() != "lock" && (err != nil || st.Mode() != 0o600) {
			n.Errorf("%s: mode %v, %v", e.Name(), st.Mode(), err)
		}
	}
	if !maps.Equal(got, want) {
		n.Fatalf("after %s the folder holds\n%q, want\n%q", step, got, want)
	}
}

// newNode is an empty folder, with range sets of the given JSON.
func newNode(t *testing.T, reference, own plugin, ipam string, seed uint64) *node {
	t.Helper()
	n := &node{
		T: t, Rand: rand.New(rand.NewPCG(seed, 0)), reference: reference, own: own,
		dir: t.TempDir(), netNS: nstest.New(t, "pod").Path, files: map[string]string{},
	}
	if err := json.Unmarshal([]byte(ipam), &n.ipam); err != nil {
		t.Fatal(err)
	}
	n.ipam["type"], n.ipam["dataDir"] = "host-local", n.dir
	c, err := load(call(n.dir, "", strings.Trim(ipam, "{}")))
	if err != nil {
		t.Fatal(err)
	}
	n.sets, n.last = c.sets, make([]netip.Addr, len(c.sets))
	return n
}

const (
	singleStack = `{"ranges":[[{"subnet":"10.1.0.0/29","gateway":"10.1.0.3"},{"subnet":"10.2.0.0/24","rangeStart":"10.2.0.250"}]]}`
	dualStack   = `{"subnet":"10.1.0.0/28","ranges":[[{"subnet":"fd00::/124","rangeEnd":"fd00::a"}]]}`
)

// TestWithReference has the reference's host-local and ours share a folder. The executables are built once.
func TestWithReference(t *testing.T) {
	t.Parallel()
	reference, own := buildPlugins(t)
	for name, test := range map[string]func(*testing.T, plugin, plugin){
		"in turns": takeTurns, "at the same time": atTheSameTime, "killed": killed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, reference, own)
		})
	}
}

// takeTurns has the two plugins called at random, one after the other, for pods of either. What a pod has, whoever gave it, the other
// knows, keeps, checks and takes back; the files are always those that the reference alone would have left.
func takeTurns(t *testing.T, reference, own plugin) {
	for name, ipam := range map[string]string{"IPv4": singleStack, "dual": dualStack} {
		seed := uint64(time.Now().UnixNano())
		t.Run(fmt.Sprint(name, " seed=", seed), func(t *testing.T) {
			t.Parallel()
			n := newNode(t, reference, own, ipam, seed)
			n.add()
			for range 150 {
				step := n.IntN(100)
				switch {
				case step < 50:
					n.add()
				case step < 80:
					n.del()
				case step < 92:
					n.check()
				case step < 95:
					n.collect()
				default:
					n.ancient()
				}
				n.compare(fmt.Sprint("step ", step))
			}
		})
	}
}

// atTheSameTime has goroutines call both plugins for pods of their own, in a pool with just room for all. An address that two are given
// at once, and an ADD that finds none, show. Each pod is deleted by the plugin that did not add it.
func atTheSameTime(t *testing.T, reference, own plugin) {
	const workers, rounds = 5, 14
	// Besides the gateways, an address for each worker.
	n := newNode(t, reference, own, `{"ranges":[[{"subnet":"10.1.0.0/29"}],[{"subnet":"fd00::/124","rangeEnd":"fd00::6"}]]}`, 0)
	var mu sync.Mutex
	holder := map[netip.Prefix]pod{}
	claim := func(a answer, p pod, taken bool) {
		mu.Lock()
		defer mu.Unlock()
		for _, ip := range a.IPs {
			if other, ok := holder[ip.Address]; ok && taken {
				t.Errorf("%s was given to %v, who has it, and to %v", ip.Address, other, p)
			}
			delete(holder, ip.Address)
			if taken {
				holder[ip.Address] = p
			}
		}
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for round := range rounds {
				first, second := reference, own
				if (w+round)%2 == 0 {
					first, second = own, reference
				}
				p := pod{fmt.Sprint("w", w, "-", round), "eth0"}
				a := first.call(t, "1.0.0", order{verb: "ADD", pod: p, netNS: n.netNS, ipam: n.ipam})
				if a.Code != 0 || len(a.IPs) != 2 {
					t.Errorf("%s: ADD %v: %+v", first, p, a)
					return
				}
				claim(a, p, true)
				for _, ip := range a.IPs {
					if text, err := os.ReadFile(filepath.Join(n.dir, "net", ip.Address.Addr().String())); err != nil || string(text) != p.text() {
						t.Errorf("%s: %s holds %q, %v", first, ip.Address, text, err)
					}
				}
				claim(a, p, false)
				if a := second.call(t, "1.0.0", order{verb: "DEL", pod: p, ipam: n.ipam}); a.Code != 0 {
					t.Errorf("%s: DEL %v: %+v", second, p, a)
				}
			}
		}()
	}
	wg.Wait()
	entries, err := os.ReadDir(filepath.Join(n.dir, "net"))
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"last_reserved_ip.0", "last_reserved_ip.1", "lock"}; !slices.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
}

// killed kills an ADD of either plugin at any moment. The DEL by the other succeeds, and what the killed one left is none of the pod's:
// at most an empty file, by the reference, which ours gives out again.
func killed(t *testing.T, reference, own plugin) {
	const rounds = 40
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	n := newNode(t, reference, own, dualStack, seed)
	start := time.Now()
	n.own.call(t, "1.0.0", order{verb: "ADD", pod: pod{"first", "eth0"}, netNS: n.netNS, ipam: n.ipam})
	n.reference.call(t, "1.0.0", order{verb: "DEL", pod: pod{"first", "eth0"}, ipam: n.ipam})
	usual := time.Since(start) // of two calls
	died, empty := 0, map[string]bool{}
	for round := range rounds {
		first, second := n.own, n.reference
		if round%2 == 0 {
			first, second = second, first
		}
		p := pod{fmt.Sprint("p", round), "eth0"}
		cmd := first.command(t, "1.0.0", order{verb: "ADD", pod: p, netNS: n.netNS, ipam: n.ipam})
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(n.Int64N(int64(usual / 2))))
		_ = cmd.Process.Kill()
		if cmd.Wait() != nil {
			died++
		}
		if a := second.call(t, "1.0.0", order{verb: "DEL", pod: p, ipam: n.ipam}); a.Code != 0 {
			t.Errorf("%s: DEL: %+v", second, a)
		}
		entries, err := os.ReadDir(filepath.Join(n.dir, "net"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(n.dir, "net", e.Name()))
			if _, notAddr := netip.ParseAddr(e.Name()); notAddr != nil {
				continue
			}
			if err != nil || len(text) > 0 || first == n.own && !empty[e.Name()] {
				t.Fatalf("%s, killed: %s holds %q, %v", first, e.Name(), text, err)
			}
			empty[e.Name()] = true
		}
	}
	t.Logf("%d of %d died before they had answered and left %d empty files", died, rounds, len(empty))
	if a := n.own.call(t, "1.1.0", order{verb: "GC", ipam: n.ipam, conf: map[string]any{"cni.dev/valid-attachments": nil}}); a.Code != 0 {
		t.Errorf("GC: %+v", a)
	}
	for range 8 { // all but the gateways
		n.own.call(t, "1.0.0", order{verb: "ADD", pod: pod{fmt.Sprint("all", n.IntN(1<<30)), "eth0"}, netNS: n.netNS, ipam: n.ipam})
	}
}
