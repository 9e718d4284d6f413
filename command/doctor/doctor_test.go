package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/ipam/dhcp"
	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/bridge"
	"github.com/cnibox/cnibox/roles/firewall"
	"github.com/cnibox/cnibox/roles/fused"
	"github.com/cnibox/cnibox/roles/portmap"
	"github.com/cnibox/cnibox/roles/ptp"
	"github.com/cnibox/cnibox/roles/roletest"
	"github.com/cnibox/cnibox/roles/vlan"
	"github.com/cnibox/cnibox/roles/vxlan"
)

func table() roles.Table {
	return roles.Table{
		"bridge": bridge.New(), "dhcp": dhcp.New(), "firewall": firewall.New(), fused.Name: fused.New(), "host-local": hostlocal.New(), "portmap": portmap.New(),
		"ptp": ptp.New(), "vlan": vlan.New(), "vxlan": vxlan.New(),
	}
}

func kinds() map[string]string {
	return map[string]string{
		"bridge": "main", "ptp": "main", "vlan": "main", "vxlan": "main", fused.Name: "meta", "firewall": "meta", "portmap": "meta", "dhcp": "ipam", "host-local": "ipam",
	}
}

// patient is a host with a network of three plugins, its configuration, and a farm in which each plugin is this test's executable.
type patient struct {
	*roletest.Node
	t          *testing.T
	conf, farm string
}

const list0 = `{"cniVersion":"1.1.0","name":"blue","plugins":[
	{"type":"bridge","bridge":"blue0","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.221.0.0/24"}],[{"subnet":"fd15:221::/64"}]]}},
	{"type":"portmap","capabilities":{"portMappings":true}},{"type":"firewall"}]}`

// attach is the same as one plugin, with a port of the host.
const attach = `"type":"cnibox","runtimeConfig":{"portMappings":[{"hostPort":%d,"containerPort":80}]},"plugins"`

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{roletest.NewNode(t, table()), t, t.TempDir(), t.TempDir()}
	p.Host.VarLib = t.TempDir()
	run, err := os.MkdirTemp("/dev/shm", "doctor") // a tmpfs, as /run is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	p.Host.RunDir = run
	p.write("10-blue.conflist", list0)
	for name := range table() {
		if err := os.Symlink("/proc/self/exe", filepath.Join(p.farm, name)); err != nil {
			t.Fatal(err)
		}
	}
	p.Outside()
	p.bridgeNF(0)
	return p
}

// bridgeNF says whether the packet filter is to see what bridges forward (module br_netfilter, if there is one).
func (p *patient) bridgeNF(on int) {
	_, _ = p.Host.Try("sysctl", "-qw", fmt.Sprint("net.bridge.bridge-nf-call-iptables=", on), fmt.Sprint("net.bridge.bridge-nf-call-ip6tables=", on))
}

func (p *patient) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.conf, name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) pod(name string, port int) *roletest.Pod {
	p.t.Helper()
	return p.Add(fused.Name, name, strings.Replace(list0, `"plugins"`, fmt.Sprintf(attach, port), 1))
}

// doctor runs the command, and gives what it found: "check severity what: why", a line each.
func (p *patient) doctor(args ...string) (found string, err error) {
	p.t.Helper()
	var out bytes.Buffer
	err = p.Host.Do(func() error {
		app := &cli.App{Writer: &out, ErrWriter: &out, ExitErrHandler: func(*cli.Context, error) {}, Commands: []*cli.Command{Command(table, kinds)}}
		return ui.Run(context.Background(), app, append([]string{"doctor", "--conf-dir", p.conf, "--plugin-dir", p.farm, "--older-than", "0s", "--output", "json"}, args...))
	})
	var r struct{ Findings []Finding }
	if jsonErr := json.Unmarshal(out.Bytes(), &r); jsonErr != nil {
		p.t.Fatalf("%v (%v)\n%s", jsonErr, err, &out)
	}
	problems := false
	for _, f := range r.Findings {
		if f.Check == "kernel" && f.Severity == Note || f.Check == "limits" { // this machine's
			continue
		}
		if f.What == "" || f.Why == "" || f.Repair == "" {
			p.t.Errorf("something is not told: %+v", f)
		}
		problems = problems || f.Severity == Problem && !f.Fixed
		found += fmt.Sprintf("%s %s %s: %s", f.Check, f.Severity, f.What, f.Why)
		if f.Fixed {
			found += " [fixed]"
		}
		if f.Failed != "" {
			found += " [failed: " + f.Failed + "]"
		}
		found += "\n"
	}
	if problems != errors.Is(err, ui.ErrFindings) {
		p.t.Errorf("exit with %v, but found\n%s", err, found)
	}
	return found, err
}

// state is all of the host that the command could change.
func (p *patient) state() string {
	p.t.Helper()
	var b strings.Builder
	for _, c := range []string{"ip link", "ip addr show scope global", "ip route", "ip rule", "nft -s list ruleset", "sysctl -a 2>/dev/null | grep -E 'forward|rp_filter|accept_ra'"} {
		b.WriteString(p.Host.Run("sh", "-c", c))
	}
	return b.String() + nstest.Files(p.Host.VarLib, p.Host.RunDir, p.conf)
}

// A node with pods that are well, and one with none, has no findings.
func TestHealthy(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	if found, _ := p.doctor(); found != "" {
		t.Errorf("without pods: %s", found)
	}
	p.pod("a", 8080)
	p.pod("b", 8081)
	before := p.state()
	if found, _ := p.doctor(); found != "" {
		t.Errorf("with pods: %s", found)
	}
	if found, _ := p.doctor("--fix"); found != "" {
		t.Errorf("with --fix: %s", found)
	}
	if after := p.state(); after != before {
		t.Errorf("a healthy node was changed:\n%s\n%s", before, after)
	}
}

// A bridge without a gateway is a switch. That the host does not forward, and has an address of the same subnet elsewhere, is meant so: neither is told,
// and --fix makes no router of the host.
func TestSwitch(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	conf := `{"cniVersion":"1.1.0","name":"blue","plugins":[{"type":"bridge","bridge":"blue0","ipam":{"type":"host-local","subnet":"10.221.0.0/24"}}]}`
	p.write("10-blue.conflist", conf)
	p.Add(fused.Name, "a", strings.Replace(conf, `"plugins"`, `"type":"cnibox","plugins"`, 1))
	for _, known := range []bool{true, false} {
		if !known { // by its configuration
			p.write("10-blue.conflist", strings.ReplaceAll(strings.Replace(list0, "blue", "other", 2), "221", "222"))
		}
		p.Host.Run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
		p.Host.Run("ip", "addr", "replace", "10.221.0.200/24", "dev", "uplink")
		p.Host.Run("nft", "add table inet other; add chain inet other f { type filter hook forward priority 5; policy drop; }")
		if found, _ := p.doctor("--fix", "--only", "forwarding", "--only", "subnets", "--only", "filter"); found != "" {
			t.Error(found)
		}
		if on := p.Host.Run("sysctl", "-n", "net.ipv4.ip_forward"); strings.TrimSpace(on) != "0" {
			t.Error("the host forwards now")
		}
	}
}

// Each fault is found and named; without --fix nothing is changed; with --fix the safe ones are repaired, and a second look finds nothing more.
func TestFaults(t *testing.T) {
	t.Parallel()
	all := networkFaults()
	maps.Copy(all, filterFaults())
	maps.Copy(all, stateFaults())
	for name, tt := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil && name == "bridges are filtered" {
				t.Skip("this kernel has no br_netfilter")
			}
			p := newPatient(t)
			p.t = t
			p.pod("a", 8080)
			tt.plant(p)
			before := p.state()
			found, _ := p.doctor()
			wantLines(t, found, tt.want)
			if after := p.state(); after != before {
				t.Errorf("changed without --fix:\n%s\n%s", before, after)
			}
			found, _ = p.doctor("--fix")
			if strings.Contains(found, "[fixed]") != tt.fixed || strings.Contains(found, "[failed") {
				t.Errorf("with --fix: %s", found)
			}
			found, _ = p.doctor()
			if tt.fixed {
				wantLines(t, found, nil)
			} else {
				wantLines(t, found, tt.want)
			}
		})
	}
}

// wantLines wants each line to have one of the texts, and each text a line.
func wantLines(t *testing.T, found string, want []string) {
	t.Helper()
	matches := func(line, want string) bool {
		for _, part := range strings.Split(want, "...") {
			if !strings.Contains(line, part) {
				return false
			}
		}
		return true
	}
	has := make([]bool, len(want))
	for line := range strings.Lines(found) {
		known := false
		for i, w := range want {
			if matches(line, w) {
				has[i], known = true, true
			}
		}
		if !known {
			t.Errorf("not expected: %s", line)
		}
	}
	for i, w := range want {
		if !has[i] {
			t.Errorf("not found: %s", w)
		}
	}
}

func (p *patient) file(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.Host.VarLib, "cni/networks/blue", name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) reserve(id, addr string) { p.file(addr, id+"\r\neth0") }

// Every check has its rows on the page.
func TestPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks() {
		if !strings.Contains(string(page), "\n| `"+c.name+"` |") {
			t.Errorf("docs/doctor.md does not tell of the check %s", c.name)
		}
	}
}
