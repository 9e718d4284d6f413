package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles/roletest"
)

// The tests of this file call plugins with what nobody sends by mistake. Whatever it is, the answer is an error with a code that names what is
// wrong, or a success that DEL takes away; nothing else changes, and neither time nor memory runs out.

// hostileRoles are called in the configurations of typedConfs.
func hostileRoles() []string {
	return []string{"bandwidth", "bridge", "cnibox", "dhcp", "flannel", "host-local", "portmap", "tuning", "vxlan"}
}

// eachHostile runs a test for each of the roles.
func eachHostile(t *testing.T, test func(*typedNode)) {
	t.Helper()
	for _, role := range hostileRoles() {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			test(newTypedNode(t, role, typedConfs()[role]))
		})
	}
}

// oneByOne is eachHostile for what takes much memory.
func oneByOne(t *testing.T, test func(*typedNode)) {
	t.Helper()
	for _, role := range hostileRoles() {
		t.Run(role, func(t *testing.T) { test(newTypedNode(t, role, typedConfs()[role])) })
	}
}

const verbsOfAll = "ADD CHECK DEL GC STATUS"

// hostileNames are no names, neither of containers nor of networks nor of interfaces.
func hostileNames() []string {
	return []string{
		"../../etc/passwd", "..", ".", "/", "/etc", "a/b", "a\x00b", "\x00", "a\nb", "\n", "a b", "a\tb", "\x7f", "%s%n",
		strings.Repeat("../", 50_000), "\xff\xfe", "a\r\nb",
	}
}

// Names with which a plugin could be led out of its folders, or out of a line of its own, are refused by each verb that reads them.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	eachHostile(t, func(n *typedNode) {
		before := n.state()
		ids := append(hostileNames(), "-id", "_id", "ïd", "名前")
		for _, verb := range []string{"ADD", "CHECK", "DEL"} {
			for _, id := range ids {
				n.wantCode(verb, map[string]string{"CNI_CONTAINERID": id}, n.base, errcode.InvalidEnvironment, "CNI_CONTAINERID: ")
			}
			for _, name := range append(hostileNames(), strings.Repeat("e", 300), "all", "eth:0") {
				n.wantCode(verb, map[string]string{"CNI_IFNAME": name}, n.base, errcode.InvalidEnvironment, "CNI_IFNAME: ")
			}
		}
		for verb := range strings.FieldsSeq(verbsOfAll) {
			for _, name := range ids {
				conf := with(n.base, []string{"name"}, quoted(t, name))
				n.wantCode(verb, nil, conf, errcode.InvalidConfig, "name: ")
			}
		}
		if now := n.state(); now != before {
			t.Errorf("changed%s", lineDiff(before, now))
		}
	})
}

func quoted(t *testing.T, s string) string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wantCode makes a call in process, where variables can hold what no program can be started with, and wants an error.
func (n *typedNode) wantCode(verb string, env map[string]string, conf any, code uint, begins string) {
	n.t.Helper()
	err := n.tryWith(verb, env, conf)
	shown := fmt.Sprintf("%s with %.60q", verb, fmt.Sprint(env, conf))
	switch {
	case err == nil:
		n.t.Errorf("%s: no error", shown)
	case errcode.Of(err) != code || !strings.HasPrefix(err.Error(), begins):
		n.t.Errorf("%s: code %d: %.200s", shown, errcode.Of(err), err)
	case len(err.Error()) > 5000:
		n.t.Errorf("%s: the error has %d bytes", shown, len(err.Error()))
	}
}

func (n *typedNode) tryWith(verb string, env map[string]string, conf any) error {
	n.t.Helper()
	text, err := json.Marshal(conf)
	if err != nil {
		n.t.Fatal(err)
	}
	c := roletest.Call{Verb: verb, Role: n.role, Conf: string(text), IfName: ifName(n.role), Env: env}
	if verb != "GC" && verb != "STATUS" {
		c.Pod = n.pod
	}
	_, err = n.Do(c)
	return err
}

// What is allowed, however odd, can be attached, and DEL takes it away.
func TestOddNames(t *testing.T) {
	t.Parallel()
	eachHostile(t, func(n *typedNode) {
		if !n.attaches {
			return
		}
		n.must("ADD", n.base) // shared folders and tables stay
		n.must("DEL", n.base)
		before := n.state()
		for _, env := range []map[string]string{
			{"CNI_CONTAINERID": "a" + strings.Repeat("-", 300)},
			{"CNI_CONTAINERID": strings.Repeat("f", 120_000)},
			{"CNI_CONTAINERID": "a...........b"},
			{"CNI_IFNAME": "-eth0"},
			{"CNI_IFNAME": "$(reboot)"},
			{"CNI_IFNAME": "+"},
			{"CNI_IFNAME": "éé;|&`"},
			{"CNI_IFNAME": "..."},
			{"CNI_ARGS": strings.Repeat("A=B;", 250_000)},
			{"CNI_ARGS": "A=" + strings.Repeat("x", 1_000_000)},
			{"CNI_ARGS": "\x00=\xff;../=/\n"},
		} {
			if n.behind && env["CNI_IFNAME"] != "" {
				continue // the interface is another plugin's
			}
			err := n.tryWith("ADD", env, n.base)
			if err != nil {
				n.t.Errorf("ADD with %.60q: %.300s", fmt.Sprint(env), err)
			}
			if err := n.tryWith("DEL", env, n.base); err != nil {
				n.t.Errorf("DEL with %.60q: %.300s", fmt.Sprint(env), err)
			}
			n.wantState(before, fmt.Sprintf("%.60q", fmt.Sprint(env)))
		}
	})
}

// What is wrong in CNI_ARGS is not shown: it can be a part of a secret.
func TestHostileArgs(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"host-local", "bridge", "cnibox"} {
		n := newTypedNode(t, role, typedConfs()[role])
		before := n.state()
		for _, args := range []string{"secret", "IP=10.44.0.2;secret", "=secret", "K=V;=;secret", strings.Repeat("secret", 200_000)} {
			err := n.tryWith("ADD", map[string]string{"CNI_ARGS": args}, n.base)
			if errcode.Of(err) != errcode.InvalidEnvironment || !strings.Contains(err.Error(), "CNI_ARGS: number ") || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s with %.40q: %.300v", role, args, err)
			}
		}
		if now := n.state(); now != before {
			t.Errorf("changed%s", lineDiff(before, now))
		}
	}
}

// How long a call may take that does not hang, and how much memory (RLIMIT_DATA, KiB), of which the Go runtime asks for 64 MiB at a time: as a
// rule, and for as many things as fit into a configuration.
const (
	notHanging  = 2 * time.Minute
	mostMemory  = 192 << 10
	mostForMany = 448 << 10
)

// limited calls the built executable with a limit to its memory, and gives what it said. Killed for time or memory, it says nothing.
func (n *typedNode) limited(verb, netns string, stdin []byte) reply {
	n.t.Helper()
	return n.within(mostMemory, verb, netns, stdin)
}

func (n *typedNode) within(memory int, verb, netns string, stdin []byte) reply {
	n.t.Helper()
	return n.withShell(fmt.Sprintf("ulimit -d %d", memory), verb, netns, stdin)
}

// withShell calls the built executable after a command of the shell.
func (n *typedNode) withShell(before, verb, netns string, stdin []byte) reply {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), notHanging)
	defer cancel()
	var stdout, stderr bytes.Buffer
	farm, err := testFarm()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", before+" && exec "+filepath.Join(farm, n.role))
	cmd.Env = []string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + n.pod.Name, "CNI_IFNAME=" + ifName(n.role), "CNI_NETNS=" + netns, "CNI_PATH=" + farm,
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	_ = n.Host.Do(cmd.Run)
	a := readReply(cmd.ProcessState.ExitCode(), stdout.Bytes(), stderr.Bytes())
	if stderr.Len() > 0 {
		n.t.Errorf("%s: on stderr: %.500s", verb, &stderr)
	}
	return a
}

// Configurations that are long, deep, torn, or that say a thing twice.
func TestHostileConfigurations(t *testing.T) {
	t.Parallel()
	fill := func(front, piece, end string, size int) []byte {
		return []byte(front + strings.Repeat(piece, (size-len(front)-len(end))/len(piece)) + end)
	}
	eachHostile(t, func(n *typedNode) {
		text, err := json.Marshal(n.base)
		if err != nil {
			t.Fatal(err)
		}
		verbs, much := "ADD", 3<<20
		if n.role == "bridge" { // what reads it is the same for all
			verbs, much = verbsOfAll, 10<<20
		}
		open := strings.TrimSuffix(string(text), "}")
		before := n.state()
		for what, c := range map[string]struct {
			stdin []byte
			want  string
		}{
			"long":     {fill(open+`, "x": "`, "x", `"}`, much), "longer than"},
			"endless":  {fill("", "\n", "", much), "longer than"},
			"deep":     {fill("", "[", "", much), "longer than"},
			"deeper":   {fill(open+`, "x": `, "[", "", 1<<20), "max depth"},
			"torn":     {text[:len(text)-1], "not JSON"},
			"nothing":  {nil, "not JSON"},
			"no text":  {[]byte("\x00\xff\xfe"), "not JSON"},
			"two":      {append(slices.Clone(text), text...), "not JSON"},
			"twice":    {[]byte(open + `, "name": "other", "name": "../x"}`), "name: "},
			"numerous": {fill(open+`, "name": `, "9", "}", 1<<20), "name: "},
			"no name":  {fill(open+`, "name": "`, "/", `"}`, 1<<20), "name: "},
		} {
			for verb := range strings.FieldsSeq(verbs) {
				a := n.limited(verb, n.pod.Path, c.stdin)
				if what == "numerous" && (verb == "DEL" || verb == "GC") {
					continue // they go by the name before it
				}
				if a.err == nil || !strings.Contains(a.err.Error(), c.want) || len(a.err.Error()) > 10_000 {
					t.Errorf("%s of what is %s: %.500v", verb, what, a.err)
				}
			}
			if n.role != "bridge" {
				continue
			}
			if a := n.limited("VERSION", "", c.stdin); a.err != nil {
				t.Errorf("VERSION of what is %s: %v", what, a.err)
			}
		}
		if now := n.state(); now != before {
			t.Errorf("changed%s", lineDiff(before, now))
		}
	})
}

// Lists of as many elements as a configuration can have: whatever comes of it, there is enough memory, and DEL takes it away.
func TestLongLists(t *testing.T) {
	t.Parallel()
	oneByOne(t, func(n *typedNode) {
		keys := map[string][2]string{
			"host-local": {"routes", "{},"}, "bridge": {"vlanTrunk", "{},"}, "portmap": {"portMappings", "{},"}, "cnibox": {"plugins", "{},"},
			"vxlan": {"peers", "{},"}, "bandwidth": {"unshapedSubnets", `"",`}, "flannel": {"delegate", "1,"}, "tuning": {"sysctl", "1,"}, "dhcp": {"request", "{},"},
		}
		key := keys[n.role]
		const most = 2 << 20 // what the runner reads
		list := "[" + strings.Repeat(key[1], (most-10_000)/len(key[1])) + "{}]"
		at := map[string][]string{
			"host-local": {"ipam", "routes"}, "portmap": {"runtimeConfig", "portMappings"}, "dhcp": {"ipam", "request"},
		}[n.role]
		if at == nil {
			at = []string{key[0]}
		}
		text, err := json.Marshal(with(n.base, at, list))
		if err != nil {
			t.Fatal(err)
		}
		for verb := range strings.FieldsSeq(verbsOfAll) {
			a := n.within(mostForMany, verb, n.pod.Path, text)
			if a.err != nil && (strings.Contains(a.err.Error(), errNotTold.Error()) || len(a.err.Error()) > 10_000) {
				t.Errorf("%s: %.1000v", verb, a.err)
			}
		}
	})
}

// A namespace's path that leads to anything else is refused, and not waited for. DEL takes it for gone.
func TestHostileNamespaces(t *testing.T) {
	t.Parallel()
	eachHostile(t, func(n *typedNode) {
		text, err := json.Marshal(n.base)
		if err != nil {
			t.Fatal(err)
		}
		checked, err := json.Marshal(with(n.base, []string{"prevResult", "cniVersion"}, `"1.1.0"`))
		if err != nil {
			t.Fatal(err)
		}
		before, dir := n.state(), t.TempDir()
		for _, what := range []string{"pipe", "file", "folder", "socket", "loop", "dangling link", "other kind", "/dev/zero", "/proc/self/mem", "relative"} {
			path := hostilePath(t, dir, what)
			for verb, text := range map[string][]byte{"ADD": text, "CHECK": checked} {
				if a := n.limited(verb, path, text); a.err == nil || !strings.HasPrefix(a.err.Error(), "code 8: ") || !strings.Contains(a.err.Error(), `"CNI_NETNS: `) {
					t.Errorf("%s with %s as CNI_NETNS: %v", verb, what, a.err)
				}
			}
			if a := n.limited("DEL", path, text); a.err != nil && !strings.Contains(a.err.Error(), path) && !strings.Contains(a.err.Error(), "dhcp daemon") {
				t.Errorf("DEL with %s as CNI_NETNS: %v", what, a.err)
			}
		}
		if n.base["prevResult"] == nil { // else the other plugin's attachment is still there, and DEL has taken this one's from none
			n.wantState(before, "DELs")
		}
		link := filepath.Join(dir, "link")
		symlink(t, n.pod.Path, link)
		if !n.attaches {
			return
		}
		if a := n.limited("ADD", link, text); a.err != nil {
			t.Errorf("ADD by way of a link: %v", a.err)
		}
	})
}

// hostilePath makes something that is no namespace, and no configuration either.
func hostilePath(t *testing.T, dir, what string) string {
	t.Helper()
	if what[0] == '/' {
		return what
	}
	path := filepath.Join(dir, strings.ReplaceAll(what, " ", "-"))
	if _, err := os.Lstat(path); err == nil {
		return path
	}
	var err error
	switch what {
	case "pipe":
		err = unix.Mkfifo(path, 0o600)
	case "file":
		err = os.WriteFile(path, []byte("text\n"), 0o600)
	case "folder":
		err = os.Mkdir(path, 0o700)
	case "socket":
		err = unix.Mknod(path, unix.S_IFSOCK|0o600, 0)
	case "loop":
		err = os.Symlink(path, path)
	case "dangling link":
		err = os.Symlink(path+"/nowhere", path)
	case "other kind":
		return "/proc/self/ns/uts"
	case "relative":
		return "../../../nowhere"
	case "sparse":
		if err = os.WriteFile(path, nil, 0o600); err == nil {
			err = os.Truncate(path, 10<<30)
		}
	case "everybody's":
		err = writeMode(path, 0o666)
	case "group's":
		err = writeMode(path, 0o620)
	case "user's":
		if err = writeMode(path, 0o644); err == nil {
			err = os.Chown(path, 1000, 1000)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// writeMode writes a file that would be right if nobody else could have written it.
func writeMode(path string, mode fs.FileMode) error {
	text := "FLANNEL_NETWORK=10.46.0.0/16\nFLANNEL_SUBNET=10.46.1.1/30\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
	if filepath.Base(filepath.Dir(path)) == "peersFile" {
		text = `[{"name": "b", "underlay": ["192.0.2.2"], "subnets": ["10.45.0.0/24"]}]`
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// A file that a configuration names is a plain one of a sane size that nobody else writes to, or it is refused; DEL and GC do without it.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	kinds := []string{"pipe", "folder", "socket", "loop", "/dev/zero", "sparse", "everybody's", "group's", "user's"}
	for _, c := range []struct {
		role, key string
		at        []string
		anyones   bool
	}{
		{"vxlan", "peersFile", []string{"peersFile"}, false},
		{"flannel", "subnetFile", []string{"subnetFile"}, false},
		{"host-local", "ipam.resolvConf", []string{"ipam", "resolvConf"}, true},
	} {
		t.Run(c.key, func(t *testing.T) {
			t.Parallel()
			n := newTypedNode(t, c.role, typedConfs()[c.role])
			delete(n.base, "peers")
			n.tidyUp(t)
			before, dir := n.state(), filepath.Join(t.TempDir(), c.key)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, kind := range kinds {
				if c.anyones && strings.HasSuffix(kind, "'s") {
					continue
				}
				path := hostilePath(t, dir, kind)
				text, err := json.Marshal(with(n.base, c.at, quoted(t, path)))
				if err != nil {
					t.Fatal(err)
				}
				a := n.limited("ADD", n.pod.Path, text)
				if a.err == nil || !strings.Contains(a.err.Error(), `"msg":"`+c.key+": ") || !strings.Contains(a.err.Error(), path) {
					t.Errorf("ADD where it is %s: %v", kind, a.err)
				}
				for _, verb := range []string{"DEL", "GC"} {
					gc := bytes.Replace(text, []byte("{"), []byte(`{"cni.dev/valid-attachments": [], `), 1)
					if a := n.limited(verb, n.pod.Path, gc); a.err != nil {
						t.Errorf("%s where it is %s: %v", verb, kind, a.err)
					}
				}
			}
			n.wantState(before, "all")
		})
	}
}

// tidyUp has what stays after a DEL be there: an ADD may fail here.
func (n *typedNode) tidyUp(t *testing.T) {
	t.Helper()
	_ = n.try("ADD", n.base)
	n.must("DEL", n.base)
}
