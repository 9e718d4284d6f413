package roles

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/owner"
)

// script is a foreign plugin in a folder of its own: a shell script that notes each call's variables and configuration beside itself,
// and then does the given.
func script(t *testing.T, name, body string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	text := fmt.Sprintf("#!/bin/sh\ncd '%s'\nenv | grep ^CNI_ | sort >>calls\necho \"conf $(/bin/cat)\" >>calls\n%s\n", dir, body)
	// A child that another test starts meanwhile would hold the file open for writing, and keep it from being started (ETXTBSY).
	syscall.ForkLock.RLock()
	err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// calls is what the script has noted; the verbs alone if brief.
func calls(t *testing.T, dir string, brief bool) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "calls"))
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	if !brief {
		return string(text)
	}
	var verbs []string
	for line := range strings.Lines(string(text)) {
		if verb, ok := strings.CutPrefix(line, "CNI_COMMAND="); ok {
			verbs = append(verbs, strings.TrimSpace(verb))
		}
	}
	return strings.Join(verbs, " ")
}

// delegating is a role that does nothing but ask its ipam plugin.
type delegating struct{}

func (delegating) Add(ctx context.Context, r *Request) (*types100.Result, error) {
	return r.IPAM.Add(ctx)
}
func (delegating) Check(ctx context.Context, r *Request) error { return r.IPAM.Check(ctx) }
func (delegating) Del(ctx context.Context, r *Request) error   { return r.IPAM.Del(ctx) }
func (delegating) GC(ctx context.Context, r *Request, _ []Attachment) error {
	return r.IPAM.GC(ctx)
}
func (delegating) Status(ctx context.Context, r *Request) error { return r.IPAM.Status(ctx) }

const ipamResult = `{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.5/24","gateway":"10.0.0.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{"domain":"x"}}`

// A foreign plugin is started with the call's own variables and configuration, byte for byte, for every verb.
func TestForeignDelegateGetsTheCall(t *testing.T) {
	t.Parallel()
	netNS := nstest.New(t, "pod").Path
	for _, verb := range []string{verbAdd, verbCheck, verbDel, verbGC, verbStatus} {
		dir := script(t, "other", "echo '"+ipamResult+"'")
		text := conf("1.1.0", `"ipam":{"type":"other",  "x":[1]}`, noPrev, noValid)
		path := "/nowhere:" + dir + ":/elsewhere"
		a := run(t, Table{"fake": delegating{}}, environ(verb, netNS, "CNI_PATH="+path, "CNI_ARGS=A=1;B=2"), text)
		if a.status != 0 {
			t.Errorf("%s: %+v", verb, a)
		}
		want := []string{"CNI_ARGS=A=1;B=2", "CNI_COMMAND=" + verb, "CNI_CONTAINERID=pod", "CNI_IFNAME=eth0", "CNI_NETNS=" + netNS, "CNI_PATH=" + path}
		if verb == verbGC || verb == verbStatus { // which are about no container
			want[2], want[3] = "CNI_CONTAINERID=", "CNI_IFNAME="
		}
		if got := calls(t, dir, false); got != strings.Join(want, "\n")+"\nconf "+text+"\n" {
			t.Errorf("%s: it was called with\n%s", verb, got)
		}
		if verb == verbAdd && !strings.Contains(a.stdout, `"10.0.0.5/24"`) {
			t.Errorf("answered %s", a.stdout)
		}
	}
}

// What a foreign plugin says is wrong is told with its own code; where it says nothing of use, with one of ours. A DEL follows each
// ADD that failed.
func TestForeignDelegateFails(t *testing.T) {
	t.Parallel()
	netNS := nstest.New(t, "pod").Path
	for name, c := range map[string]struct {
		body  string
		code  uint
		words string
	}{
		"code":      {`echo '{"code":123,"msg":"no address","details":"ask again"}'; exit 1`, 123, "ipam.type other: no address; ask again"},
		"no answer": {`exit 3`, errcode.DelegateFailed, `ipam.type other: ADD: exit status 3; it said ""`},
		"a text":    {`echo 'Segmentation fault'; echo more; exit 1`, errcode.DelegateFailed, `it said "Segmentation fault"`},
		"nonsense":  {`echo '[]'`, errcode.DelegateFailed, "ipam.type other: its result: it is a JSON array"},
		"nothing":   {`:`, errcode.DelegateFailed, "ipam.type other: its result: it is not JSON"},
		"no prefix": {`echo '{"ips":[{"address":"10.0.0.5"}]}'`, errcode.DelegateFailed, "ipam.type other: its result:"},
		"killed":    {`kill -9 $$`, errcode.DelegateFailed, "ipam.type other: ADD: signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := script(t, "other", "[ $CNI_COMMAND = DEL ] && exit 0\n"+c.body)
			a := run(t, Table{"fake": delegating{}}, environ(verbAdd, netNS, "CNI_PATH="+dir), conf("1.1.0", `"ipam":{"type":"other"}`))
			wantError(t, a, c.code, c.words)
			if got := calls(t, dir, true); got != "ADD DEL" {
				t.Errorf("called %s", got)
			}
		})
	}
}

// A plugin from before GC and STATUS says that CNI_COMMAND is wrong, which is no failure; any other error is.
func TestForeignDelegateIsOlder(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{verbGC, verbStatus} {
		for code, want := range map[uint]uint{errcode.InvalidEnvironment: 0, errcode.NotAvailable: errcode.NotAvailable} {
			dir := script(t, "other", fmt.Sprintf(`echo '{"code":%d,"msg":"x"}'; exit 1`, code))
			a := run(t, Table{"fake": delegating{}}, environ(verb, "", "CNI_PATH="+dir), conf("1.1.0", `"ipam":{"type":"other"}`, noValid))
			if a.Code != want {
				t.Errorf("%s: code %d became %d", verb, code, a.Code)
			}
		}
	}
}

func TestMissingDelegate(t *testing.T) {
	t.Parallel()
	netNS := nstest.New(t, "pod").Path
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	for kind, words := range map[string]string{
		"other":  `ipam.type: no plugin "other" in CNI_PATH (` + dir + `)`,
		"folder": `ipam.type: no plugin "folder"`,
		"a/b":    `ipam.type: "a/b" is a path`,
		"..":     `ipam.type: ".." is a path`,
		"/":      `ipam.type: "/" is a path`,
	} {
		for _, verb := range []string{verbAdd, verbDel} {
			a := run(t, Table{"fake": delegating{}}, environ(verb, netNS, "CNI_PATH="+dir), conf("1.1.0", fmt.Sprintf(`"ipam":{"type":%q}`, kind)))
			wantError(t, a, errcode.InvalidConfig, words)
		}
	}
}

// One of our own roles is called in process, by the farm of symlinks or without one, and a foreign program of its name is started; the
// role that asks, and the runtime, cannot tell the difference.
func TestDelegatesGiveEqualResults(t *testing.T) {
	t.Parallel()
	netNS := nstest.New(t, "pod").Path
	farm := t.TempDir()
	if err := os.Symlink("/proc/self/exe", filepath.Join(farm, "ours")); err != nil {
		t.Fatal(err)
	}
	foreign := script(t, "ours", "[ $CNI_COMMAND = ADD ] && echo '"+ipamResult+"'\nexit 0")
	for _, version := range Versions() {
		var answers []string
		for path, inProcess := range map[string]bool{
			"/nowhere": true, farm: true, farm + ":" + foreign: true, foreign: false, "/nowhere::" + foreign + ":" + farm: false,
		} {
			own := &fake{add: func(context.Context, *Request) (*types100.Result, error) {
				return parseResult(version, []byte(ipamResult))
			}}
			before := calls(t, foreign, true)
			a := run(t, Table{"fake": delegating{}, "ours": own}, environ(verbAdd, netNS, "CNI_PATH="+path), conf(version, `"ipam":{"type":"ours"}`))
			if a.status != 0 || inProcess != (len(own.calls) == 1) || inProcess != (calls(t, foreign, true) == before) {
				t.Errorf("%s: in process %v, called %v: %+v", path, inProcess, own.calls, a)
			}
			answers = append(answers, a.stdout)
		}
		if len(slices.Compact(answers)) != 1 || !strings.Contains(answers[0], "10.0.0.5/24") {
			t.Errorf("answers differ: %q", answers)
		}
	}
}

// Our own role as a delegate gets the call as it came, with an undo list of its own: its DEL is what undoes it.
func TestDelegateInProcess(t *testing.T) {
	t.Parallel()
	netNS := nstest.New(t, "pod").Path
	var undone bool
	own := &fake{add: func(_ context.Context, r *Request) (*types100.Result, error) {
		r.Undo.Push("its own", func() error {
			undone = true
			return nil
		})
		return nil, errcode.Errorf(errcode.PoolExhausted, "range set 0 is exhausted")
	}}
	text := conf("1.1.0", `"ipam":{"type":"ours"}`, noPrev, `"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]`)
	a := run(t, Table{"fake": delegating{}, "ours": own}, environ(verbAdd, netNS, "CNI_ARGS=A=1"), text)
	wantError(t, a, errcode.PoolExhausted, "range set 0 is exhausted")
	r := own.last
	if !slices.Equal(own.calls, []string{verbAdd, verbDel}) || undone {
		t.Errorf("called %v; undid its parts: %v", own.calls, undone)
	}
	if r.Owner.String() != "net/pod/eth0" || string(r.Conf) != text || r.Args != "A=1" || r.NetNS != netNS || r.IPAM != nil || r.Prev == nil {
		t.Errorf("called with %+v", r)
	}
	// What the attachment has from an earlier ADD stays.
	own.calls = nil
	own.add = func(context.Context, *Request) (*types100.Result, error) {
		return nil, errcode.Errorf(errcode.AlreadyExists, "it holds 10.0.0.5")
	}
	a = run(t, Table{"fake": delegating{}, "ours": own}, environ(verbAdd, netNS), text)
	wantError(t, a, errcode.AlreadyExists, "it holds 10.0.0.5")
	if !slices.Equal(own.calls, []string{verbAdd}) {
		t.Errorf("called %v", own.calls)
	}
	own.calls = nil
	for _, verb := range []string{verbCheck, verbGC, verbStatus} {
		if a := run(t, Table{"fake": delegating{}, "ours": own}, environ(verb, netNS), text); a.status != 0 {
			t.Errorf("%s: %+v", verb, a)
		}
	}
	if !slices.Equal(own.calls, []string{verbCheck, verbGC, verbStatus}) || !slices.Equal(own.valid, []Attachment{{"a", "eth0"}}) {
		t.Errorf("called %v, to keep %v", own.calls, own.valid)
	}
}

// A plugin that hangs ends with the call, and one that leaves a child behind, which holds its streams, does not keep the call.
func TestForeignDelegateHangs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body string
		code uint
	}{
		"hangs":          {"exec sleep 60", errcode.TryAgainLater},
		"leaves a child": {"sleep 60 & echo $! >child; echo '{}'", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := script(t, "other", c.body)
			r := &Request{Owner: owner.Owner{Network: "net"}, CNIVersion: "1.1.0", Conf: []byte(conf("1.1.0")), Undo: &netutil.Undo{}}
			r.run = &runner{Exchange: Exchange{Stderr: os.Stderr}}
			p := &program{path: filepath.Join(dir, "other"), at: "ipam.type other", request: r}
			ctx := context.Background()
			if c.code != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
			}
			start := time.Now()
			_, err := p.call(ctx, verbAdd)
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
			if c.code == 0 && err != nil || c.code != 0 && (err == nil || errcode.Of(err) != c.code) {
				t.Errorf("got %v, want code %d", err, c.code)
			}
			endChild(t, filepath.Join(dir, "child"))
		})
	}
}

// endChild ends the process whose number is in the file, if there is one.
func endChild(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}
