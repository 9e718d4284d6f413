package bandwidth_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/static"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/bandwidth"
	"github.com/cnibox/cnibox/roles/ptp"
	"github.com/cnibox/cnibox/roles/roletest"
)

// node is a host whose pods are connected by ptp and then limited.
type node struct {
	*roletest.Node
	t *testing.T
}

func newNode(t *testing.T) node {
	t.Helper()
	nstest.Need(t, "tbf", "ifb")
	return node{roletest.NewNode(t, roles.Table{"bandwidth": bandwidth.New(), "ptp": ptp.New(), "host-local": hostlocal.New(), "static": static.New()}), t}
}

func ptpConf(addr4, addr6 string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net", "type": "ptp", "ipam": {"type": "static", "addresses": [
		{"address": "%s/24"}, {"address": "%s/64"}], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`, addr4, addr6)
}

func conf(keys string) string {
	return strings.Replace(`{"cniVersion": "1.1.0", "name": "net", "type": "bandwidth", KEYS}`, ", KEYS", strings.TrimSuffix(", "+keys, ", "), 1)
}

// add connects a pod and limits it. The result is the pair's, with which bandwidth is called.
func (n node) add(pod, keys string) (p *roletest.Pod, chained string) {
	n.t.Helper()
	p = n.Add("ptp", pod, ptpConf("10.1.1.5", "fd01::5"))
	chained = p.WithPrev(conf(keys))
	n.Must(roletest.Call{Verb: "ADD", Role: "bandwidth", Pod: p, Conf: chained})
	return p, chained
}

func (n node) check(p *roletest.Pod, c string) error {
	_, err := n.Do(roletest.Call{Verb: "CHECK", Role: "bandwidth", Pod: p, Conf: c})
	return err
}

var eth0 = owner.Owner{Network: "net", ContainerID: "a", IfName: "eth0"}

// disciplines are those that the host has, but for what it has without limits.
func (n node) disciplines() (out []string) {
	for line := range strings.Lines(n.Host.Run("tc", "qdisc")) {
		if !strings.Contains(line, "noqueue") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

func (n node) unlimited() {
	n.t.Helper()
	if left := n.disciplines(); left != nil {
		n.t.Errorf("left: %q", left)
	}
	if out := n.Host.Run("ip", "-br", "link", "show", "type", "ifb"); out != "" {
		n.t.Errorf("left: %s", out)
	}
}

func TestDelLeavesThePairUnlimited(t *testing.T) {
	for _, how := range []string{"", "without a sandbox", "without prevResult"} {
		n := newNode(t)
		p, c := n.add("a", `"ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 8000000, "egressBurst": 800000`)
		if got := n.disciplines(); len(got) != 3 {
			t.Errorf("disciplines %q", got)
		}
		if err := n.check(p, c); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		call := roletest.Call{Verb: "DEL", Role: "bandwidth", Pod: p, Conf: c, NoSandbox: how == "without a sandbox"}
		if how == "without prevResult" {
			call.Conf = conf("")
		}
		n.Must(call)
		n.unlimited()
		n.Must(call)
		p.Run("ping", "-c1", "-W5", "10.1.1.1")
		n.Del("ptp", "a", ptpConf("10.1.1.5", "fd01::5"))
		n.Must(call)
		n.Clean()
	}
}

func TestCheckNoticesEachDifference(t *testing.T) {
	pair, ifb := eth0.LinkName(), eth0.IFBName()
	const both = `"ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 4000000, "egressBurst": 800000`
	for _, tt := range []struct{ keys, change, want string }{
		{both, "tc qdisc del dev " + pair + " root", "no limit"},
		{both, "tc qdisc change dev " + pair + " handle cb00: root tbf rate 9mbit burst 100000 limit 200000", "1125000"},
		{both, "tc qdisc change dev " + ifb + " handle cb00: root tbf rate 4mbit burst 50000 limit 200000", "burst"},
		{both, "tc filter del dev " + pair + " ingress", pair},
		{both, "tc qdisc del dev " + pair + " ingress", pair},
		{both, "ip link del " + ifb, ifb},
		{both, "ip link set " + ifb + " down", "down"},
		{both + `, "unshapedSubnets": ["10.9.0.0/16"]`, "tc filter del dev " + pair, "10.9.0.0/16"},
		{both + `, "shapedSubnets": ["fd09::/48"]`, "tc filter del dev " + ifb, "fd09::/48"},
		{both + `, "shapedSubnets": ["fd09::/48"]`, "tc class change dev " + ifb + " parent cb00: classid cb00:1 htb rate 5mbit burst 100000", "625000"},
	} {
		n := newNode(t)
		p, c := n.add("a", tt.keys)
		if err := n.check(p, c); err != nil {
			t.Errorf("%s: CHECK: %v", tt.keys, err)
		}
		n.Host.Run("sh", "-c", tt.change)
		errtest.Want(t, n.check(p, c), errcode.Differs, tt.want)
	}
}

// Without limits the reference follows a prevResult that is not there.
func TestNoLimitsAndNoPrevResultPanics(t *testing.T) {
	n := newNode(t)
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "bandwidth", Pod: n.Pod("a"), Conf: conf("")})
	errtest.Want(t, err, errcode.InvalidConfig, "prevResult: missing")
	p, c := n.add("b", "")
	out := string(n.Must(roletest.Call{Verb: "ADD", Role: "bandwidth", Pod: p, Conf: c}))
	if !strings.Contains(out, "10.1.1.5/24") {
		t.Errorf("prevResult is not handed on: %s", out)
	}
	if err := n.check(p, c); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	n.unlimited()
}

// The reference names the device after network and container.
func TestTwoInterfacesOfOneContainerCollide(t *testing.T) {
	n := newNode(t)
	const keys = `"egressRate": 8000000, "egressBurst": 800000`
	p, c := n.add("a", keys)
	n.Must(roletest.Call{Verb: "ADD", Role: "ptp", Pod: p, IfName: "eth1", Conf: strings.ReplaceAll(ptpConf("10.1.2.5", "fd02::5"), `"::/0"`, `"fd09::/64"`)})
	second := strings.ReplaceAll(c, `"eth0"`, `"eth1"`)
	n.Must(roletest.Call{Verb: "ADD", Role: "bandwidth", Pod: p, IfName: "eth1", Conf: second})
	n.Must(roletest.Call{Verb: "DEL", Role: "bandwidth", Pod: p, IfName: "eth1", Conf: second})
	if err := n.check(p, c); err != nil {
		t.Errorf("CHECK of the first: %v", err)
	}
}

func TestTheResultHasTheDevice(t *testing.T) {
	n := newNode(t)
	p := n.Add("ptp", "a", ptpConf("10.1.1.5", "fd01::5"))
	out := string(n.Must(roletest.Call{Verb: "ADD", Role: "bandwidth", Pod: p, Conf: p.WithPrev(conf(`"egressRate": 8000000, "egressBurst": 800000`))}))
	if strings.Count(out, `"`+eth0.IFBName()+`"`) != 1 || !strings.Contains(out, `"interface": 1`) {
		t.Errorf("result %s", out)
	}
}

func TestGCRemovesStaleDevices(t *testing.T) {
	n := newNode(t)
	const keys = `"egressRate": 8000000, "egressBurst": 800000`
	p, c := n.add("a", keys)
	n.Add("ptp", "b", ptpConf("10.1.2.5", "fd02::5"))
	n.Must(roletest.Call{Verb: "ADD", Role: "bandwidth", Pod: n.Pod("b"), Conf: n.Pod("b").WithPrev(conf(keys))})
	n.Must(roletest.Call{Verb: "GC", Role: "bandwidth", Conf: conf(`"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]`)})
	if out := n.Host.Run("ip", "-br", "link", "show", "type", "ifb"); strings.Count(out, "\n") != 1 {
		t.Errorf("devices: %s", out)
	}
	if err := n.check(p, c); err != nil {
		t.Errorf("CHECK of the one that stays: %v", err)
	}
}

// A second ADD changes nothing, and neither does one on a pair that somebody else limits.
func TestAnotherLimitIsLeftAlone(t *testing.T) {
	n := newNode(t)
	const keys = `"ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 8000000, "egressBurst": 800000`
	p, c := n.add("a", keys)
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "bandwidth", Pod: p, Conf: c})
	errtest.Want(t, err, errcode.AlreadyExists, "")
	if err := n.check(p, c); err != nil {
		t.Errorf("CHECK after a second ADD: %v", err)
	}
	n.Must(roletest.Call{Verb: "DEL", Role: "bandwidth", Pod: p, Conf: c})
	for _, foreign := range []string{"root tbf rate 1mbit burst 10k latency 10ms", "ingress"} {
		n.Host.Run("sh", "-c", "tc qdisc add dev "+eth0.LinkName()+" "+foreign)
		before := n.disciplines()
		_, err := n.Do(roletest.Call{Verb: "ADD", Role: "bandwidth", Pod: p, Conf: c})
		errtest.Want(t, err, errcode.AlreadyExists, eth0.LinkName())
		if after := n.disciplines(); strings.Join(after, "\n") != strings.Join(before, "\n") {
			t.Errorf("the failed ADD left %q, before it was %q", after, before)
		}
		n.Host.Run("sh", "-c", "tc qdisc del dev "+eth0.LinkName()+" "+strings.Fields(foreign)[0])
	}
}

// The device of the reference plugin is in prevResult.
func TestDelOfAnAttachmentThatTheReferenceLimited(t *testing.T) {
	n := newNode(t)
	p := n.Add("ptp", "a", ptpConf("10.1.1.5", "fd01::5"))
	for _, command := range []string{
		"ip link add bwp0123456789ab type ifb", "tc qdisc add dev " + eth0.LinkName() + " root handle 1: tbf rate 1mbit burst 10k latency 25ms",
		"tc qdisc add dev " + eth0.LinkName() + " ingress",
	} {
		n.Host.Run("sh", "-c", command)
	}
	c := strings.Replace(p.WithPrev(conf("")), `"interfaces": [`, `"interfaces": [{"name": "bwp0123456789ab"}, `, 1)
	n.Must(roletest.Call{Verb: "DEL", Role: "bandwidth", Pod: p, Conf: c})
	n.unlimited()
}

func TestAnInterfaceThatIsNoPair(t *testing.T) {
	n := newNode(t)
	p := n.Add("ptp", "a", ptpConf("10.1.1.5", "fd01::5"))
	c := p.WithPrev(conf(`"ingressRate": 8000000, "ingressBurst": 800000`))
	p.Run("ip", "link", "del", "eth0")
	p.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "inside")
	_, err := n.Do(roletest.Call{Verb: "ADD", Role: "bandwidth", Pod: p, Conf: c})
	errtest.Want(t, err, errcode.InvalidConfig, "eth0")
}

func TestFairQueue(t *testing.T) {
	nstest.Need(t, "fq_codel")
	for _, more := range []string{"", `, "unshapedSubnets": ["10.9.0.0/16"]`} {
		n := newNode(t)
		p, c := n.add("a", `"qdisc": "fq_codel", "ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 8000000, "egressBurst": 800000`+more)
		if out := strings.Join(n.disciplines(), "\n"); strings.Count(out, "fq_codel") != 2 {
			t.Errorf("disciplines %s", out)
		}
		p.Run("ping", "-c1", "-W5", "10.1.1.1")
		if err := n.check(p, c); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		n.Must(roletest.Call{Verb: "DEL", Role: "bandwidth", Pod: p, Conf: c})
		n.unlimited()
	}
}

func TestBadInputChangesNothing(t *testing.T) {
	n := newNode(t)
	p := n.Add("ptp", "a", ptpConf("10.1.1.5", "fd01::5"))
	for keys, want := range map[string]string{
		`"ingressRate": 8000`:                                                                      "ingressBurst: missing",
		`"ingressBurst": 8000`:                                                                     "ingressRate: missing",
		`"egressRate": 8000`:                                                                       "egressBurst: missing",
		`"egressBurst": 8000`:                                                                      "egressRate: missing",
		`"ingressRate": -1, "ingressBurst": 8000`:                                                  "ingressRate: ",
		`"ingressRate": 7, "ingressBurst": 80000`:                                                  "ingressRate: ",
		`"egressRate": "1M", "egressBurst": 80000`:                                                 "egressRate: ",
		`"ingressRate": 8000, "ingressBurst": 34359738368`:                                         "ingressBurst: ",
		`"ingressRate": 8000, "ingressBurst": 8000`:                                                "ingressBurst: ", // 1000 bytes, less than a frame
		`"egressRate": 8000, "egressBurst": 8000`:                                                  "egressBurst: ",
		`"shapedSubnets": ["10.0.0.0"]`:                                                            "shapedSubnets[0]: ",
		`"unshapedSubnets": ["x"]`:                                                                 "unshapedSubnets[0]: ",
		`"shapedSubnets": ["::/0"], "unshapedSubnets": ["::/0"]`:                                   "shapedSubnets: ",
		`"qdisc": "red"`:                                                                           "qdisc: ",
		`"runtimeConfig": {"bandwidth": {"ingressRate": 8000}}`:                                    "runtimeConfig.bandwidth.ingressBurst: ",
		`"runtimeConfig": {"bandwidth": {"shapedSubnets": ["1.1"]}}`:                               "runtimeConfig.bandwidth.shapedSubnets[0]: ",
		`"runtimeConfig": {"bandwidth": {"ingressBurst": 8000}}`:                                   "runtimeConfig.bandwidth.ingressRate: missing",
		`"runtimeConfig": {"bandwidth": {"egressRate": 8000}}`:                                     "runtimeConfig.bandwidth.egressBurst: missing",
		`"runtimeConfig": {"bandwidth": {"egressBurst": 8000}}`:                                    "runtimeConfig.bandwidth.egressRate: missing",
		`"runtimeConfig": {"bandwidth": {"egressRate": 8000, "egressBurst": 8000}}`:                "runtimeConfig.bandwidth.egressBurst: ", // less than a frame
		`"runtimeConfig": {"bandwidth": {"unshapedSubnets": ["10.0.0.0/33"]}}`:                     "runtimeConfig.bandwidth.unshapedSubnets[0]: ",
		`"runtimeConfig": {"bandwidth": {"shapedSubnets": ["::/0"], "unshapedSubnets": ["::/0"]}}`: "runtimeConfig.bandwidth.shapedSubnets: ",
	} {
		_, err := n.Do(roletest.Call{Verb: "ADD", Role: "bandwidth", Pod: p, Conf: p.WithPrev(conf(keys))})
		errtest.WantKey(t, err, errcode.InvalidConfig, want)
		n.unlimited()
	}
}

func TestReadmeExamples(t *testing.T) {
	n := newNode(t)
	p := n.Add("ptp", "a", ptpConf("10.1.1.5", "fd01::5"))
	for _, example := range roletest.ReadmeExamples(t, 2) {
		c := p.WithPrev(strings.TrimSpace(example))
		n.Must(roletest.Call{Verb: "ADD", Role: "bandwidth", Pod: p, Conf: c})
		if err := n.check(p, c); err != nil {
			t.Errorf("CHECK of %s: %v", example, err)
		}
		n.Must(roletest.Call{Verb: "DEL", Role: "bandwidth", Pod: p, Conf: c})
		n.unlimited()
	}
}

func TestFamilies(t *testing.T) {
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		n, dir := newNode(t), t.TempDir()
		n.Server(n.Host, 80)
		limits := fmt.Sprintf(`"ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 8000000, "egressBurst": 800000, "shapedSubnets": ["%s"]`,
			strings.Join(f.Of("10.1.0.0/16", "fd01::/48"), `", "`))
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir,
			Plugins: []roletest.Plugin{
				{Role: "ptp", Keys: f.IPAM(dir, `{"subnet": "10.1.1.0/24"}`, `{"subnet": "fd01::/64"}`)}, {Role: "bandwidth", Keys: limits},
			},
			Reach: func(p *roletest.Pod) {
				n.WantReach(p, "10.1.1.1", "fd01::1")
				if got := strings.Join(n.disciplines(), "\n"); strings.Count(got, "htb") != 2 || strings.Count(got, "ingress") != 1 {
					t.Errorf("disciplines %s", got)
				}
			},
			Damage: func(_ *roletest.Pod, addr netip.Addr) string {
				ifb := owner.Owner{Network: "families", ContainerID: "families", IfName: "eth0"}.IFBName()
				protocol, pref, subnet := "ip", "2", "10.1.0.0/16"
				if addr.Is6() {
					protocol, pref, subnet = "ipv6", "3", "fd01::/48"
				}
				n.Host.Run("tc", "filter", "del", "dev", ifb, "protocol", protocol, "pref", pref)
				return subnet
			},
		})
	})
}
