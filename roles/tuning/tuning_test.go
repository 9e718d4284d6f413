package tuning

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/static"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/ptp"
	"github.com/cnibox/cnibox/roles/roletest"
)

// node is a host with one pod, connected by ptp.
type node struct {
	*roletest.Node
	t         *testing.T
	pod       *roletest.Pod
	dir       string // of the records
	allowlist string
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, dir: filepath.Join(t.TempDir(), "records"), allowlist: filepath.Join(t.TempDir(), "allowlist.conf")}
	n.Node = roletest.NewNode(t, roles.Table{"tuning": role{n.allowlist}, "ptp": ptp.New(), "host-local": hostlocal.New(), "static": static.New()})
	n.pod = n.Add("ptp", "a", `{"cniVersion": "1.1.0", "name": "net", "type": "ptp", "mtu": 1450, "ipam": {"type": "static",
		"addresses": [{"address": "10.1.1.5/24"}, {"address": "fd01::5/64"}]}}`)
	return n
}

func (n *node) conf(keys string) string {
	if keys != "" {
		keys = ", " + keys
	}
	return n.pod.WithPrev(fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net", "type": "tuning", "dataDir": %q%s}`, n.dir, keys))
}

func (n *node) call(verb, keys, args string) ([]byte, error) {
	return n.Do(roletest.Call{Verb: verb, Role: "tuning", Pod: n.pod, Conf: n.conf(keys), Args: args})
}

func (n *node) must(verb, keys string) string {
	n.t.Helper()
	out, err := n.call(verb, keys, "")
	if err != nil {
		n.t.Fatalf("%s %s: %v", verb, keys, err)
	}
	return string(out)
}

// state is all that tuning can change here.
func (n *node) state() string {
	link := strings.Fields(n.pod.Run("ip", "link", "show", "eth0"))
	return strings.Join(link[1:], " ") + "\n" + n.pod.Run("sysctl", "net.ipv4.conf.eth0.arp_filter", "net.ipv6.conf.eth0.hop_limit",
		"net.ipv4.ip_local_port_range", "net.core.somaxconn")
}

const everything = `"sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1", "net.ipv6.conf.IFNAME.hop_limit": "33",
	"net/ipv4/ip_local_port_range": "2000 3000", "net.core.somaxconn": "77"},
	"mac": "02:00:00:00:00:07", "mtu": 1400, "promisc": true, "allmulti": true, "txQLen": 55`

func TestDelRestoresEverything(t *testing.T) {
	n := newNode(t)
	before := n.state()
	out := n.must("ADD", everything)
	if !strings.Contains(out, "02:00:00:00:00:07") || !strings.Contains(out, `"mtu": 1400`) {
		t.Errorf("result %s", out)
	}
	after := n.state()
	for _, want := range []string{
		"PROMISC", "ALLMULTI", "mtu 1400", "qlen 55", "02:00:00:00:00:07", "arp_filter = 1", "hop_limit = 33", "port_range = 2000\t3000", "somaxconn = 77",
	} {
		if !strings.Contains(after, want) {
			t.Errorf("%s is missing in %s", want, after)
		}
	}
	n.must("CHECK", everything)
	n.must("ADD", everything) // what was there before the first ADD is what comes back
	n.must("DEL", everything)
	if now := n.state(); now != before {
		t.Errorf("DEL left\n%s\nbefore it was\n%s", now, before)
	}
	n.must("DEL", everything)
	if left, err := os.ReadDir(n.dir); err != nil || len(left) != 0 {
		t.Errorf("records left: %v, %v", left, err)
	}
}

// The reference's record holds no sysctls, so its DEL leaves them.
func TestDelRestoresSysctls(t *testing.T) {
	n := newNode(t)
	before := n.state()
	n.must("ADD", `"sysctl": {"net.core.somaxconn": "77"}`)
	n.must("DEL", "")
	if now := n.state(); now != before {
		t.Errorf("DEL left\n%s\nbefore it was\n%s", now, before)
	}
}

// The reference writes into a map that is not there.
func TestArgsSysctlWithoutSysctlPanics(t *testing.T) {
	n := newNode(t)
	n.must("ADD", `"args": {"cni": {"sysctl": {"net.core.somaxconn": "78"}, "mtu": 1300, "promisc": true, "allmulti": true, "txQLen": 9}}`)
	for _, want := range []string{"somaxconn = 78", "mtu 1300", "PROMISC", "ALLMULTI", "qlen 9"} {
		if got := n.state(); !strings.Contains(got, want) {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
}

func TestArgsStandBeforeTheConfiguration(t *testing.T) {
	n := newNode(t)
	n.must("ADD", `"sysctl": {"net.core.somaxconn": "77"}, "mtu": 1400, "txQLen": 1, "args": {"cni": {"sysctl": {"net.core.somaxconn": "78"}, "mtu": 1300, "txQLen": 0}}`)
	for _, want := range []string{"somaxconn = 78", "mtu 1300"} {
		if got := n.state(); !strings.Contains(got, want) || strings.Contains(got, "qlen 1") {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
}

func TestWhoseMACAddressCounts(t *testing.T) {
	const own, args, runtime = `"mac": "02:00:00:00:00:01"`, `"args": {"cni": {"mac": "02:00:00:00:00:03"}}`, `"runtimeConfig": {"mac": "02:00:00:00:00:04"}`
	for _, tt := range []struct{ keys, args, want string }{
		{own, "", "02:00:00:00:00:01"},
		{own, "MAC=02:00:00:00:00:02", "02:00:00:00:00:02"},
		{own + ", " + runtime, "MAC=02:00:00:00:00:02", "02:00:00:00:00:04"},
		{own + ", " + args + ", " + runtime, "MAC=02:00:00:00:00:02", "02:00:00:00:00:03"},
	} {
		n := newNode(t)
		if _, err := n.call("ADD", tt.keys, tt.args); err != nil {
			t.Fatal(err)
		}
		if got := n.state(); !strings.Contains(got, tt.want) {
			t.Errorf("%s %s: %s, want %s", tt.keys, tt.args, got, tt.want)
		}
	}
}

func TestCheckNoticesEachDifference(t *testing.T) {
	for change, want := range map[string]string{
		"ip link set eth0 address 02:00:00:00:00:08":          "MAC",
		"ip link set eth0 mtu 1399":                           "mtu",
		"ip link set eth0 promisc off":                        "promiscuous",
		"ip link set eth0 allmulticast off":                   "all-multicast",
		"ip link set eth0 txqueuelen 56":                      "queue",
		"sysctl -qw net.ipv4.conf.eth0.arp_filter=0":          "arp_filter",
		"sysctl -qw net.ipv6.conf.eth0.hop_limit=34":          "hop_limit",
		"sysctl -qw net.ipv4.ip_local_port_range='2000 3001'": "ip_local_port_range",
		"ip link del eth0":                                    "eth0",
	} {
		n := newNode(t)
		n.must("ADD", everything)
		n.pod.Run("sh", "-c", change)
		_, err := n.call("CHECK", everything, "")
		errtest.Want(t, err, errcode.Differs, want)
	}
}

// The kernel refuses the last one; what went before is taken back, and no record stays.
func TestAFailingAddRestores(t *testing.T) {
	for _, keys := range []string{
		`"sysctl": {"net.core.somaxconn": "77", "net.ipv4.conf.IFNAME.arp_filter": "x"}`,
		`"sysctl": {"net.core.somaxconn": "77", "net.core.nosuch": "1"}`,
		`"sysctl": {"net.core.somaxconn": "77"}, "promisc": true, "mtu": 1451, "mac": "02:00:00:00:00:08", "txQLen": 4`, // a macvlan has at most its master's
	} {
		n := newNode(t)
		n.pod.Run("sh", "-c", "ip link set eth0 down; ip link set eth0 name up0; ip link add link up0 name eth0 type macvlan")
		before := n.state()
		if _, err := n.call("ADD", keys, ""); err == nil {
			t.Errorf("%s: no error", keys)
		}
		if now := n.state(); now != before {
			t.Errorf("%s left\n%s\nbefore it was\n%s", keys, now, before)
		}
		if left, _ := os.ReadDir(n.dir); len(left) != 0 {
			t.Errorf("%s: records left: %v", keys, left)
		}
	}
}

func TestDelWithoutTheContainer(t *testing.T) {
	n := newNode(t)
	n.must("ADD", everything)
	n.Must(roletest.Call{Verb: "DEL", Role: "tuning", Pod: n.pod, Conf: n.conf(everything), NoSandbox: true})
	n.must("ADD", everything)
	n.pod.Run("ip", "link", "del", "eth0")
	n.must("DEL", everything)
	if left, _ := os.ReadDir(n.dir); len(left) != 0 {
		t.Errorf("records left: %v", left)
	}
}

// What DEL finds may be the reference plugin's, a part of it after a crash, or a link that somebody planted.
func TestOtherRecords(t *testing.T) {
	n := newNode(t)
	file := filepath.Join(n.dir, "a_eth0.json")
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{"mac": "02:00:00:00:00:0a", "promisc": true, "mtu": 1300, "allmulti": true, "txQLen": 3}`: "1300",
		`{"mac": "02:0`: "1450", ``: "1450",
		`{"sysctl": [{"path": ["net", "..", "kernel", "hostname"], "value": "x"}, {"path": ["kernel", "hostname"], "value": "x"}]}`: "1450",
	} {
		n.pod.Run("ip", "link", "set", "eth0", "mtu", "1450")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n.must("DEL", "")
		if got := n.state(); !strings.Contains(got, "mtu "+want) {
			t.Errorf("%s: %s", text, got)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s is still there", text)
		}
	}
	if name, err := os.ReadFile("/proc/sys/kernel/hostname"); err != nil || strings.TrimSpace(string(name)) == "x" {
		t.Errorf("the machine is called %s, %v", name, err)
	}
}

func TestGCRemovesStaleRecords(t *testing.T) {
	n := newNode(t)
	n.must("ADD", everything)
	const gc = `"cni.dev/valid-attachments": `
	for _, tt := range []struct {
		network, valid string
		left           int
	}{{"net", `[{"containerID": "a", "ifname": "eth0"}]`, 1}, {"other", `[]`, 1}, {"net", `[]`, 0}} {
		conf := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "type": "tuning", "dataDir": %q, %s%s}`, tt.network, n.dir, gc, tt.valid)
		n.Must(roletest.Call{Verb: "GC", Role: "tuning", Conf: conf})
		if left, err := os.ReadDir(n.dir); err != nil || len(left) != tt.left {
			t.Errorf("GC of %s with %s left %v, %v", tt.network, tt.valid, left, err)
		}
	}
}

func TestTheAllowlist(t *testing.T) {
	n := newNode(t)
	list := func(text string) {
		if err := os.WriteFile(n.allowlist, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list("^net\\.core\\.somaxconn$\n\n ^net\\.ipv4\\.conf\\.IFNAME\\.arp \n")
	n.must("ADD", `"sysctl": {"net.core.somaxconn": "77", "net.ipv4.conf.IFNAME.arp_filter": "1"}`)
	_, err := n.call("ADD", `"sysctl": {"net.ipv4.ip_local_port_range": "2000 3000"}`, "")
	errtest.Want(t, err, errcode.InvalidConfig, "sysctl: net.ipv4.ip_local_port_range")
	list("(")
	_, err = n.call("ADD", "", "")
	errtest.Want(t, err, errcode.InvalidConfig, n.allowlist)
}

func TestBadInputChangesNothing(t *testing.T) {
	n := newNode(t)
	before := n.state()
	for keys, want := range map[string]string{
		`"sysctl": {"kernel.hostname": "x"}`:                               "sysctl: ",
		`"sysctl": {"net.../kernel.hostname": "x"}`:                        "sysctl: ",
		`"sysctl": {"net/../kernel/hostname": "x"}`:                        "sysctl: ",
		`"sysctl": {"net": "x"}`:                                           "sysctl: ",
		`"sysctl": {"": "x"}`:                                              "sysctl: ",
		`"sysctl": {"net.core.somaxconn": 5}`:                              "sysctl: ",
		`"sysctl": {"net.core.somaxconn": "1", "net.core.somaxconn": "2"}`: "sysctl: net.core.somaxconn is there twice",
		`"sysctl": []`:                              "sysctl: ",
		`"sysctl": "x"`:                             "sysctl: ",
		`"mac": "x"`:                                "mac: ",
		`"mtu": 67`:                                 "mtu: ",
		`"mtu": 1000`:                               "mtu: ", // the pod has IPv6 addresses
		`"txQLen": -1`:                              "txQLen: ",
		`"promisc": 1`:                              "promisc: ",
		`"allmulti": "on"`:                          "allmulti: ",
		`"runtimeConfig": {"mac": "x"}`:             "runtimeConfig.mac: ",
		`"args": {"cni": {"mac": "x"}}`:             "args.cni.mac: ",
		`"args": {"cni": {"mtu": "x"}}`:             "args.cni.mtu: ",
		`"args": {"cni": {"mtu": 67}}`:              "args.cni.mtu: ",
		`"mtu": 67, "args": {"cni": {"mtu": 1400}}`: "mtu: ",
		`"txQLen": 2147483648`:                      "txQLen: ",
		`"args": {"cni": {"txQLen": -1}}`:           "args.cni.txQLen: ",
		`"args": {"cni": {"promisc": 1}}`:           "args.cni.promisc: ",
		`"args": {"cni": {"allmulti": 1}}`:          "args.cni.allmulti: ",
		`"args": {"cni": {"sysctl": {"kernel.hostname": "x"}}}`:     "args.cni.sysctl: ",
		`"args": {"cni": {"sysctl": {"net.a": null}}}`:              "args.cni.sysctl: ",
		`"args": {"cni": {"sysctl": {"net.a": "1", "net.a": "2"}}}`: "args.cni.sysctl: net.a is there twice",
	} {
		_, err := n.call("ADD", keys, "")
		errtest.WantKey(t, err, errcode.InvalidConfig, want)
		if now := n.state(); now != before {
			t.Errorf("%s changed\n%s\nto\n%s", keys, before, now)
		}
	}
	_, err := n.call("ADD", `"mtu": 1400`, "MAC=x")
	errtest.WantKey(t, err, errcode.InvalidEnvironment, "CNI_ARGS MAC: ")
	_, err = n.Do(roletest.Call{Verb: "ADD", Role: "tuning", Pod: n.pod, Conf: `{"cniVersion": "1.1.0", "name": "net", "type": "tuning", "dataDir": "x"}`})
	errtest.WantKey(t, err, errcode.InvalidConfig, "dataDir: ")
	_, err = n.Do(roletest.Call{Verb: "ADD", Role: "tuning", Pod: n.pod, Conf: `{"cniVersion": "1.1.0", "name": "net", "type": "tuning"}`})
	errtest.WantKey(t, err, errcode.InvalidConfig, "prevResult: missing")
	if left, _ := os.ReadDir(n.dir); len(left) != 0 {
		t.Errorf("records: %v", left)
	}
}

func TestReadmeExamples(t *testing.T) {
	n := newNode(t)
	for _, example := range roletest.ReadmeExamples(t, 1) {
		keys := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(example), "{"), "}")
		_, keys, _ = strings.Cut(keys, `"type": "tuning",`)
		n.must("ADD", keys)
		n.must("CHECK", keys)
		n.must("DEL", keys)
	}
}

func FuzzConf(f *testing.F) {
	for _, s := range []string{
		"{" + everything + "}", `{"sysctl":{"net/ipv4/conf/IFNAME/x":"1"},"dataDir":"/x"}`, `{"args":{"cni":{"sysctl":{"net.a":"b"},"mac":"x"}}}`,
		`{"sysctl":{"a":"b","a":"c"}}`, `{"sysctl":null,"txQLen":1e3}`, `[]`, `{`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := &roles.Request{Conf: []byte(text)}
		r.Owner.IfName = "eth0"
		c, err := load(r)
		if err != nil {
			if code := errcode.Of(err); code != errcode.InvalidConfig && code != errcode.DecodingFailure {
				t.Fatalf("code %d: %v", code, err)
			}
			return
		}
		for _, s := range c.sysctl {
			if !sound(s.Path) {
				t.Fatalf("sysctl %q", s.Path)
			}
		}
	})
}

// A pod sends with the sysctls of its families, and keeps its addresses and routes when it gets another MAC address.
func TestFamilies(t *testing.T) {
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		n, dir := newNode(t), t.TempDir()
		n.Server(n.Host, 80)
		sysctls := strings.Join(f.Of(`"net.ipv4.ip_default_ttl": "33"`, `"net.ipv6.conf.IFNAME.hop_limit": "33"`), ", ")
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir,
			Plugins: []roletest.Plugin{
				{Role: "ptp", Keys: f.IPAM(dir, `{"subnet": "10.1.2.0/24"}`, `{"subnet": "fd02::/64"}`)},
				{Role: "tuning", Keys: fmt.Sprintf(`"dataDir": %q, "sysctl": {%s}, "mac": "02:00:00:00:00:07", "mtu": 1400`, n.dir, sysctls)},
			},
			Reach: func(p *roletest.Pod) {
				n.WantReach(p, "10.1.2.1", "fd02::1")
				for _, addr := range p.Addrs {
					if out := n.Host.Run("ping", "-c1", "-W5", addr.String()); !strings.Contains(out, "ttl=33 ") {
						t.Errorf("%s", out)
					}
				}
			},
			Damage: func(p *roletest.Pod, addr netip.Addr) string {
				key := map[bool]string{false: "net/ipv4/ip_default_ttl", true: "net/ipv6/conf/eth0/hop_limit"}[addr.Is6()]
				p.Run("sysctl", "-qw", key+"=34")
				return key
			},
		})
		if left, err := os.ReadDir(n.dir); err != nil || len(left) != 0 {
			t.Errorf("records left: %v, %v", left, err)
		}
	})
}
