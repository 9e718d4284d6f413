package roles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nstest"
)

// fake is a role that notes the verbs it is called with, and does what a test wants.
type fake struct {
	calls []string
	last  *Request
	valid []Attachment
	add   func(ctx context.Context, r *Request) (*types100.Result, error)
	fails error // of all verbs but ADD
}

func (f *fake) note(verb string, r *Request) error {
	f.calls, f.last = append(f.calls, verb), r
	return f.fails
}

func (f *fake) Add(ctx context.Context, r *Request) (*types100.Result, error) {
	_ = f.note(verbAdd, r)
	if f.add == nil {
		return &types100.Result{}, nil
	}
	return f.add(ctx, r)
}

func (f *fake) Check(_ context.Context, r *Request) error { return f.note(verbCheck, r) }
func (f *fake) Del(_ context.Context, r *Request) error   { return f.note(verbDel, r) }

func (f *fake) GC(_ context.Context, r *Request, valid []Attachment) error {
	f.valid = valid
	return f.note(verbGC, r)
}

func (f *fake) Status(_ context.Context, r *Request) error { return f.note(verbStatus, r) }

// answered is what Run printed, and how it ended.
type answered struct {
	status         int
	stdout, stderr string

	CNIVersion string `json:"cniVersion"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details"`
}

// environ is a runtime's variables for a verb, with changes: "KEY=VALUE", or "KEY" to leave one out.
func environ(verb, netNS string, changes ...string) func(string) string {
	env := map[string]string{
		"CNI_COMMAND": verb, "CNI_CONTAINERID": "pod", "CNI_NETNS": netNS, "CNI_IFNAME": "eth0", "CNI_PATH": "/nowhere",
	}
	for _, c := range changes {
		key, value, _ := strings.Cut(c, "=")
		env[key] = value
	}
	return func(key string) string { return env[key] }
}

// run calls the plugin "fake".
func run(t testing.TB, table Table, getenv func(string) string, conf string) (a answered) {
	t.Helper()
	var stdout, stderr strings.Builder
	x := Exchange{Getenv: getenv, Stdin: strings.NewReader(conf), Stdout: &stdout, Stderr: &stderr}
	a.status = Run(context.Background(), x, "fake", table)
	a.stdout, a.stderr = stdout.String(), stderr.String()
	if a.stdout != "" {
		if err := json.Unmarshal([]byte(a.stdout), &a); err != nil {
			t.Fatalf("answered %q: %v", a.stdout, err)
		}
	}
	if (a.status != 0) != (a.Code != 0) {
		t.Fatalf("status %d, answered %q", a.status, a.stdout)
	}
	return a
}

// wantError fails the test unless the answer is an error with the code, whose one line holds the words.
func wantError(t testing.TB, a answered, code uint, words string) {
	t.Helper()
	if a.Code != code || a.status != 1 {
		t.Errorf("status %d, code %d, want 1 and %d: %s", a.status, a.Code, code, a.Msg)
	}
	if !strings.Contains(a.Msg, words) || strings.Contains(a.Msg, "\n") {
		t.Errorf("msg %q is not one line that says %q", a.Msg, words)
	}
}

func conf(version string, keys ...string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":"net","type":"fake"%s}`, version, strings.Join(append([]string{""}, keys...), ","))
}

const (
	noPrev  = `"prevResult":{}`
	noValid = `"cni.dev/valid-attachments":[]`
)

// A runtime may ask for VERSION with made-up values, and without a configuration.
func TestVersionVerb(t *testing.T) {
	t.Parallel()
	for stdin, version := range map[string]string{`{"cniVersion":"0.4.0"}`: "0.4.0", `{"cniVersion":"9"}`: "1.1.0", ``: "1.1.0", `{`: "1.1.0"} {
		f := &fake{}
		a := run(t, Table{"fake": f}, environ(verbVersion, "dummy", "CNI_CONTAINERID=", "CNI_IFNAME=a/b", "CNI_PATH"), stdin)
		want := `{"cniVersion":"` + version + `","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}` + "\n"
		if a.stdout != want || len(f.calls) > 0 {
			t.Errorf("%q: %q, called %v", stdin, a.stdout, f.calls)
		}
	}
}

// Called by hand, it says what it is, and not on stdout.
func TestNoCommand(t *testing.T) {
	t.Parallel()
	a := run(t, nil, environ("", ""), "")
	if a.status != 0 || a.stdout != "" || !strings.Contains(a.stderr, "CNI plugin fake") || !strings.Contains(a.stderr, "1.1.0") {
		t.Errorf("%+v", a)
	}
}

func TestBadEnvironment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ verb, change, words string }{
		{"REMOVE", "", `CNI_COMMAND: "REMOVE" is none of`},
		{"add", "", `CNI_COMMAND: "add"`},
		{verbAdd, "CNI_CONTAINERID", "[CNI_CONTAINERID] missing"},
		{verbCheck, "CNI_IFNAME", "[CNI_IFNAME] missing"},
		{verbAdd, "CNI_NETNS", "[CNI_NETNS] missing"},
		{verbCheck, "CNI_NETNS", "[CNI_NETNS] missing"},
		{verbDel, "CNI_PATH", "[CNI_PATH] missing"},
		{verbGC, "CNI_PATH", "[CNI_PATH] missing"},
		{verbStatus, "CNI_PATH", "[CNI_PATH] missing"},
		{verbDel, "CNI_CONTAINERID=../x", `CNI_CONTAINERID: "../x" has`},
		{verbDel, "CNI_CONTAINERID=-x", `CNI_CONTAINERID: "-x" has`},
		{verbAdd, "CNI_CONTAINERID=a\nb", `CNI_CONTAINERID: "a\nb" has`},
		{verbCheck, "CNI_CONTAINERID=a/b", `CNI_CONTAINERID: "a/b" has`},
		{verbAdd, "CNI_CONTAINERID=é", `CNI_CONTAINERID: "é" has`},
		{verbAdd, "CNI_IFNAME=a\tb", `CNI_IFNAME: "a\tb" has`},
		{verbDel, "CNI_IFNAME=default", `CNI_IFNAME: "default" is a name`},
		{verbAdd, "CNI_IFNAME=a/b", `CNI_IFNAME: "a/b" has`},
		{verbAdd, "CNI_IFNAME=sixteencharacter", `CNI_IFNAME: "sixteencharacter" is no interface name`},
		{verbAdd, "CNI_IFNAME=..", `CNI_IFNAME: ".." is no`},
	} {
		f := &fake{}
		a := run(t, Table{"fake": f}, environ(c.verb, "/nowhere", c.change), conf("1.1.0", noPrev, noValid))
		wantError(t, a, errcode.InvalidEnvironment, c.words)
		if len(f.calls) > 0 || a.CNIVersion != "1.1.0" {
			t.Errorf("%s %s: called %v, version %s", c.verb, c.change, f.calls, a.CNIVersion)
		}
	}
	f := &fake{}
	a := run(t, Table{"fake": f}, environ(verbGC, "", "CNI_CONTAINERID", "CNI_IFNAME"), conf("1.1.0", noValid))
	if a.status != 0 || !slices.Equal(f.calls, []string{verbGC}) {
		t.Errorf("GC needs no container: %+v", a)
	}
}

// Each verb is served from the version on that brought it, and errors are told in the version asked for.
func TestVerbsByVersion(t *testing.T) {
	t.Parallel()
	netNS := nstest.New(t, "pod").Path
	since := map[string]string{verbAdd: "0.1.0", verbDel: "0.1.0", verbCheck: "0.4.0", verbGC: "1.1.0", verbStatus: "1.1.0"}
	for verb, first := range since {
		for _, version := range Versions() {
			f := &fake{fails: errcode.Errorf(errcode.Kernel, "object x: refused")}
			a := run(t, Table{"fake": f}, environ(verb, netNS), conf(version, noPrev, noValid))
			if a.CNIVersion != version {
				t.Errorf("%s at %s: answered in version %s", verb, version, a.CNIVersion)
			}
			switch {
			case slices.Index(Versions(), version) < slices.Index(Versions(), first):
				wantError(t, a, errcode.IncompatibleVersion, "cniVersion: "+version+" has no verb "+verb)
				if len(f.calls) > 0 {
					t.Errorf("%s at %s: called", verb, version)
				}
			case !slices.Equal(f.calls, []string{verb}):
				t.Errorf("%s at %s: called %v: %+v", verb, version, f.calls, a)
			case verb != verbAdd:
				wantError(t, a, errcode.Kernel, "object x: refused")
			}
		}
	}
	for _, version := range []string{"1.2.0", "0.5.0", "1.1", "x"} {
		a := run(t, Table{"fake": &fake{}}, environ(verbAdd, netNS), conf(version))
		wantError(t, a, errcode.IncompatibleVersion, fmt.Sprintf("cniVersion: %q is not supported", version))
	}
	f := &fake{}
	a := run(t, Table{"fake": f}, environ(verbDel, ""), `{"name":"net"}`)
	if a.status != 0 || f.last.CNIVersion != "0.1.0" {
		t.Errorf("a configuration without a version: %+v", a)
	}
}

func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	netNS := nstest.New(t, "pod").Path
	for _, c := range []struct {
		verb, conf string
		code       uint
		words      string
	}{
		{verbAdd, ``, errcode.DecodingFailure, "not JSON"},
		{verbAdd, `{"name":"net",}`, errcode.DecodingFailure, "(at byte 15)"},
		{verbDel, `{`, errcode.DecodingFailure, "not JSON"},
		{verbAdd, `[]`, errcode.InvalidConfig, "is a JSON array, where an object belongs"},
		{verbAdd, `{"name":7}`, errcode.InvalidConfig, "name: it is a JSON number, where a string belongs"},
		{verbAdd, `{"ipam":"host-local","name":"net"}`, errcode.InvalidConfig, "ipam: it is a JSON string, where an object belongs"},
		{verbAdd, `{"cniVersion":1.1,"name":"net"}`, errcode.InvalidConfig, "cniVersion: it is a JSON number"},
		{verbAdd, `{"cniVersion":"1.0.0"}`, errcode.InvalidConfig, "name: missing"},
		{verbDel, `{"cniVersion":"1.0.0"}`, errcode.InvalidConfig, "name: missing"},
		{verbDel, `{"name":"../x"}`, errcode.InvalidConfig, `name: "../x" has`},
		{verbAdd, `{"name":".x"}`, errcode.InvalidConfig, `name: ".x" has`},
		{verbCheck, conf("1.1.0"), errcode.InvalidConfig, "prevResult: missing"},
		{verbCheck, conf("1.1.0", `"prevResult":null`), errcode.InvalidConfig, "prevResult: missing"},
		{verbAdd, conf("1.1.0", `"prevResult":[]`), errcode.InvalidConfig, "prevResult: it is a JSON array"},
		{verbAdd, conf("1.1.0", `"prevResult":{"ips":[null]}`), errcode.InvalidConfig, "prevResult: ips: an entry is null"},
		{verbAdd, conf("1.1.0", `"prevResult":{"ips":[{}]}`), errcode.InvalidConfig, "prevResult: ips:"},
		{verbAdd, conf("1.1.0", `"prevResult":{"routes":[{"gw":"10.0.0.1"}]}`), errcode.InvalidConfig, "prevResult: routes:"},
		{verbAdd, conf("1.1.0", `"prevResult":{"cniVersion":"2.0.0"}`), errcode.InvalidConfig, `prevResult: cniVersion: "2.0.0"`},
		{verbGC, conf("1.1.0"), errcode.InvalidConfig, "cni.dev/valid-attachments: missing"},
		{verbGC, conf("1.1.0", `"cni.dev/valid-attachments":{}`), errcode.InvalidConfig, "cni.dev/valid-attachments: it is a JSON object"},
		{verbGC, conf("1.1.0", `"cni.dev/valid-attachments":[{"containerID":"a"}]`), errcode.InvalidConfig, "cni.dev/valid-attachments[0]"},
	} {
		f := &fake{}
		a := run(t, Table{"fake": f}, environ(c.verb, netNS), c.conf)
		wantError(t, a, c.code, c.words)
		if len(f.calls) > 0 {
			t.Errorf("%s %s: called", c.verb, c.conf)
		}
	}
}

// DEL goes on where ADD would refuse, as far as it can.
func TestDelIsLenient(t *testing.T) {
	t.Parallel()
	for _, keys := range []string{`"ipam":7`, `"prevResult":7`, `"prevResult":{"ips":[{"address":"x"}]}`, `"prevResult":{"cniVersion":"7"}`} {
		f := &fake{}
		a := run(t, Table{"fake": f}, environ(verbDel, ""), conf("1.0.0", keys))
		if a.status != 0 || a.stdout != "" || !slices.Equal(f.calls, []string{verbDel}) {
			t.Errorf("%s: %+v, called %v", keys, a, f.calls)
			continue
		}
		if f.last.Prev != nil || f.last.IPAM != nil || f.last.Sandbox != nil || f.last.Owner.String() != "net/pod/eth0" {
			t.Errorf("%s: %+v", keys, f.last)
		}
	}
}

// GC gets the list under its name and the one that an early text of the specification gave it; null is an empty list.
func TestValidAttachments(t *testing.T) {
	t.Parallel()
	for keys, want := range map[string][]Attachment{
		noValid:                            nil,
		`"cni.dev/valid-attachments":null`: nil,
		`"cni.dev/attachments":[{"containerID":"a","ifname":"eth0"}]`:                                                                   {{"a", "eth0"}},
		`"cni.dev/attachments":[{"containerID":"a","ifname":"eth0"}],"cni.dev/valid-attachments":[{"containerID":"b","ifname":"net1"}]`: {{"b", "net1"}},
	} {
		f := &fake{}
		a := run(t, Table{"fake": f}, environ(verbGC, ""), conf("1.1.0", keys))
		if a.status != 0 || !slices.Equal(f.valid, want) || f.last.Owner.Network != "net" || f.last.Owner.ContainerID != "" {
			t.Errorf("%s: %v, %+v", keys, f.valid, a)
		}
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	pod := nstest.New(t, "pod")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const own = "/proc/thread-self/ns/net" // the main thread may have become some pod's
	for _, c := range []struct{ verb, netNS, env, words string }{
		{verbAdd, pod.Path, "", ""},
		{verbAdd, "/nowhere/ns", "", "CNI_NETNS: network namespace: open /nowhere/ns"},
		{verbCheck, file, "", file + " is a plain file"},
		{verbAdd, "/proc/self/ns/mnt", "", "is a namespace of another kind"},
		{verbAdd, own, "", "is the plugin's own network namespace"},
		{verbCheck, own, "CNI_NETNS_OVERRIDE=0", "own network namespace"},
		{verbDel, own, "", ""},
		{verbAdd, own, "CNI_NETNS_OVERRIDE=true", ""},
		{verbDel, "/nowhere/ns", "", ""},
		{verbDel, file, "", ""},
		{verbDel, "", "", ""},
	} {
		f := &fake{}
		a := run(t, Table{"fake": f}, environ(c.verb, c.netNS, c.env), conf("1.1.0", noPrev))
		if c.words != "" {
			wantError(t, a, errcode.InvalidNetNS, c.words)
			if len(f.calls) > 0 {
				t.Errorf("%s in %s: called before the namespace was known to be right", c.verb, c.netNS)
			}
			continue
		}
		if a.status != 0 || len(f.calls) != 1 {
			t.Errorf("%s in %q: %+v", c.verb, c.netNS, a)
		} else if gone := c.verb == verbDel; (f.last.Sandbox == nil) != gone || f.last.Host == nil || f.last.NetNS != c.netNS {
			t.Errorf("%s in %q: %+v", c.verb, c.netNS, f.last)
		}
	}
}

// lost is a reader that went away.
type lost struct{}

func (lost) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// Whatever fails in an ADD, what it had done is undone, the latest step first.
func TestUndo(t *testing.T) {
	t.Parallel()
	netNS := nstest.New(t, "pod").Path
	for name, c := range map[string]struct {
		end    func(r *Request) (*types100.Result, error)
		stdout io.Writer
		cancel bool
		code   uint
		words  string
		undone bool
	}{
		"success": {end: func(*Request) (*types100.Result, error) { return &types100.Result{}, nil }},
		"error": {
			end:  func(*Request) (*types100.Result, error) { return nil, errcode.Errorf(errcode.Kernel, "link x") },
			code: errcode.Kernel, words: "link x", undone: true,
		},
		"panic": {
			end:  func(*Request) (*types100.Result, error) { panic("at the disco") },
			code: errcode.Internal, words: "panic: at the disco", undone: true,
		},
		"interrupted": {
			end:    func(*Request) (*types100.Result, error) { return &types100.Result{}, nil },
			cancel: true, code: errcode.TryAgainLater, words: "interrupted", undone: true,
		},
		"result lost": {
			end:    func(*Request) (*types100.Result, error) { return &types100.Result{}, nil },
			stdout: lost{}, undone: true,
		},
		"undo fails": {
			end: func(r *Request) (*types100.Result, error) {
				r.Undo.Push("last", func() error { panic("again") })
				r.Undo.Push("last", func() error { return errors.New("stuck") })
				return nil, errcode.Errorf(errcode.PortBusy, "port y")
			},
			code: errcode.PortBusy, words: "port y",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var undone []string
			f := &fake{add: func(_ context.Context, r *Request) (*types100.Result, error) {
				for _, step := range []string{"a", "b"} {
					r.Undo.Push(step, func() error {
						undone = append(undone, step)
						return nil
					})
				}
				if c.cancel {
					cancel()
				}
				return c.end(r)
			}}
			var out, stderr strings.Builder
			if c.stdout == nil {
				c.stdout = &out
			}
			x := Exchange{Getenv: environ(verbAdd, netNS), Stdin: strings.NewReader(conf("1.1.0")), Stdout: c.stdout, Stderr: &stderr}
			a := answered{status: Run(ctx, x, "fake", Table{"fake": f})}
			_ = json.Unmarshal([]byte(out.String()), &a)
			if want := c.code != 0 || c.undone; (a.status != 0) != want {
				t.Errorf("status %d", a.status)
			}
			if c.code != 0 {
				wantError(t, a, c.code, c.words)
			}
			if got := strings.Join(undone, ""); name != "undo fails" && (got == "ba") != c.undone {
				t.Errorf("undone %q", got)
			}
			if name == "undo fails" && !strings.Contains(a.Details, "panic: again") {
				t.Errorf("details %q", a.Details)
			}
		})
	}
}

// Each spelling of a prevResult reaches the role in one form, and what the role answers is printed as the version asked for has it.
func TestResultsByVersion(t *testing.T) {
	t.Parallel()
	netNS := nstest.New(t, "pod").Path
	const (
		v02 = `{"ip4":{"ip":"10.0.0.5/24","gateway":"10.0.0.1","routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"fd00::5/64"},"dns":{"domain":"x"}}`
		v03 = `{"interfaces":[{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/x"}],"ips":[{"version":"4","interface":0,` +
			`"address":"10.0.0.5/24","gateway":"10.0.0.1"},{"version":"6","address":"fd00::5/64"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{"domain":"x"}}`
		v10 = `{"interfaces":[{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/x"}],"ips":[{"interface":0,` +
			`"address":"10.0.0.5/24","gateway":"10.0.0.1"},{"address":"fd00::5/64"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{"domain":"x"}}`
	)
	texts := map[string]string{"0.1.0": v02, "0.2.0": v02, "0.3.0": v03, "0.3.1": v03, "0.4.0": v03, "1.0.0": v10, "1.1.0": v10}
	for prevVersion, text := range texts {
		for _, version := range Versions() {
			f := &fake{add: func(_ context.Context, r *Request) (*types100.Result, error) {
				if len(r.Prev.IPs) != 2 || r.Prev.IPs[0].Address.String() != "10.0.0.5/24" || !r.Prev.IPs[0].Gateway.Equal(net.IPv4(10, 0, 0, 1)) ||
					r.Prev.IPs[1].Address.String() != "fd00::5/64" || len(r.Prev.Routes) != 1 || r.Prev.DNS.Domain != "x" {
					t.Errorf("prevResult of %s: %+v", prevVersion, r.Prev)
				}
				return r.Prev, nil
			}}
			prev := `{"cniVersion":"` + prevVersion + `",` + text[1:]
			if prevVersion == version {
				prev = text // the version may be left out
			}
			a := run(t, Table{"fake": f}, environ(verbAdd, netNS), conf(version, `"prevResult":`+prev))
			want := texts[version]
			if strings.HasPrefix(prevVersion, "0.1") || strings.HasPrefix(prevVersion, "0.2") { // which know no interfaces
				want = strings.Replace(want, `"interfaces":[{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/x"}],`, "", 1)
				want = strings.Replace(want, `"interface":0,`, "", 1)
			}
			if got := sorted(t, a.stdout); got != sorted(t, `{"cniVersion":"`+version+`",`+want[1:]) {
				t.Errorf("%s as %s: %s", prevVersion, version, got)
			}
		}
	}
}

// A result that the version asked for has no room for is an error, not cut short.
func TestResultWithoutRoom(t *testing.T) {
	t.Parallel()
	netNS := nstest.New(t, "pod").Path
	f := &fake{add: func(_ context.Context, r *Request) (*types100.Result, error) {
		return Chained(r.Prev, result(t, `{"ips":[{"address":"10.0.0.5/24"}]}`)), nil
	}}
	for _, version := range []string{"0.1.0", "0.2.0"} {
		a := run(t, Table{"fake": f}, environ(verbAdd, netNS), conf(version, `"prevResult":{"ip4":{"ip":"10.1.0.5/24"}}`))
		if want := `"msg":"ips: a result of version ` + version + ` carries one address of each family"`; !strings.Contains(a.stdout, want) {
			t.Errorf("%s: %s", version, a.stdout)
		}
		a = run(t, Table{"fake": f}, environ(verbAdd, netNS), conf(version, `"prevResult":{"ip6":{"ip":"fd00::5/64"}}`))
		if !strings.Contains(a.stdout, "10.0.0.5/24") || !strings.Contains(a.stdout, "fd00::5/64") {
			t.Errorf("%s: %s", version, a.stdout)
		}
	}
}

// sorted is a JSON text in Go's own order of keys.
func sorted(t testing.TB, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
