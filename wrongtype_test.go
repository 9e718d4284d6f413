package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles/roletest"
)

// typed is a configuration that a role takes, in which one key after the other gets a value of a wrong type. It names no folder, so that
// a folder's key that cannot be read stands for the same one.
type typed struct {
	conf   string
	behind bool     // a ptp
	needs  []string // features of the kernel, to be attached
	// essential are keys without which DEL and GC do not know what an attachment has. What they can still remove, they do.
	essential []string
}

const typedIPAM = `"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.44.0.0/30"}]], "routes": [{"dst": "0.0.0.0/0"}]}`

func typedConfs() map[string]typed {
	ipam := []string{"ipam", "ipam.type"}
	return map[string]typed{
		"bridge": {conf: `"bridge": "cni0", "isGateway": true, "ipMasq": true, ` + typedIPAM, essential: ipam},
		"ptp":    {conf: `"ipMasq": true, ` + typedIPAM, essential: ipam},
		"vxlan": {
			conf: `"vni": 7, "underlay": "192.0.2.1", "peers": [{"name": "b", "underlay": ["192.0.2.2"], "subnets": ["10.45.0.0/24"]}], ` + typedIPAM, essential: ipam,
		},
		"macvlan":     {conf: `"master": "up0", ` + typedIPAM, needs: []string{"macvlan"}, essential: ipam},
		"ipvlan":      {conf: `"master": "up0", ` + typedIPAM, needs: []string{"ipvlan"}, essential: ipam},
		"vlan":        {conf: `"master": "up0", "vlanId": 7, ` + typedIPAM, needs: []string{"vlan"}, essential: ipam},
		"host-device": {conf: `"device": "ens1", ` + typedIPAM, essential: ipam},
		"tap":         {conf: `"mtu": 1400, ` + typedIPAM, needs: []string{"tun"}, essential: ipam},
		"dummy":       {conf: typedIPAM, needs: []string{"dummy"}, essential: ipam},
		"loopback":    {},
		"host-local":  {conf: typedIPAM},
		"static":      {conf: `"ipam": {"type": "static", "addresses": [{"address": "10.45.0.5/24"}]}`},
		"dhcp":        {conf: `"ipam": {"type": "dhcp"}`, needs: []string{"a DHCP server"}},
		"portmap":     {conf: `"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}`, behind: true},
		"firewall":    {conf: `"ingressPolicy": "open"`, behind: true},
		"bandwidth": {
			conf: `"ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 8000000, "egressBurst": 800000`, behind: true,
			needs: []string{"tbf", "ifb"},
		},
		"tuning": {conf: `"mtu": 1400, "sysctl": {"net.core.somaxconn": "77"}`, behind: true},
		"sbr":    {conf: `"addSourceHints": true`, behind: true},
		"vrf":    {conf: `"vrfname": "blue"`, behind: true, needs: []string{"vrf"}},
		"flannel": {
			conf: `"delegate": {"type": "bridge", "hairpinMode": true}, "ipam": {"type": "host-local"}`,
		},
		"cnibox": {
			conf: `"plugins": [{"type": "bridge", "isGateway": true, ` + typedIPAM + `}, {"type": "portmap", "capabilities": {"portMappings": true}}],
				"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}`,
			essential: []string{"plugins", "plugins[]", "plugins[].type"},
		},
	}
}

// handedOn are keys that a role hands on to another, and sets itself where they are missing.
var handedOn = map[string][]confKey{
	"flannel": {
		{[]string{"delegate", "type"}, "string"},
		{[]string{"delegate", "ipMasq"}, "bool"},
		{[]string{"delegate", "mtu"}, "int"},
		{[]string{"delegate", "isGateway"}, "bool"},
		{[]string{"ipam", "routes"}, "list"},
	},
}

// wrongValues are values of all types but the one that belongs there.
func wrongValues(kind string) []string {
	const much = 500 // brackets; the limit of package json is 10,000
	deepObject := strings.Repeat(`{"a":`, much) + "1" + strings.Repeat("}", much)
	deepList := strings.Repeat("[", much) + strings.Repeat("]", much)
	all := []string{`7`, `"7"`, `true`, `{"7": 7}`, `[7]`, `{}`, deepObject, deepList}
	unfit := map[string][]string{
		"string": {`"7"`}, "bool": {`true`}, "int": {`7`}, "uint": {`7`}, "list": nil,
		"object": {`{"7": 7}`, `{}`, deepObject}, "flag": {`true`},
	}
	values := slices.DeleteFunc(all, func(v string) bool { return slices.Contains(unfit[kind], v) })
	switch kind {
	case "string", "bool", "flag":
		return append(values, "[]", "0")
	case "list":
		return slices.DeleteFunc(values, func(v string) bool { return v == "[]" || v == "[7]" })
	case "object":
		return append(values, "[]", "1e999")
	case "uint":
		values = append(values, "-1")
	}
	return append(values, "[]", "1.5", "1e999", "123456789012345678901234567890")
}

// with puts a value into a configuration; what is missing on the way is made.
func with(conf any, at []string, value string) any {
	if len(at) == 0 {
		return json.RawMessage(value)
	}
	if at[0] == "[]" {
		list, _ := conf.([]any)
		list = slices.Clone(list)
		if len(list) == 0 {
			list = []any{nil}
		}
		list[0] = with(list[0], at[1:], value)
		return list
	}
	object, _ := conf.(map[string]any)
	object = maps.Clone(object)
	if object == nil {
		object = map[string]any{}
	}
	key := at[0]
	if key == "*" {
		key = "any"
	}
	object[key] = with(object[key], at[1:], value)
	return object
}

// typedNode is a node on which a role is called with wrong configurations.
type typedNode struct {
	*roletest.Node
	typed
	t        *testing.T
	role     string
	pod      *roletest.Pod
	base     map[string]any
	attaches bool // the kernel can do it
}

func newTypedNode(t *testing.T, role string, c typed) *typedNode {
	t.Helper()
	n := &typedNode{Node: roletest.NewNode(t, roleTable()), typed: c, t: t, role: role, attaches: role != "dhcp"}
	n.Host.VarLib = t.TempDir()
	n.pod = n.Pod("pod")
	n.Host.Run("sh", "-ec", `ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up
		ip addr add 192.0.2.1/24 dev up0
		ip link add ens1 type veth peer name lan0; ip link set lan0 up; mkdir -p /run/flannel
		printf 'FLANNEL_NETWORK=10.46.0.0/16\nFLANNEL_SUBNET=10.46.1.1/30\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n' > /run/flannel/subnet.env`)
	n.pod.Run("ip", "link", "set", "lo", "down")
	text := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net", "type": %q`, role)
	if c.conf != "" {
		text += ", " + c.conf
	}
	if err := json.Unmarshal([]byte(text+"}"), &n.base); err != nil {
		t.Fatal(err)
	}
	if c.behind {
		behind := `{"cniVersion": "1.1.0", "name": "net", "type": "ptp", "ipam": {"type": "static", "addresses": [{"address": "10.47.0.5/24"}]}}`
		var prev any
		if err := json.Unmarshal(n.Must(roletest.Call{Verb: "ADD", Role: "ptp", Pod: n.pod, Conf: behind}), &prev); err != nil {
			t.Fatal(err)
		}
		n.base["prevResult"] = prev
	}
	for _, feature := range c.needs {
		n.attaches = n.attaches && nstest.Has(t, feature)
	}
	return n
}

// try calls the role with a configuration.
func (n *typedNode) try(verb string, conf any) error {
	n.t.Helper()
	text, err := json.Marshal(conf)
	if err != nil {
		n.t.Fatal(err)
	}
	c := roletest.Call{Verb: verb, Role: n.role, Conf: string(text), IfName: ifName(n.role)}
	if verb != "GC" {
		c.Pod = n.pod
	}
	_, err = n.Do(c)
	return err
}

// state is what is on the node and in the pod: links, addresses, routes, packet filter, and what files there are.
func (n *typedNode) state() string {
	n.t.Helper()
	lines := append(kernelState(n.t, n.Host), "pod:")
	lines = append(lines, kernelState(n.t, n.pod.NS)...)
	lines = append(lines, counters.ReplaceAllString(n.Host.Run("nft", "list", "ruleset"), ""), n.pod.Run("sysctl", "net.core.somaxconn"))
	for _, dir := range []string{n.Host.RunDir, n.Host.VarLib} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() { // folders may stay for the next ADD
				lines = append(lines, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			n.t.Fatal(err)
		}
	}
	return strings.Join(lines, "\n")
}

// wantState waits a moment for the state: the kernel takes some of it away when it has answered already.
func (n *typedNode) wantState(want, after string) {
	n.t.Helper()
	got := ""
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got = n.state(); got == want {
			return
		}
	}
	n.t.Errorf("after %s:%s", after, lineDiff(want, got))
}

// wantRefused has ADD called with the key's wrong values. The error names the key by the whole way to it, and nothing has changed.
func (n *typedNode) wantRefused(k confKey, values []string) {
	n.t.Helper()
	before := n.state()
	path := strings.ReplaceAll(strings.ReplaceAll(k.String(), "[]", "[0]"), "*", "any")
	for _, value := range values {
		err := n.try("ADD", with(n.base, k.at, value))
		shown := fmt.Sprintf("%s: %.40s", k, value)
		if err == nil {
			n.t.Errorf("%s: no error", shown)
			continue
		}
		if code := errcode.Of(err); code != errcode.InvalidConfig {
			n.t.Errorf("%s: code %d: %v", shown, code, err)
		}
		if !names(err.Error(), path) {
			n.t.Errorf("%s: error %q", shown, err)
		}
	}
	if now := n.state(); now != before {
		n.t.Errorf("%s: ADD was refused, but changed%s", k, lineDiff(before, now))
	}
}

// names tells whether the error begins with the key, or with something in it; where another role has refused it, with that one's place.
func names(err, path string) bool {
	said := strings.TrimPrefix(err, "delegate bridge: ")
	if said != err {
		path = strings.TrimPrefix(path, "delegate.")
	}
	rest, ok := strings.CutPrefix(said, path)
	return ok && rest != "" && strings.ContainsRune(":.[", rune(rest[0]))
}

// Every key of every role has a value of each wrong type. ADD refuses it, names the key and changes nothing.
func TestADDRefusesWrongTypes(t *testing.T) {
	t.Parallel()
	confs := typedConfs()
	for role := range roleTable() {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			c, ok := confs[role]
			if !ok {
				t.Fatal("typedConfs has no configuration of it")
			}
			n := newTypedNode(t, role, c)
			for _, k := range typedKeys(t, role) {
				n.wantRefused(k, wrongValues(k.kind))
			}
			if !n.attaches {
				return
			}
			before := n.state()
			if err := n.try("ADD", n.base); err != nil {
				t.Errorf("without a wrong key: %v", err)
			}
			if role != "static" && n.state() == before {
				t.Error("without a wrong key nothing has changed either")
			}
		})
	}
}

// typedKeys are the keys whose type ADD looks at.
func typedKeys(t *testing.T, role string) (keys []confKey) {
	t.Helper()
	for _, k := range append(roleKeys(t, role), handedOn[role]...) {
		if k.kind != "raw" { // what is handed on, and what GC alone reads (TestGCWithoutAList)
			keys = append(keys, k)
		}
	}
	return keys
}

// DEL and GC of an attachment go on where a key has a value of a wrong type, as if it were not there.
func TestDELAndGCReadLeniently(t *testing.T) {
	t.Parallel()
	for role, c := range typedConfs() {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			n := newTypedNode(t, role, c)
			if !n.attaches {
				n.wantNoFailure()
				return
			}
			n.must("ADD", n.base)
			n.must("DEL", n.base)
			idle, keys := n.state(), typedKeys(t, role)
			for i, k := range keys {
				n.wantLenient("DEL", k, i, idle)
			}
			n.must("ADD", n.base)
			n.must("GC", keepNone(n.base))
			collected := n.state()
			n.must("DEL", n.base)
			for i, k := range keys {
				n.wantLenient("GC", k, i, collected)
			}
		})
	}
}

func keepNone(conf any) any { return with(conf, []string{"cni.dev/valid-attachments"}, "[]") }

func (n *typedNode) must(verb string, conf any) {
	n.t.Helper()
	if err := n.try(verb, conf); err != nil {
		n.t.Fatalf("%s: %v", verb, err)
	}
}

// wantLenient makes an attachment and takes it away with a wrong value of the key: one after the other has its turn.
func (n *typedNode) wantLenient(verb string, k confKey, turn int, want string) {
	n.t.Helper()
	values := wrongValues(k.kind)
	value := values[turn%len(values)]
	n.must("ADD", n.base)
	conf := with(n.base, k.at, value)
	if verb == "GC" {
		conf = keepNone(conf)
	}
	when := fmt.Sprintf("%s with %s: %.40s", verb, k, value)
	err := n.try(verb, conf)
	switch {
	case k.String() == "name", k.String() == "cniVersion" && verb == "GC": // whose attachments, and whether there is such a verb, is not known
		if err == nil || !names(err.Error(), k.String()) {
			n.t.Errorf("%s: %v", when, err)
		}
	case slices.Contains(n.essential, k.String()):
		if err != nil && !strings.Contains(err.Error(), strings.ReplaceAll(k.String(), "[]", "[0]")) {
			n.t.Errorf("%s: %v", when, err)
		}
	case err != nil:
		n.t.Errorf("%s: %v", when, err)
	default:
		n.wantState(want, when)
	}
	n.must("DEL", n.base)
}

// wantNoFailure is what can be tested without an attachment: DEL and GC have nothing to do.
func (n *typedNode) wantNoFailure() {
	n.t.Helper()
	for _, k := range typedKeys(n.t, n.role) {
		for _, value := range wrongValues(k.kind) {
			conf := with(n.base, k.at, value)
			for verb, conf := range map[string]any{"DEL": conf, "GC": keepNone(conf)} {
				err := n.try(verb, conf)
				refused := k.String() == "name" || k.String() == "cniVersion" && verb == "GC"
				if refused != (err != nil) {
					n.t.Errorf("%s with %s: %.40s: %v", verb, k, value, err)
				}
			}
		}
	}
}

// What nests deeper than package json reads is no JSON.
func TestNestedTooDeep(t *testing.T) {
	t.Parallel()
	const tooMuch = 10001
	n := newTypedNode(t, "bridge", typedConfs()["bridge"])
	deep := strings.Repeat("[", tooMuch) + strings.Repeat("]", tooMuch)
	for _, verb := range []string{"ADD", "DEL"} {
		c := roletest.Call{Verb: verb, Role: n.role, Pod: n.pod, Conf: `{"cniVersion": "1.1.0", "name": "net", "x": ` + deep + `}`}
		_, err := n.Do(c)
		errtest.Want(t, err, errcode.DecodingFailure, "not JSON", "max depth")
	}
}

// GC without a list of what to keep, or with something else in its place, removes nothing.
func TestGCWithoutAList(t *testing.T) {
	t.Parallel()
	n := newTypedNode(t, "bridge", typedConfs()["bridge"])
	n.must("ADD", n.base)
	before := n.state()
	for _, key := range []string{"cni.dev/valid-attachments", "cni.dev/attachments"} {
		for _, value := range append(wrongValues("list"), `[{"containerID": 7, "ifname": "eth0"}]`, `[{"containerID": "a", "ifname": []}]`) {
			err := n.try("GC", with(n.base, []string{key}, value))
			if errcode.Of(err) != errcode.InvalidConfig || !strings.HasPrefix(err.Error(), "cni.dev/valid-attachments") {
				t.Errorf("%s: %.40s: %v", key, value, err)
			}
		}
	}
	if now := n.state(); now != before {
		t.Errorf("changed%s", lineDiff(before, now))
	}
}
