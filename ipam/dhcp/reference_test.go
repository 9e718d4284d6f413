package dhcp_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/ipam/dhcp/dhcptest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles/roletest"
	refplugins "github.com/cnibox/cnibox/scripts/reference"
)

// buildReference makes the reference's dhcp, which is plugin and daemon.
func buildReference(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := refplugins.Build(dir, "ipam/dhcp"); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "dhcp")
}

// TestWithReference has our plugin call the reference's daemon, and the reference's plugin ours.
func TestWithReference(t *testing.T) {
	t.Parallel()
	reference := buildReference(t)
	t.Run("our plugin, its daemon", func(t *testing.T) {
		t.Parallel()
		l := newLAN(t, dhcptest.Policy{})
		if err := os.MkdirAll(filepath.Dir(l.socket), 0o700); err != nil {
			t.Fatal(err)
		}
		l.start(reference, "daemon", "--socketpath", l.socket)
		l.Node.Server(l.Host, 80)
		p := l.Add("bridge", "a", l.conf())
		wantAddrs(t, p, 0, "10.40.0.10/16")
		l.WantSeen(p.NS, "tcp", "10.40.0.1:80", "10.40.0.10")
		if err := l.Check("bridge", "a", l.conf()); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		for _, verb := range []string{"STATUS", "GC"} { // it knows no GC
			l.Must(roletest.Call{Verb: verb, Role: "dhcp", Conf: strings.Replace(l.conf(), "{", `{"cni.dev/valid-attachments": [], `, 1)})
		}
		l.wantHeld(map[string]string{"a/lan/eth0": "10.40.0.10"})
		l.Del("bridge", "a", l.conf())
		// It sends that from no address, which the server's kernel does not take.
		eventually(t, 5*time.Second, "the lease is released", func() bool { return strings.Contains(l.log.String(), "a/lan/eth0: releasing lease") })
	})
	t.Run("its plugin, our daemon", func(t *testing.T) {
		t.Parallel()
		l := newLAN(t, dhcptest.Policy{})
		l.inProcess()
		pod := nstest.New(t, "a")
		l.Host.Run("ip", "link", "add", "port0", "up", "master", "br0", "type", "veth", "peer", "name", "eth0", "netns", pod.Path)
		call := func(verb, conf string) string {
			cmd := exec.Command(reference)
			cmd.Env = []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=a", "CNI_IFNAME=eth0", "CNI_NETNS=" + pod.Path, "CNI_PATH=/nowhere"}
			cmd.Stdin = strings.NewReader(conf)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v: %s", verb, err, out)
			}
			return string(out)
		}
		var res struct {
			IPs    []struct{ Address, Gateway string }
			Routes []struct{ Dst, GW string }
		}
		out := call("ADD", l.conf())
		if err := json.Unmarshal([]byte(out), &res); err != nil {
			t.Fatal(err)
		}
		if len(res.IPs) != 1 || res.IPs[0].Address != "10.40.0.10/16" || res.IPs[0].Gateway != "10.40.0.1" || len(res.Routes) != 1 || res.Routes[0].GW != "10.40.0.1" {
			t.Errorf("answered %s", out)
		}
		l.wantHeld(map[string]string{"a/lan/eth0": "10.40.0.10"})
		call("CHECK", strings.Replace(l.conf(), "{", `{"prevResult": `+out+`, `, 1))
		call("DEL", l.conf())
		l.wantHeld(nil)
	})
}
