package roles

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// FuzzRun calls a role that does nothing with any configuration and any environment. It ends with status 0 or 1; an error has a code that
// tells what is wrong with just that, and never that of a panic.
func FuzzRun(f *testing.F) {
	for _, s := range []string{
		conf("1.1.0", noPrev, noValid), conf("0.4.0", `"prevResult":{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.5/24"}}`),
		conf("0.3.1", `"ipam":{"type":"x"}`, `"runtimeConfig":{"ips":[]}`), `{"name":"net","ipam":null,"prevResult":null}`,
		conf("1.0.0", `"prevResult":{"ips":[{"interface":7,"address":"::1/0"}],"routes":[{}]}`), `[]`, `{`, `null`, ``,
		conf("1.1.0", `"cni.dev/attachments":[{"containerID":"a","ifname":"b"}]`, `"CNIVERSION":""`),
	} {
		for _, verb := range []string{verbAdd, verbCheck, verbDel, verbGC, verbStatus, verbVersion, "", "x"} {
			f.Add(s, verb, "pod", "eth0", "IP=10.0.0.1;IgnoreUnknown=1", "/proc/thread-self/ns/net")
		}
	}
	known := []uint{
		0, errcode.IncompatibleVersion, errcode.InvalidEnvironment, errcode.DecodingFailure, errcode.InvalidConfig, errcode.InvalidNetNS,
	}
	f.Fuzz(func(t *testing.T, text, verb, id, ifName, args, netNS string) {
		if netNS != "" && netNS != "/proc/thread-self/ns/net" {
			netNS = "/nowhere/" + strings.ReplaceAll(netNS, "..", "") // what is really there may be a pipe that nobody writes to
		}
		role := &fake{}
		getenv := environ(verb, netNS, "CNI_CONTAINERID="+id, "CNI_IFNAME="+ifName, "CNI_ARGS="+args, "CNI_NETNS_OVERRIDE=1")
		a := run(t, Table{"fake": role}, getenv, text)
		switch {
		case a.status != 0 && a.status != 1 || !slices.Contains(known, a.Code):
			t.Fatalf("status %d, answered %s", a.status, a.stdout)
		case strings.Contains(a.stderr+a.stdout, "panic:"):
			t.Fatalf("panic: %s", a.stderr)
		case len(role.calls) > 1 || a.Code != 0 && len(role.calls) > 0:
			t.Fatalf("called %v, answered %s", role.calls, a.stdout)
		case a.Code != 0 && (a.Msg == "" || !slices.Contains(Versions(), a.CNIVersion)):
			t.Fatalf("answered %s", a.stdout)
		}
	})
}

// FuzzArgs reads any CNI_ARGS: pairs that are put together again are read as the same.
func FuzzArgs(f *testing.F) {
	for _, s := range []string{"", "IP=10.0.0.1", "IgnoreUnknown=1;K8S_POD_NAME=x;;", "A=B=C", "=x", "x", ";", "A=1;A=2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args, err := ParseArgs(s)
		if err != nil {
			if errcode.Of(err) != errcode.InvalidEnvironment || !strings.HasPrefix(err.Error(), "CNI_ARGS: ") {
				t.Fatalf("code %d: %v", errcode.Of(err), err)
			}
			return
		}
		var pairs []string
		for key, value := range args {
			pairs = append(pairs, key+"="+value)
		}
		again, err := ParseArgs(strings.Join(pairs, ";"))
		if err != nil || !maps.Equal(args, again) {
			t.Fatalf("%q is read as %q, and that as %q, %v", s, args, again, err)
		}
	})
}

// keysOf lists the keys that a result of a version may have (CNI spec of that version, "Result").
func keysOf(version string) map[string]string {
	dns := "nameservers domain search options"
	switch {
	case !atLeast(version, "0.3.0"):
		return map[string]string{
			"": "cniVersion ip4 ip6 dns", "ip4": "ip gateway routes", "ip6": "ip gateway routes", "routes": "dst gw", "dns": dns,
		}
	case !atLeast(version, "1.0.0"):
		return map[string]string{
			"": "cniVersion interfaces ips routes dns", "interfaces": "name mac sandbox", "ips": "version interface address gateway",
			"routes": "dst gw", "dns": dns,
		}
	case !atLeast(version, "1.1.0"):
		return map[string]string{
			"": "cniVersion interfaces ips routes dns", "interfaces": "name mac sandbox", "ips": "interface address gateway",
			"routes": "dst gw", "dns": dns,
		}
	}
	return map[string]string{
		"":           "cniVersion interfaces ips routes dns",
		"interfaces": "name mac mtu sandbox socketPath pciID", "ips": "interface address gateway",
		"routes": "dst gw mtu advmss priority table scope", "dns": dns,
	}
}

// leak is a key of an answer that its version does not know; empty if there is none.
func leak(allowed map[string]string, under string, v any) string {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if key := leak(allowed, under, e); key != "" {
				return key
			}
		}
	case map[string]any:
		for key, e := range v {
			if !slices.Contains(strings.Fields(allowed[under]), key) {
				return under + "." + key
			}
			if key := leak(allowed, key, e); key != "" {
				return key
			}
		}
	}
	return ""
}

// FuzzResult reads any text as a result. What is accepted is written in each version, with the keys of that version only, and what has
// been written is read and written as the same.
func FuzzResult(f *testing.F) {
	for _, s := range []string{
		`{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.5/24","gateway":"10.0.0.1","routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"fd00::5/64"}}`,
		`{"ip4":null,"ip6":{}}`, `{"ips":[null]}`, `{"interfaces":[null]}`, `{"routes":[null]}`, `{}`, `null`, `[]`, `{`,
		`{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","mac":"x","mtu":1500,"sandbox":"/x","socketPath":"/y","pciID":"z"}],` +
			`"ips":[{"interface":-1,"address":"::ffff:10.0.0.1/120","gateway":"::"}],"dns":{"search":[""]},` +
			`"routes":[{"dst":"10.0.0.1/8","gw":"fd00::1","mtu":-1,"advmss":1,"priority":2,"table":0,"scope":253}]}`,
		`{"cniVersion":"0.4.0","ips":[{"version":"6","address":"10.0.0.1/24"},{"version":"","address":"fd00::1/0"}],"cniversion":""}`,
	} {
		for _, version := range Versions() {
			f.Add(s, version)
		}
	}
	f.Fuzz(func(t *testing.T, text, version string) {
		if !slices.Contains(Versions(), version) {
			return
		}
		res, err := parseResult(version, []byte(text))
		if err != nil {
			if code := errcode.Of(err); code != errcode.InvalidConfig && code != errcode.DecodingFailure {
				t.Fatalf("code %d: %v", code, err)
			}
			return
		}
		before, _ := json.Marshal(res)
		for _, as := range Versions() {
			out, err := encodeResult(res, as)
			if err != nil && len(res.IPs) > 1 && !atLeast(as, "0.3.0") {
				continue // no room for two addresses of a family
			}
			if err != nil {
				t.Fatalf("as %s: %v", as, err)
			}
			var v map[string]any
			if err := json.Unmarshal(out, &v); err != nil || v["cniVersion"] != as {
				t.Fatalf("as %s: %s, %v", as, out, err)
			}
			if key := leak(keysOf(as), "", v); key != "" {
				t.Fatalf("as %s: key %s in %s", as, key, out)
			}
			again, err := parseResult(as, out)
			if err != nil {
				t.Fatalf("as %s: what was written is not read: %v\n%s", as, err, out)
			}
			if out2, err := encodeResult(again, as); err != nil || string(out2) != string(out) {
				t.Fatalf("as %s: wrote %s, then %s, %v", as, out, out2, err)
			}
		}
		if after, _ := json.Marshal(res); string(after) != string(before) {
			t.Fatalf("the result was %s, is %s", before, after)
		}
	})
}
