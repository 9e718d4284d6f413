package static

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/ptp"
	"github.com/cnibox/cnibox/roles/roletest"
)

// call is a request for a pod's eth0. The ipam section is that of the given JSON; the rest is the configuration's other keys.
func call(ipam string, rest ...string) *roles.Request {
	if ipam != "" {
		ipam = "," + ipam
	}
	conf := fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net","type":"x","ipam":{"type":"static"%s}`, ipam)
	for _, r := range rest {
		if r != "" {
			conf += "," + r
		}
	}
	return &roles.Request{
		Owner:      owner.Owner{Network: "net", ContainerID: "pod", IfName: "eth0"},
		CNIVersion: "1.1.0",
		Conf:       []byte(conf + "}"),
	}
}

// addrs is the result's addresses and gateways.
func addrs(r *types100.Result) string {
	var out []string
	for _, ip := range r.IPs {
		s := ip.Address.String()
		if ip.Gateway != nil {
			s += " via " + ip.Gateway.String()
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

const (
	one  = `"addresses":[{"address":"10.1.0.5/24","gateway":"10.1.0.1"}]`
	dual = `"addresses":[{"address":"10.1.0.5/24"},{"address":"fd00::5/64","gateway":"fe80::1"}]`
)

func TestAdd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ipam, rest, args, want string
	}{
		"nothing":           {},
		"one":               {ipam: one, want: "10.1.0.5/24 via 10.1.0.1"},
		"dual stack":        {ipam: dual, want: "10.1.0.5/24, fd00::5/64 via fe80::1"},
		"two of a family":   {ipam: `"addresses":[{"address":"10.1.0.5/24"},{"address":"10.1.0.6/32"}]`, want: "10.1.0.5/24, 10.1.0.6/32"},
		"gateway outside":   {ipam: `"addresses":[{"address":"10.1.0.5/32","gateway":"169.254.1.1"}]`, want: "10.1.0.5/32 via 169.254.1.1"},
		"mapped gateway":    {ipam: `"addresses":[{"address":"10.1.0.5/24","gateway":"::ffff:10.1.0.9"}]`, want: "10.1.0.5/24 via 10.1.0.9"},
		"long IPv6":         {ipam: `"addresses":[{"address":"FD00:0:0:0:0:0:0:5/64"}]`, want: "fd00::5/64"},
		"args alone":        {args: "IP=10.1.0.7/24", want: "10.1.0.7/24"},
		"args come behind":  {ipam: one, args: "IgnoreUnknown=1;IP=10.1.0.7/16, fd00::7/64;K8S_POD_NAME=x", want: "10.1.0.5/24 via 10.1.0.1, 10.1.0.7/16, fd00::7/64"},
		"empty args":        {ipam: one, args: "IP=;GATEWAY=", want: "10.1.0.5/24 via 10.1.0.1"},
		"args' gateway":     {args: "IP=10.1.0.7/24,fd00::7/64;GATEWAY=fd00::1,10.1.0.254", want: "10.1.0.7/24 via 10.1.0.254, fd00::7/64 via fd00::1"},
		"gateway of all":    {ipam: one, args: "IP=10.1.0.7/16;GATEWAY=10.1.0.9", want: "10.1.0.5/24 via 10.1.0.9, 10.1.0.7/16 via 10.1.0.9"},
		"gateway of one":    {ipam: one, args: "IP=10.1.0.7/16;GATEWAY=10.1.9.9", want: "10.1.0.5/24 via 10.1.0.1, 10.1.0.7/16 via 10.1.9.9"},
		"args.cni.ips":      {ipam: dual, args: "IP=10.1.0.7/24", rest: `"args":{"cni":{"ips":["10.9.0.1/8"]}}`, want: "10.9.0.1/8"},
		"runtimeConfig.ips": {ipam: dual, rest: `"runtimeConfig":{"ips":["10.9.0.2/8","fd00::2/64"]}`, want: "10.9.0.2/8, fd00::2/64"},
		"the runtime wins":  {ipam: dual, args: "IP=10.1.0.7/24", rest: `"args":{"cni":{"ips":["10.9.0.1/8"]}},"runtimeConfig":{"ips":["10.9.0.2/8"]}`, want: "10.9.0.2/8"},
		"capitals":          {rest: `"RuntimeConfig":{"IPs":["10.9.0.2/8"]}`, want: "10.9.0.2/8"},
		"no wishes":         {ipam: one, rest: `"args":{"cni":{"ips":[]}},"runtimeConfig":{"ips":null}`, want: "10.1.0.5/24 via 10.1.0.1"},
		// The address that it was for has been replaced.
		"idle gateway": {args: "GATEWAY=10.1.0.9", rest: `"runtimeConfig":{"ips":["10.9.0.2/8"]}`, want: "10.9.0.2/8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := call(c.ipam, c.rest)
			r.Args = c.args
			result, err := New().Add(context.Background(), r)
			if err != nil {
				t.Fatalf("ADD: %v", err)
			}
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
			if err := New().Status(context.Background(), r); err != nil {
				t.Errorf("STATUS: %v", err)
			}
		})
	}
}

func TestRoutesAndDNS(t *testing.T) {
	t.Parallel()
	const routes = `[{"dst":"0.0.0.0/0"},{"dst":"10.9.0.0/16","gw":"10.1.0.9","mtu":1400,"advmss":1360,"priority":7,"table":100,"scope":253}]`
	const dns = `{"nameservers":["10.0.0.53"],"domain":"example.org","search":["a.example"],"options":["ndots:2"]}`
	result, err := New().Add(context.Background(), call(`"routes":`+routes+`,"dns":`+dns))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := json.Marshal(result.Routes); string(got) != routes {
		t.Errorf("routes %s", got)
	}
	if got, _ := json.Marshal(result.DNS); string(got) != dns {
		t.Errorf("dns %s", got)
	}
}

// Wrong input: the code and the key. ADD, CHECK and STATUS refuse it, DEL and GC do not.
func TestBadInput(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ipam, rest, args, version string
		code                      uint
		words                     string
	}{
		"broken JSON":        {ipam: `"addresses":`, code: errcode.DecodingFailure, words: "not JSON"},
		"wrong type":         {ipam: `"addresses":"10.1.0.5/24"`, words: "ipam.addresses: it is a JSON string, where a list belongs"},
		"bare addresses":     {ipam: `"addresses":["10.1.0.5/24"]`, words: "ipam.addresses[0]: it is a JSON string, where an object belongs"},
		"no address":         {ipam: `"addresses":[{"gateway":"10.1.0.1"}]`, words: "ipam.addresses[0].address: missing"},
		"no prefix length":   {ipam: `"addresses":[{"address":"10.1.0.5"}]`, words: `ipam.addresses[0].address: "10.1.0.5" is no address with a prefix`},
		"prefix too long":    {ipam: `"addresses":[{"address":"10.1.0.5/33"}]`, words: "ipam.addresses[0].address"},
		"zone":               {ipam: `"addresses":[{"address":"fe80::1%eth0/64"}]`, words: "ipam.addresses[0].address"},
		"unspecified":        {ipam: `"addresses":[{"address":"0.0.0.0/8"}]`, words: "ipam.addresses[0].address: 0.0.0.0 is no address that an interface can have"},
		"multicast":          {ipam: `"addresses":[{"address":"ff02::1/64"}]`, words: "ipam.addresses[0].address: ff02::1 is no"},
		"twice":              {ipam: `"addresses":[{"address":"10.1.0.5/24"},{"address":"10.1.0.5/16"}]`, words: "ipam.addresses[1].address: 10.1.0.5 is the address of ipam.addresses[0].address too"},
		"bad gateway":        {ipam: `"addresses":[{"address":"10.1.0.5/24","gateway":"10.1.0"}]`, words: `ipam.addresses[0].gateway: "10.1.0" is no IP address`},
		"no gateway":         {ipam: `"addresses":[{"address":"10.1.0.5/24","gateway":"0.0.0.0"}]`, words: "ipam.addresses[0].gateway: 0.0.0.0 is no address"},
		"group as gateway":   {ipam: `"addresses":[{"address":"fd00::5/64","gateway":"ff02::2"}]`, words: "ipam.addresses[0].gateway: ff02::2 is no address"},
		"gateway's family":   {ipam: `"addresses":[{"address":"10.1.0.5/24","gateway":"fe80::1"}]`, words: "ipam.addresses[0].gateway: fe80::1 is not of the family"},
		"two of a family":    {ipam: `"addresses":[{"address":"10.1.0.5/24"},{"address":"10.1.0.6/24"}]`, version: "0.2.0", words: "ipam.addresses: a result of version 0.2.0 carries one"},
		"IP of a group":      {ipam: one, args: "IP=224.0.0.5/24", code: errcode.InvalidEnvironment, words: "CNI_ARGS IP: 224.0.0.5 is no address"},
		"asked, a group":     {ipam: one, rest: `"args":{"cni":{"ips":["ff02::1/64"]}}`, words: "args.cni.ips[0]: ff02::1 is no address"},
		"asked, no length":   {ipam: one, rest: `"runtimeConfig":{"ips":["10.1.0.6"]}`, words: `runtimeConfig.ips[0]: "10.1.0.6" is no address with a prefix`},
		"route's gateway":    {ipam: one + `,"routes":[{"dst":"::/0","gw":"x"}]`, words: `ipam.routes[0].gw: "x"`},
		"route's scope":      {ipam: one + `,"routes":[{"dst":"::/0","scope":256}]`, words: "ipam.routes[0].scope: 256 is not within"},
		"route":              {ipam: one + `,"routes":[{"dst":"default"}]`, words: `ipam.routes[0].dst: "default"`},
		"dns":                {ipam: one + `,"dns":{"nameservers":"10.0.0.53"}`, words: "ipam.dns.nameservers: it is a JSON string, where a list belongs"},
		"CNI_ARGS":           {ipam: one, args: "IP", code: errcode.InvalidEnvironment, words: `CNI_ARGS: number 1 between the semicolons is no KEY=VALUE pair`},
		"IP bare":            {ipam: one, args: "IP=10.1.0.7", code: errcode.InvalidEnvironment, words: `CNI_ARGS IP: "10.1.0.7" is no address with a prefix`},
		"IP twice":           {ipam: one, args: "IP=10.1.0.5/24", code: errcode.InvalidEnvironment, words: "CNI_ARGS IP: 10.1.0.5 is the address of ipam.addresses[0].address too"},
		"IP with hole":       {ipam: one, args: "IP=10.1.0.7/24,", code: errcode.InvalidEnvironment, words: "CNI_ARGS IP: missing"},
		"GATEWAY":            {ipam: one, args: "GATEWAY=x", code: errcode.InvalidEnvironment, words: `CNI_ARGS GATEWAY: "x" is no IP address`},
		"GATEWAY for nobody": {ipam: one, args: "GATEWAY=10.2.0.1", code: errcode.InvalidEnvironment, words: "CNI_ARGS GATEWAY: 10.2.0.1 is in the subnet of no address"},
		"args.cni.ips":       {ipam: one, rest: `"args":{"cni":{"ips":["10.1.0.6/24","10.1.0.7"]}}`, words: `args.cni.ips[1]: "10.1.0.7"`},
		"runtimeConfig.ips":  {ipam: one, rest: `"runtimeConfig":{"ips":["10.1.0.6/24","10.1.0.6/24"]}`, words: "runtimeConfig.ips[1]: 10.1.0.6 is the address of runtimeConfig.ips[0] too"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, r := context.Background(), call(c.ipam, c.rest)
			r.Args = c.args
			if c.version != "" {
				r.CNIVersion = c.version
			}
			if c.code == 0 {
				c.code = errcode.InvalidConfig
			}
			_, err := New().Add(ctx, r)
			errtest.Want(t, err, c.code, c.words)
			errtest.Want(t, New().Check(ctx, r), c.code, c.words)
			errtest.Want(t, New().Status(ctx, r), c.code, c.words)
			if err := New().Del(ctx, r); err != nil {
				t.Errorf("DEL: %v", err)
			}
			if err := New().GC(ctx, r, nil); err != nil {
				t.Errorf("GC: %v", err)
			}
		})
	}
	r := call("")
	r.Conf = []byte(`{"name":"net"}`)
	_, err := New().Add(context.Background(), r)
	errtest.Want(t, err, errcode.InvalidConfig, "ipam: missing")
}

// CHECK finds what a later plugin of the list, or somebody who edits the configuration, has changed.
func TestCheckFindsDifferences(t *testing.T) {
	t.Parallel()
	r := call(dual)
	errtest.Want(t, New().Check(context.Background(), r), errcode.Differs, "ipam.addresses[0].address: 10.1.0.5/24 is not in prevResult")
	for words, change := range map[string]func(res *types100.Result){
		"10.1.0.5/24 is not in prevResult":                       func(res *types100.Result) { res.IPs = res.IPs[1:] },
		"ipam.addresses[0].address: 10.1.0.5/24 is not":          func(res *types100.Result) { res.IPs[0].Address.Mask = net.CIDRMask(16, 32) },
		"the gateway of fd00::5/64 is fe80::1, and not so in pr": func(res *types100.Result) { res.IPs[1].Gateway = net.ParseIP("fe80::2") },
		"ipam.addresses[1].address: the gateway of fd00::5/64":   func(res *types100.Result) { res.IPs[1].Gateway = nil },
		"": func(res *types100.Result) { // more than was asked for is no difference
			res.IPs = append(res.IPs, &types100.IPConfig{Address: net.IPNet{IP: net.IPv4(10, 7, 7, 7), Mask: net.CIDRMask(8, 32)}})
			res.IPs[0].Gateway = net.ParseIP("10.1.0.77")
			res.IPs[0].Address.IP = res.IPs[0].Address.IP.To16() // as some plugins encode it
		},
	} {
		prev, err := New().Add(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		change(prev)
		changed := *r
		changed.Prev = prev
		err = New().Check(context.Background(), &changed)
		if words == "" && err != nil {
			t.Error(err)
		}
		if words != "" {
			errtest.Want(t, err, errcode.Differs, words)
		}
	}
}

// The README's examples work as they are.
func TestReadmeExamples(t *testing.T) {
	t.Parallel()
	want := []struct {
		addrs  string
		routes int
		dns    string
	}{
		{"10.10.0.5/24 via 10.10.0.254, fd00:10::5/64 via fe80::1", 3, "example.org"},
		{"10.10.0.7/24, fd00:10::7/64", 1, ""},
	}
	for i, example := range roletest.ReadmeExamples(t, len(want)) {
		r := call("")
		r.Conf = []byte(example)
		got, err := New().Add(context.Background(), r)
		if err != nil {
			t.Fatalf("example %d: %v", i, err)
		}
		if addrs(got) != want[i].addrs || len(got.Routes) != want[i].routes || got.DNS.Domain != want[i].dns {
			t.Errorf("example %d: %s, %d routes, domain %q", i, addrs(got), len(got.Routes), got.DNS.Domain)
		}
	}
}

// FuzzConf reads any configuration and CNI_ARGS: a refusal has a code for just that, and what is accepted is sound and passes CHECK.
func FuzzConf(f *testing.F) {
	for _, s := range [][2]string{
		{`{"ipam":{"addresses":[{"address":"10.1.0.5/24","gateway":"10.1.0.1"}]}}`, "IP=10.1.0.7/16;GATEWAY=10.1.0.9"},
		{`{"ipam":{"addresses":[{"address":"fd00::5/64"}],"routes":[{"dst":"::/0","gw":"fe80::1"}]}}`, "GATEWAY=fd00::1,fd00::2"},
		{`{"ipam":{},"runtimeConfig":{"ips":["10.1.0.5/24"]},"args":{"cni":{"ips":["fd00::1/64"]}}}`, "IP=,"},
		{`{"ipam":{"dns":{"nameservers":["x"]}}}`, ";;A=B"},
		{`{"ipam":null}`, ""},
		{`[]`, "IP"},
		{`{`, "=1"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, text, args string) {
		r := call("")
		r.Conf, r.Args = []byte(text), args
		got, err := New().Add(context.Background(), r)
		if err != nil {
			switch errcode.Of(err) {
			case errcode.InvalidConfig, errcode.DecodingFailure, errcode.InvalidEnvironment:
			default:
				t.Fatalf("code %d: %v", errcode.Of(err), err)
			}
			return
		}
		seen := map[string]bool{}
		for _, ip := range got.IPs {
			if seen[ip.Address.IP.String()] || ip.Address.IP.IsUnspecified() || ip.Gateway != nil && len(ip.Gateway) != len(ip.Address.IP) {
				t.Fatalf("answers %s", addrs(got))
			}
			seen[ip.Address.IP.String()] = true
		}
		r.Prev = got
		if err := New().Check(context.Background(), r); err != nil {
			t.Fatalf("CHECK after ADD: %v", err)
		}
	})
}

// The addresses become an interface's: what the configuration names is what packets are sent from.
func TestFamilies(t *testing.T) {
	roletest.Families(t, func(t *testing.T, f roletest.Family) {
		n := roletest.NewNode(t, roles.Table{"ptp": ptp.New(), "static": New()})
		n.Server(n.Host, 80)
		addresses := strings.Join(f.Of(`{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}`, `{"address": "fd01::5/64", "gateway": "fd01::1"}`), ", ")
		n.WantAllVersions(roletest.Network{
			Family: f, DataDir: t.TempDir(),
			Plugins: []roletest.Plugin{{Role: "ptp", Keys: `"ipam": {"type": "static", "addresses": [` + addresses + `]}`}},
			Reach:   func(p *roletest.Pod) { n.WantReach(p, "10.1.0.1", "fd01::1") },
			Damage: func(p *roletest.Pod, addr netip.Addr) string { // of the result, which is all that static has
				p.WithResult(bytes.ReplaceAll(p.Result(), []byte(addr.String()+"/"), []byte(addr.Next().String()+"/")))
				return "ipam.addresses["
			},
		})
	})
}
