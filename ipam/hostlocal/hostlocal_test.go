package hostlocal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/roletest"
)

// call is a request for a pod's eth0. The ipam section is that of the given JSON, with the folder; the rest is its other keys.
func call(dir, pod, ipam string, rest ...string) *roles.Request {
	conf := fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net","type":"x","ipam":{"type":"host-local","dataDir":%q`, dir)
	if ipam != "" {
		conf += "," + ipam
	}
	conf += "}"
	for _, r := range rest {
		conf += "," + r
	}
	return &roles.Request{
		Owner:      owner.Owner{Network: "net", ContainerID: pod, IfName: "eth0"},
		CNIVersion: "1.1.0",
		Conf:       []byte(conf + "}"),
		Undo:       &netutil.Undo{},
	}
}

func add(t testing.TB, r *roles.Request) *types100.Result {
	t.Helper()
	result, err := New().Add(context.Background(), r)
	if err != nil {
		t.Fatalf("ADD: %v", err)
	}
	return result
}

// addrs is the result's addresses and gateways.
func addrs(r *types100.Result) string {
	var out []string
	for _, ip := range r.IPs {
		out = append(out, ip.Address.String()+" "+ip.Gateway.String())
	}
	return strings.Join(out, ", ")
}

func TestAdd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ipam, rest, args, want string
	}{
		"short form":       {ipam: `"subnet":"10.1.0.0/24"`, want: "10.1.0.2/24 10.1.0.1"},
		"gateway":          {ipam: `"subnet":"10.1.0.0/24","gateway":"10.1.0.254"`, want: "10.1.0.1/24 10.1.0.254"},
		"start":            {ipam: `"subnet":"10.1.0.0/24","rangeStart":"10.1.0.9"`, want: "10.1.0.9/24 10.1.0.1"},
		"start at subnet":  {ipam: `"subnet":"10.1.0.0/24","rangeStart":"10.1.0.0"`, want: "10.1.0.2/24 10.1.0.1"},
		"IPv6":             {ipam: `"subnet":"fd00::/64"`, want: "fd00::2/64 fd00::1"},
		"link-local":       {ipam: `"subnet":"fd00::/64","gateway":"fe80::1"`, want: "fd00::1/64 fe80::1"},
		"mapped":           {ipam: `"subnet":"10.1.0.0/24","gateway":"::ffff:10.1.0.9"`, want: "10.1.0.1/24 10.1.0.9"},
		"dual stack":       {ipam: `"ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/64"}]]`, want: "10.1.0.2/24 10.1.0.1, fd00::2/64 fd00::1"},
		"short and ranges": {ipam: `"subnet":"10.1.0.0/24","ranges":[[{"subnet":"10.2.0.0/24"}]]`, want: "10.1.0.2/24 10.1.0.1, 10.2.0.2/24 10.2.0.1"},
		"runtime's ranges": {
			ipam: `"subnet":"10.1.0.0/24"`, rest: `"runtimeConfig":{"ipRanges":[[{"subnet":"10.3.0.0/24"}]]}`,
			want: "10.3.0.2/24 10.3.0.1, 10.1.0.2/24 10.1.0.1",
		},
		"capitals": {
			rest: `"RuntimeConfig":{"IPRanges":[[{"Subnet":"10.3.0.0/24","RangeStart":"10.3.0.7"}]]}`, want: "10.3.0.7/24 10.3.0.1",
		},
		"args IP":           {ipam: `"subnet":"10.1.0.0/24"`, args: "IgnoreUnknown=1;K8S_POD_NAME=x;IP=10.1.0.77", want: "10.1.0.77/24 10.1.0.1"},
		"args IPs":          {ipam: `"ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/64"}]]`, args: "IP=fd00::7, 10.1.0.7/8", want: "10.1.0.7/24 10.1.0.1, fd00::7/64 fd00::1"},
		"args.cni.ips":      {ipam: `"subnet":"10.1.0.0/24"`, rest: `"args":{"cni":{"ips":["10.1.0.78/16"]}}`, want: "10.1.0.78/24 10.1.0.1"},
		"runtimeConfig.ips": {ipam: `"subnet":"10.1.0.0/24"`, rest: `"runtimeConfig":{"ips":["::ffff:10.1.0.79"]}`, want: "10.1.0.79/24 10.1.0.1"},
		"the same twice":    {ipam: `"subnet":"10.1.0.0/24"`, args: "IP=10.1.0.5", rest: `"runtimeConfig":{"ips":["10.1.0.5/24"]}`, want: "10.1.0.5/24 10.1.0.1"},
		"second range": {
			ipam: `"ranges":[[{"subnet":"10.1.0.0/24"},{"subnet":"10.2.0.0/28","gateway":"10.2.0.9"}]]`, args: "IP=10.2.0.1",
			want: "10.2.0.1/28 10.2.0.9",
		},
		"two pools of one subnet": {
			ipam: `"ranges":[[{"subnet":"10.1.0.0/24","rangeStart":"10.1.0.20","rangeEnd":"10.1.0.30"},{"subnet":"10.1.0.0/24","rangeEnd":"10.1.0.19"}]]`,
			want: "10.1.0.20/24 10.1.0.1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rest := []string{}
			if c.rest != "" {
				rest = append(rest, c.rest)
			}
			r := call(t.TempDir(), "pod", c.ipam, rest...)
			r.Args = c.args
			result := add(t, r)
			if got := addrs(result); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if result.CNIVersion != "1.1.0" {
				t.Errorf("result of version %s", result.CNIVersion)
			}
			r.Prev = result
			if err := New().Check(context.Background(), r); err != nil {
				t.Errorf("CHECK: %v", err)
			}
		})
	}
}

// The network's name is a folder's too.
func TestLongName(t *testing.T) {
	t.Parallel()
	for length, ok := range map[int]bool{255: true, 256: false} {
		r := call(t.TempDir(), "pod", `"subnet":"10.1.0.0/24"`)
		r.Owner.Network = strings.Repeat("n", length)
		_, err := New().Add(context.Background(), r)
		if ok && err != nil {
			t.Error(err)
		}
		if !ok {
			errtest.Want(t, err, errcode.InvalidConfig, "name: ", "256 bytes are more than 255")
		}
	}
}

// Wrong input: the code, the key, and nothing on the disk.
func TestBadInput(t *testing.T) {
	t.Parallel()
	const good = `"subnet":"10.1.0.0/24"`
	for name, c := range map[string]struct {
		ipam, rest, args, version string
		code                      uint
		words                     string
	}{
		"no ranges":          {words: "ipam.ranges: missing"},
		"empty set":          {ipam: `"ranges":[[]]`, words: "ipam.ranges[0]: a range set needs"},
		"no subnet":          {ipam: `"ranges":[[{"gateway":"10.0.0.1"}]]`, words: "ipam.ranges[0][0].subnet: missing"},
		"bad CIDR":           {ipam: `"subnet":"10.1.0.0"`, words: `ipam.subnet: "10.1.0.0" is no`},
		"wrong type":         {ipam: `"subnet":5`, words: "ipam.subnet: it is a JSON number, where a string belongs"},
		"flat ranges":        {ipam: `"ranges":[{"subnet":"10.1.0.0/24"}]`, words: "ipam.ranges[0]: it is a JSON object, where a list belongs"},
		"host bits":          {ipam: `"subnet":"10.1.0.5/24"`, words: "ipam.subnet: 10.1.0.5/24 has host bits set; the subnet is 10.1.0.0/24"},
		"31":                 {ipam: `"subnet":"10.1.0.0/31"`, words: "ipam.subnet: 10.1.0.0/31 is too small"},
		"32":                 {ipam: `"subnet":"10.1.0.1/32"`, words: "too small"},
		"127":                {ipam: `"subnet":"fd00::/127"`, words: "too small"},
		"start outside":      {ipam: good + `,"rangeStart":"10.2.0.1"`, words: "ipam.rangeStart: 10.2.0.1 is outside the subnet 10.1.0.0/24"},
		"end outside":        {ipam: good + `,"rangeEnd":"fd00::1"`, words: "ipam.rangeEnd: fd00::1 is outside"},
		"no address":         {ipam: good + `,"rangeEnd":"x"`, words: `ipam.rangeEnd: "x" is no IP address`},
		"zone":               {ipam: `"subnet":"fe80::/64","gateway":"fe80::1%eth0"`, words: `ipam.gateway: "fe80::1%eth0" is no IP address`},
		"start above end":    {ipam: good + `,"rangeStart":"10.1.0.9","rangeEnd":"10.1.0.8"`, words: "ipam.rangeStart: 10.1.0.9 is above rangeEnd, 10.1.0.8"},
		"broadcast only":     {ipam: good + `,"rangeStart":"10.1.0.255"`, words: "ipam.rangeStart"},
		"gateway outside":    {ipam: good + `,"gateway":"10.2.0.1"`, words: "ipam.gateway: 10.2.0.1 is outside the subnet 10.1.0.0/24"},
		"gateway's family":   {ipam: good + `,"gateway":"fe80::1"`, words: "ipam.gateway: fe80::1 is outside"},
		"mixed families":     {ipam: `"ranges":[[{"subnet":"10.1.0.0/24"},{"subnet":"fd00::/64"}]]`, words: "ipam.ranges[0][1].subnet: fd00::/64 is not of the family"},
		"overlap in a set":   {ipam: `"ranges":[[{"subnet":"10.1.0.0/24"},{"subnet":"10.1.0.0/16"}]]`, words: "ipam.ranges[0][1]: 10.1.0.1-10.1.255.254 overlaps"},
		"overlap of sets":    {ipam: good + `,"ranges":[[{"subnet":"10.1.0.128/25"}]]`, words: "ipam.ranges[0]: 10.1.0.129-10.1.0.254 overlaps with 10.1.0.1-10.1.0.254 of ipam.subnet"},
		"runtime's overlap":  {ipam: good, rest: `"runtimeConfig":{"ipRanges":[[{"subnet":"10.1.0.0/25"}]]}`, words: "of runtimeConfig.ipRanges[0]"},
		"runtime's range":    {ipam: good, rest: `"runtimeConfig":{"ipRanges":[[{"subnet":"10.1.0.1/25"}]]}`, words: "runtimeConfig.ipRanges[0][0].subnet"},
		"two of a family":    {ipam: good + `,"ranges":[[{"subnet":"10.2.0.0/24"}]]`, version: "0.2.0", words: "version 0.2.0 carries one"},
		"route":              {ipam: good + `,"routes":[{"dst":"default"}]`, words: `ipam.routes[0].dst: "default"`},
		"resolv.conf":        {ipam: good + `,"resolvConf":"/nowhere/resolv.conf"`, words: "ipam.resolvConf: open /nowhere/resolv.conf"},
		"asked outside":      {ipam: good, rest: `"runtimeConfig":{"ips":["10.2.0.1","10.1.0.7"]}`, words: "runtimeConfig.ips[0]: 10.2.0.1 is in no range"},
		"asked broadcast":    {ipam: good, rest: `"runtimeConfig":{"ips":["10.1.0.255"]}`, words: "runtimeConfig.ips[0]: 10.1.0.255 is in no range"},
		"asked two":          {ipam: good, rest: `"args":{"cni":{"ips":["10.1.0.5","10.1.0.6"]}}`, words: "args.cni.ips[1]: 10.1.0.6 is a second address"},
		"asked gateway":      {ipam: good, args: "IP=10.1.0.1", code: errcode.InvalidEnvironment, words: "CNI_ARGS IP: 10.1.0.1 is the gateway"},
		"asked by args":      {ipam: good, rest: `"args":{"cni":{"ips":["10.1.0"]}}`, words: `args.cni.ips[0]: "10.1.0" is no IP address`},
		"asked elsewhere":    {ipam: good, args: "IP=10.2.0.1", code: errcode.InvalidEnvironment, words: "CNI_ARGS IP: 10.2.0.1 is in no range"},
		"runtime's set":      {ipam: good, rest: `"runtimeConfig":{"ipRanges":[[]]}`, words: "runtimeConfig.ipRanges[0]: a range set needs"},
		"runtime's start":    {rest: `"runtimeConfig":{"ipRanges":[[{"subnet":"10.1.0.0/24","rangeStart":"10.2.0.1"}]]}`, words: "runtimeConfig.ipRanges[0][0].rangeStart: 10.2.0.1"},
		"runtime's end":      {rest: `"runtimeConfig":{"ipRanges":[[{"subnet":"10.1.0.0/24","rangeEnd":"x"}]]}`, words: `runtimeConfig.ipRanges[0][0].rangeEnd: "x"`},
		"runtime's gateway":  {rest: `"runtimeConfig":{"ipRanges":[[{"subnet":"10.1.0.0/24","gateway":"10.2.0.1"}]]}`, words: "runtimeConfig.ipRanges[0][0].gateway: 10.2.0.1"},
		"start of a range":   {ipam: `"ranges":[[{"subnet":"10.1.0.0/24","rangeStart":"10.1"}]]`, words: `ipam.ranges[0][0].rangeStart: "10.1" is no IP address`},
		"end of a range":     {ipam: `"ranges":[[{"subnet":"10.1.0.0/24","rangeEnd":"10.2.0.1"}]]`, words: "ipam.ranges[0][0].rangeEnd: 10.2.0.1 is outside"},
		"gateway of a range": {ipam: `"ranges":[[{"subnet":"10.1.0.0/24","gateway":"10.1.0.1/24"}]]`, words: `ipam.ranges[0][0].gateway: "10.1.0.1/24"`},
		"route's gateway":    {ipam: good + `,"routes":[{"dst":"::/0","gw":"x"}]`, words: `ipam.routes[0].gw: "x"`},
		"route's table":      {ipam: good + `,"routes":[{"dst":"::/0","table":-1}]`, words: "ipam.routes[0].table: -1 is not within"},
		"asked nonsense":     {ipam: good, args: "IP=10.1.0", code: errcode.InvalidEnvironment, words: `CNI_ARGS IP: "10.1.0" is no IP address`},
		"asked empty":        {ipam: good, rest: `"runtimeConfig":{"ips":[""]}`, words: `runtimeConfig.ips[0]: "" is no IP address`},
		"asked bad prefix":   {ipam: good, rest: `"runtimeConfig":{"ips":["10.1.0.5/99"]}`, words: `runtimeConfig.ips[0]: "10.1.0.5/99"`},
		"bad CNI_ARGS":       {ipam: good, args: "IP", code: errcode.InvalidEnvironment, words: "CNI_ARGS"},
		"broken JSON":        {ipam: `"subnet":`, code: errcode.DecodingFailure, words: "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			rest := []string{}
			if c.rest != "" {
				rest = append(rest, c.rest)
			}
			r := call(dir, "pod", c.ipam, rest...)
			r.Args = c.args
			if c.version != "" {
				r.CNIVersion = c.version
			}
			if c.code == 0 {
				c.code = errcode.InvalidConfig
			}
			_, err := New().Add(context.Background(), r)
			errtest.Want(t, err, c.code, c.words)
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left %v, %v", left, err)
			}
			if c.code == errcode.DecodingFailure {
				return
			}
			if err := New().Del(context.Background(), r); err != nil {
				t.Errorf("DEL: %v", err)
			}
			if err := New().GC(context.Background(), r, nil); err != nil {
				t.Errorf("GC: %v", err)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{file, filepath.Join(file, "x")} {
		_, err := New().Add(context.Background(), call(place, "pod", good))
		errtest.WantKey(t, err, errcode.Storage, "ipam.dataDir: ")
	}
	r := call("", "pod", "")
	r.Conf = []byte(`{"name":"net"}`)
	_, err := New().Add(context.Background(), r)
	errtest.Want(t, err, errcode.InvalidConfig, "ipam: missing")
}

func TestRoutesAndDNS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	resolv := filepath.Join(dir, "resolv.conf")
	text := "# a comment\n; nameserver 9.9.9.9\n#nameserver 9.9.9.9\nnameserver 10.0.0.53 \n\tnameserver\tfd00::53\n" +
		"domain example.org\nsearch a.example b.example\nsearch c.example\noptions ndots:2 edns0\nnameserver\nsortlist 10.0.0.0\n"
	if err := os.WriteFile(resolv, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const routes = `[{"dst":"0.0.0.0/0"},{"dst":"10.9.0.0/16","gw":"10.1.0.9","mtu":1400,"advmss":1360,"priority":7,"table":100,"scope":253}]`
	result := add(t, call(dir, "pod", fmt.Sprintf(`"subnet":"10.1.0.0/24","routes":%s,"resolvConf":%q`, routes, resolv)))
	if got, _ := json.Marshal(result.Routes); string(got) != routes {
		t.Errorf("routes %s", got)
	}
	want := `{"nameservers":["10.0.0.53","fd00::53"],"domain":"example.org","search":["a.example","b.example","c.example"],` +
		`"options":["ndots:2","edns0"]}`
	if got, _ := json.Marshal(result.DNS); string(got) != want {
		t.Errorf("dns %s", got)
	}
}

func TestLife(t *testing.T) {
	t.Parallel()
	ctx, dir, role := context.Background(), t.TempDir(), New()
	const ipam = `"ranges":[[{"subnet":"10.1.0.0/29","gateway":"10.1.0.6"}],[{"subnet":"fd00::/126"}]]` // 5 and 2 addresses
	req := func(pod string) *roles.Request { return call(dir, pod, ipam) }

	errtest.Want(t, role.Check(ctx, req("a")), errcode.Differs, "net/a/eth0", "range set 0")
	a, b := req("a"), req("b")
	a.Prev, b.Prev = add(t, a), add(t, b)
	if got := addrs(a.Prev) + "; " + addrs(b.Prev); got != "10.1.0.1/29 10.1.0.6, fd00::2/126 fd00::1; 10.1.0.2/29 10.1.0.6, fd00::3/126 fd00::1" {
		t.Errorf("got %s", got)
	}
	_, err := role.Add(ctx, req("a"))
	errtest.Want(t, err, errcode.AlreadyExists, "10.1.0.1")
	_, err = role.Add(ctx, req("c"))
	errtest.Want(t, err, errcode.PoolExhausted, "range set 1", "fd00::1-fd00::3", "2 of its 2 addresses")
	errtest.Want(t, role.Status(ctx, req("")), errcode.NotAvailable, "range set 1", "2 of its 2 addresses")

	taken := call(dir, "c", ipam, `"runtimeConfig":{"ips":["10.1.0.2"]}`)
	_, err = role.Add(ctx, taken)
	errtest.Want(t, err, errcode.AddressTaken, "10.1.0.2", "container b", "eth0")

	if err := role.Check(ctx, a); err != nil {
		t.Error(err)
	}
	a.Prev = b.Prev
	errtest.Want(t, role.Check(ctx, a), errcode.Differs, "10.1.0.2", "net/a/eth0")

	if err := role.GC(ctx, req(""), []roles.Attachment{{ContainerID: "b", IfName: "eth0"}}); err != nil {
		t.Error(err)
	}
	errtest.Want(t, role.Check(ctx, req("a")), errcode.Differs, "range set 0")
	if err := role.Check(ctx, b); err != nil {
		t.Error(err)
	}
	if err := role.Status(ctx, req("")); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := role.Del(ctx, req("b")); err != nil {
			t.Error(err)
		}
	}
	errtest.Want(t, role.Check(ctx, b), errcode.Differs, "range set 0")
}

// An ADD that finds the second range set exhausted has reserved nothing of the first, without any undo.
func TestDualStackIsNotAtomic(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const ipam = `"ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/126"}]]` // 2 of IPv6
	for _, pod := range []string{"a", "b"} {
		add(t, call(dir, pod, ipam))
	}
	before := roletest.Reserved(t, dir)
	_, err := New().Add(context.Background(), call(dir, "c", ipam))
	errtest.Want(t, err, errcode.PoolExhausted, "range set 1")
	if after := roletest.Reserved(t, dir); !slices.Equal(after, before) || len(before) != 4 {
		t.Errorf("reserved are %v, before %v", after, before)
	}
	// So it is if an address that was asked for is taken.
	_, err = New().Add(context.Background(), call(dir, "c", ipam, `"runtimeConfig":{"ips":["fd00::2"]}`))
	errtest.Want(t, err, errcode.AddressTaken, "fd00::2")
	if after := roletest.Reserved(t, dir); !slices.Equal(after, before) {
		t.Errorf("reserved are %v, before %v", after, before)
	}
	// The round robin of the first set goes on where it was.
	if err := New().Del(context.Background(), call(dir, "a", ipam)); err != nil {
		t.Fatal(err)
	}
	if got := addrs(add(t, call(dir, "d", ipam))); got != "10.1.0.4/24 10.1.0.1, fd00::2/126 fd00::1" {
		t.Errorf("the next pod has %s", got)
	}
}

// The runner plays the undo list back where nobody takes the result. A refused second ADD has nothing to undo.
func TestUndo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := call(dir, "pod", `"subnet":"10.1.0.0/24"`)
	add(t, r)
	again := call(dir, "pod", `"subnet":"10.1.0.0/24"`)
	_, err := New().Add(context.Background(), again)
	errtest.Want(t, err, errcode.AlreadyExists)
	file := filepath.Join(dir, "net", "10.1.0.2")
	if err := again.Undo.Run(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the undo of a refused ADD took the address away: %v", err)
	}
	if err := r.Undo.Run(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the address is still reserved (%v)", err)
	}
}

// STATUS of a place that cannot be written, or where a file is in the way, and without touching what is not there yet.
func TestStatusOfPlace(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for place, words := range map[string]string{
		file:                        file,
		filepath.Join(file, "x"):    file,
		filepath.Join(dir, "later"): "",
	} {
		err := New().Status(ctx, call(place, "", `"subnet":"10.1.0.0/24"`))
		if words != "" {
			errtest.Want(t, err, errcode.NotAvailable, words)
		} else if err != nil {
			t.Errorf("%s: %v", place, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "later")); !os.IsNotExist(err) {
		t.Errorf("STATUS has made the folder: %v", err)
	}
	errtest.Want(t, New().Status(ctx, call(dir, "", `"subnet":"10.1.0.1/24"`)), errcode.InvalidConfig, "ipam.subnet")
}

// DEL finds what is to be given back when all else of the configuration is nonsense. The reference refuses a range that makes no sense.
func TestDelOfAnInvalidRangeFails(t *testing.T) {
	t.Parallel()
	for _, nonsense := range []string{`"subnet":"10.1.0.0/99"`, `"ranges":5`, `"ranges":[[{"subnet":7}]]`, `"routes":"x","subnet":[]`, ""} {
		dir := t.TempDir()
		add(t, call(dir, "pod", `"subnet":"10.1.0.0/24"`))
		r := call(dir, "pod", nonsense, `"runtimeConfig":7`, `"args":[]`)
		r.Args = "nonsense"
		if err := New().Del(context.Background(), r); err != nil {
			t.Errorf("%s: %v", nonsense, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "net", "10.1.0.2")); !os.IsNotExist(err) {
			t.Errorf("%s: address not given back", nonsense)
		}
	}
}

// The README's examples work as they are, but for where the reservations are kept.
func TestReadmeExamples(t *testing.T) {
	t.Parallel()
	want := []string{
		"10.244.0.2/16 10.244.0.1", "10.1.0.10/24 10.1.0.1, fd00:1::1/64 fe80::1", "10.3.0.77/24 10.3.0.1",
	}
	for i, example := range roletest.ReadmeExamples(t, len(want)) {
		r := call("", "pod", "")
		r.Conf = []byte(roletest.WithDataDir(t, example, t.TempDir()))
		if got := addrs(add(t, r)); got != want[i] {
			t.Errorf("example %d: %s, want %s", i, got, want[i])
		}
	}
}

func FuzzConf(f *testing.F) {
	for _, s := range []string{
		`{"ipam":{"subnet":"10.1.0.0/24"}}`,
		`{"ipam":{"ranges":[[{"subnet":"fd00::/126","rangeStart":"fd00::1","gateway":"fe80::1"}]]},"runtimeConfig":{"ips":["fd00::2"]}}`,
		`{"ipam":{"subnet":"0.0.0.0/0","rangeEnd":"0.0.0.9","routes":[{"dst":"::/0","table":1}]},"args":{"cni":{"ips":["0.0.0.3/8"]}}}`,
		`{"ipam":{"subnet":"::/0"}}`, `{"ipam":null}`, `{"ipam":{"ranges":[[]]}}`, `[]`, `{`,
	} {
		f.Add(s, "IP=10.1.0.5;IgnoreUnknown=1")
	}
	f.Fuzz(func(t *testing.T, text, args string) {
		r := &roles.Request{Owner: owner.Owner{Network: "net", ContainerID: "c", IfName: "eth0"}, Conf: []byte(text), Args: args}
		c, err := load(r)
		if err != nil {
			if code := errcode.Of(err); code != errcode.InvalidConfig && code != errcode.DecodingFailure {
				t.Fatalf("code %d: %v", code, err)
			}
			return
		}
		for _, set := range c.sets {
			for _, p := range set {
				if !p.subnet.Contains(p.First) || !p.subnet.Contains(p.Last) || p.First.Compare(p.Last) > 0 {
					t.Fatalf("range %v of %v", p.Range, p.subnet)
				}
			}
		}
		asked, err := c.asked.requests(args)
		if err != nil {
			return
		}
		sets, err := assign(c.sets, asked)
		if err != nil {
			return
		}
		for i, s := range sets {
			if s.Want.IsValid() && net.IP(s.Want.AsSlice()).IsUnspecified() || s.Want.IsValid() && !s.Contains(s.Want) {
				t.Fatalf("set %d wants %v of %v", i, s.Want, s)
			}
		}
	})
}

// Called by itself it makes no interface, so there are no packets to send; the roles' tests do, with its addresses.
func TestFamilies(t *testing.T) {
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		n, dir := roletest.NewNode(t, roles.Table{"host-local": New()}), t.TempDir()
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: dir,
			Plugins: []roletest.Plugin{{Role: "host-local", Keys: f.IPAM(dir, `{"subnet": "10.1.0.0/16"}`, `{"subnet": "fd01::/64"}`)}},
			Reach: func(p *roletest.Pod) {
				if have := roletest.Reserved(t, dir); len(have) != len(p.Addrs) {
					t.Errorf("%v are reserved, and the result has %v", have, p.Addrs)
				}
			},
			Damage: func(_ *roletest.Pod, addr netip.Addr) string {
				if err := os.Remove(filepath.Join(dir, "families", addr.String())); err != nil {
					t.Fatal(err)
				}
				return "has no address of range set"
			},
		})
	})
}
