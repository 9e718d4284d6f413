package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/command/explain"
	"github.com/cnibox/cnibox/command/ui"
)

// Containers go by the beginning of their IDs and by their pods' names, and what is not clear is refused.
func TestExplainNames(t *testing.T) {
	t.Parallel()
	e := newExplained(t)
	keys := `"bridge": "cni0", "isGateway": true`
	e.attach("bridge", "aa11", keys, 11)
	e.attach("bridge", "aa22", keys, 11)
	cache := filepath.Join(e.Host.VarLib, "cni", "results")
	err := os.MkdirAll(cache, 0o700)
	cached, encodeErr := json.Marshal(map[string]any{
		"kind": "cniCacheV1", "containerId": "aa22", "networkName": "net11", "ifName": "eth0", "netns": e.pods["aa22"].Path,
		"cniArgs": [][]string{{"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", "web"}}, "result": json.RawMessage(e.pods["aa22"].Result()),
	})
	if err := errors.Join(err, encodeErr, os.WriteFile(filepath.Join(cache, "net11-aa22-eth0"), cached, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		exit int
		says string
	}{
		{"aa1 aa2:80", ui.ExitOK, "arrives at pod shop/web (10.11.0.3): tcp 80 listens"},
		{"aa11 shop/web:80", ui.ExitOK, "container aa11: sends tcp 10.11.0.2 -> 10.11.0.3:80"},
		{"shop/web [fd11::2]:80", ui.ExitOK, "pod shop/web: sends tcp fd11::3 -> [fd11::2]:80"},
		{"shop/web fd11::2", ui.ExitOK, "sends icmpv6 fd11::3 -> fd11::2"},
		{"aa11 host:80", ui.ExitOK, "sends tcp 10.11.0.2 -> 10.11.0.1:80"},
		{"aa11 aa22:81", ui.ExitOK, "nothing listens on tcp 81"},
		{"--proto udp aa11 aa22:80", ui.ExitOK, "udp 80 listens"},
		{"--answer aa11 aa22:80", ui.ExitOK, "The answer:"},
		{"aa11 198.51.100.1", ui.ExitFailure, "DROPPED at step 3, in host: there is no route to 198.51.100.1"},
		{"outside:198.51.100.1@uplink 192.0.2.1", ui.ExitFailure, "there is no route back to 198.51.100.1 (rp_filter = 2 on uplink)"},
		{"aa aa22:80", ui.ExitUsage, `"aa" is not unique: aa11, aa22`},
		{"nobody host", ui.ExitUsage, `"nobody": no container ID, pod (namespace/name) or address`},
		{"aa11 nobody:80", ui.ExitUsage, `"nobody": no container ID`},
		{"outside:x host", ui.ExitUsage, "want outside:ADDRESS"},
		{"outside:192.0.2.100@nolink host", ui.ExitUsage, "the host has no link nolink"},
		{"outside:198.51.100.1 host", ui.ExitUsage, "the host has no route to 198.51.100.1"},
		{"10.11.0.2 fd11::3", ui.ExitUsage, "no addresses of one family"},
		{"--proto tcp aa11 host", ui.ExitUsage, "--proto tcp: to which port? Write host:PORT"},
		{"--proto icmp aa11 host:80", ui.ExitUsage, "icmp has no ports"},
	} {
		out, err := e.Host.Try(builtExecutable(t), append([]string{"explain"}, strings.Fields(tt.args)...)...)
		exit := 0
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			exit = failed.ExitCode()
		}
		if exit != tt.exit || !strings.Contains(out, tt.says) {
			t.Errorf("%s: exit status %d, want %d, and %q:\n%s", tt.args, exit, tt.exit, tt.says, out)
		}
	}
}

// A foreign rule is told with all that it takes to find it, and what may apply makes the end uncertain.
func TestExplainTellsOfRules(t *testing.T) {
	t.Parallel()
	e := newExplained(t)
	e.attach("bridge", "a", `"bridge": "cni0", "isGateway": true`, 11)
	e.run(foreign("inet", forward, "add set FOREIGN bad { type ipv4_addr; flags interval; elements = { 192.0.2.64/26 comment \"abuse\" }; }",
		"ip daddr @bad limit rate 5/second log prefix \"x\" accept", `ip daddr @bad drop comment "ticket-17"`))
	r, exit := e.explain("a", "192.0.2.100:443")
	last := r.Steps[len(r.Steps)-1]
	if exit != ui.ExitFailure || r.Verdict != explain.Dropped || len(last.Rules) != 2 {
		t.Fatalf("exit status %d, %+v", exit, r)
	}
	may, drop := last.Rules[0], last.Rules[1]
	if !may.Maybe || may.Does != "accept" || may.Rule != "ip daddr @bad limit rate 5/second accept" || !strings.HasPrefix(r.Doubt, "not certain: at step 4") {
		t.Errorf("what may apply: %+v, %q", may, r.Doubt)
	}
	drop.Handle, may.Handle = 0, 0
	if drop.Table != "inet foreign" || drop.Chain != "c" || drop.Rule != "ip daddr @bad drop" || drop.Comment != "ticket-17" || drop.Set != "bad" ||
		drop.Element != "192.0.2.64-192.0.2.127" || drop.Noted != "abuse" || drop.Does != "drop" || drop.Maybe {
		t.Errorf("what drops: %+v", drop)
	}
	screen := regexp.MustCompile(`veth\w+|handle \d+`).ReplaceAllString(e.screen("a", "192.0.2.100:443"), "*")
	want := ` 1 container a: sends tcp 10.11.0.2 -> 192.0.2.100:443: route 0.0.0.0/0 via 10.11.0.1 dev eth0
 2 container a: eth0 -> host: * (port of cni0)
 3 host: forwards tcp 10.11.0.2 -> 192.0.2.100:443: route 192.0.2.0/24 dev uplink
 4 host: forward: drops tcp 10.11.0.2 -> 192.0.2.100:443
     may apply: inet foreign, chain c, rule *: ip daddr @bad limit rate 5/second accept; in bad: 192.0.2.64-192.0.2.127 (abuse)
     inet foreign, chain c, rule *: ip daddr @bad drop (ticket-17); in bad: 192.0.2.64-192.0.2.127 (abuse)

DROPPED at step 4, in host: rule * of chain inet foreign c: ip daddr @bad drop (ticket-17); in bad: 192.0.2.64-192.0.2.127 (abuse)
not certain: at step 4 it depends on what cannot be told whether this applies: rule * of chain inet foreign c: ip daddr @bad limit rate 5/second accept; in bad: 192.0.2.64-192.0.2.127 (abuse)
`
	if screen != want {
		t.Errorf("got\n%s\nwant\n%s", screen, want)
	}
}
