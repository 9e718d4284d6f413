package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// peerNode is a node of an overlay, for which the executable is called as a runtime would.
type peerNode struct {
	b          *testing.B
	host, pod  *nstest.NS
	farm, conf string
	took       []time.Duration // by ADD
}

// newPeerNode makes a node of so many peers, where a pod is already.
func newPeerNode(b *testing.B, peers int, dual, inline bool) *peerNode {
	b.Helper()
	executable, err := buildOnce()
	if err != nil {
		b.Fatal(err)
	}
	n := &peerNode{b: b, host: nstest.New(b, "host"), pod: nstest.New(b, "pod"), farm: b.TempDir()}
	n.host.VarLib = b.TempDir()
	for _, name := range []string{"vxlan", "host-local"} {
		if err := os.Symlink(executable, filepath.Join(n.farm, name)); err != nil {
			b.Fatal(err)
		}
	}
	n.host.Run("ip", "link", "add", "eth0", "up", "type", "veth", "peer", "name", "eth1")
	n.host.Run("ip", "link", "set", "eth1", "up")
	n.host.Run("ip", "addr", "add", "172.31.255.1/12", "dev", "eth0")
	n.conf = peerConf(b, peers, dual, inline)
	first := nstest.New(b, "first")
	n.call("ADD", "first", first)
	return n
}

// peerConf is the configuration, with the list of peers in it or in a file.
func peerConf(b *testing.B, peers int, dual, inline bool) string {
	b.Helper()
	type peer struct {
		Name     string   `json:"name"`
		Underlay []string `json:"underlay"`
		Subnets  []string `json:"subnets"`
	}
	var list []peer
	for i := range peers {
		p := peer{fmt.Sprint("node", i), []string{fmt.Sprintf("172.16.%d.%d", i>>8, i&255)}, []string{fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255)}}
		if dual {
			p.Subnets = append(p.Subnets, fmt.Sprintf("fd00:%x::/64", i+1))
		}
		list = append(list, p)
	}
	text, err := json.Marshal(list)
	if err != nil {
		b.Fatal(err)
	}
	ranges := `[{"subnet": "10.255.0.0/24"}]`
	if dual {
		ranges += `, [{"subnet": "fd00:ffff::/64"}]`
	}
	key := fmt.Sprintf(`"peers": %s`, text)
	if !inline {
		file := filepath.Join(b.TempDir(), "peers.json")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			b.Fatal(err)
		}
		key = fmt.Sprintf(`"peersFile": %q`, file)
	}
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "podnet", "type": "vxlan", "vni": 42, "underlay": "172.31.255.1", "ipMasq": true, %s,
		"ipam": {"type": "host-local", "dataDir": %q, "ranges": [%s], "routes": [{"dst": "0.0.0.0/0"}]}}`, key, b.TempDir(), ranges)
}

// call runs the plugin and tells how long it took.
func (n *peerNode) call(verb, id string, pod *nstest.NS) (took time.Duration) {
	n.b.Helper()
	var out bytes.Buffer
	err := n.host.Do(func() error {
		c := exec.Command(filepath.Join(n.farm, "vxlan"))
		c.Env = []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + id, "CNI_IFNAME=eth0", "CNI_NETNS=" + pod.Path, "CNI_PATH=" + n.farm}
		c.Stdin, c.Stdout = bytes.NewReader([]byte(n.conf)), &out
		if trace := os.Getenv("CNIBOX_TRACE"); trace != "" {
			c.Env = append(c.Env, "CNIBOX_TRACE="+trace)
		}
		begin := time.Now()
		err := c.Run()
		took = time.Since(begin)
		return err
	})
	if err != nil {
		n.b.Fatalf("%s: %v: %s", verb, err, out.String())
	}
	return took
}

// BenchmarkPeers adds pods on a node of one peer and on one of 5,000, in turns, by the whole executable: run it with -benchtime 60x. What it reports are
// the medians, in ms, and how many times as long an ADD takes with 5,000.
func BenchmarkPeers(b *testing.B) {
	for _, dual := range []bool{false, true} {
		for _, inline := range []bool{false, true} {
			b.Run(map[bool]string{false: "IPv4", true: "dual"}[dual]+"/"+map[bool]string{false: "file", true: "inline"}[inline], func(b *testing.B) {
				nodes := []*peerNode{newPeerNode(b, 1, dual, inline), newPeerNode(b, 5000, dual, inline)}
				time.Sleep(6 * time.Second) // until a file counts as one that does not change any more, as that of a node that runs for long
				for _, n := range nodes {
					n.call("ADD", "second", n.pod)
					n.call("DEL", "second", n.pod)
				}
				for b.Loop() {
					for _, n := range nodes {
						n.took = append(n.took, n.call("ADD", "pod", n.pod))
						n.call("DEL", "pod", n.pod)
					}
				}
				var medians []float64
				for _, n := range nodes {
					slices.Sort(n.took)
					medians = append(medians, float64(n.took[len(n.took)/2].Microseconds())/1000)
				}
				b.ReportMetric(medians[0], "ms/1peer")
				b.ReportMetric(medians[1], "ms/5000peers")
				b.ReportMetric(medians[1]/medians[0], "times")
			})
		}
	}
}
