package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// fusedHost is a host with one pod, on which libcni, as a runtime, calls the plugins of a list, or the list's fused form.
type fusedHost struct {
	t     *testing.T
	ns    *nstest.NS
	pod   *nstest.NS
	data  string // host-local's
	cni   *libcni.CNIConfig
	forms map[string]*libcni.NetworkConfigList
	args  map[string]any // what the runtime has for each capability
}

// newFusedHost makes a host for the list, in which DATA stands for the folder of addresses. Plugins are looked for in dirs before the farm.
func newFusedHost(t *testing.T, list string, dirs ...string) *fusedHost {
	t.Helper()
	farm, err := testFarm()
	if err != nil {
		t.Fatal(err)
	}
	h := &fusedHost{t: t, ns: nstest.New(t, "host"), pod: nstest.New(t, "pod"), data: t.TempDir()}
	h.cni = libcni.NewCNIConfigWithCacheDir(append(dirs, farm), t.TempDir(), nil)
	path := filepath.Join(t.TempDir(), "net.conflist")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(list, "DATA", h.data)), 0o600); err != nil {
		t.Fatal(err)
	}
	fused := filepath.Join(filepath.Dir(path), "fused.conflist")
	if out, err := exec.Command(filepath.Join(farm, "cnibox"), "fuse", "--output", fused, path).CombinedOutput(); err != nil {
		t.Fatalf("cnibox fuse: %v\n%s", err, out)
	}
	h.forms = map[string]*libcni.NetworkConfigList{"list": h.read(path), "fused": h.read(fused)}
	h.args = map[string]any{
		"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80}, {"hostPort": 8053, "containerPort": 53, "protocol": "udp"}},
		"other":        true,
	}
	return h
}

func (h *fusedHost) read(path string) *libcni.NetworkConfigList {
	h.t.Helper()
	list, err := libcni.NetworkConfFromFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

func (h *fusedHost) runtime() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: "pod", NetNS: h.pod.Path, IfName: "eth0", CapabilityArgs: h.args, Args: [][2]string{{"IgnoreUnknown", "1"}},
	}
}

// call makes a call of a form of the list. Of ADD it returns the result.
func (h *fusedHost) call(verb, form string) (result types.Result, err error) {
	ctx, list := context.Background(), h.forms[form]
	err = h.ns.Do(func() error {
		var err error
		switch verb {
		case "ADD":
			result, err = h.cni.AddNetworkList(ctx, list, h.runtime())
		case "CHECK":
			err = h.cni.CheckNetworkList(ctx, list, h.runtime())
		case "DEL":
			err = h.cni.DelNetworkList(ctx, list, h.runtime())
		case "STATUS":
			err = h.cni.GetStatusNetworkList(ctx, list)
		case "GC":
			valid := []types.GCAttachment{{ContainerID: "pod", IfName: "eth0"}}
			err = h.cni.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: valid})
		case "GC of all":
			// The runtime has lost its cache: else it would call DEL.
			lost := libcni.NewCNIConfigWithCacheDir(h.cni.Path, h.t.TempDir(), nil)
			err = lost.GCNetworkList(ctx, list, &libcni.GCArgs{})
		}
		return err
	})
	return result, err
}

func (h *fusedHost) must(verb, form string) types.Result {
	h.t.Helper()
	result, err := h.call(verb, form)
	if err != nil {
		h.t.Fatalf("%s of %s: %v", verb, form, err)
	}
	return result
}

// add attaches the pod and tells all that can be seen of it: the result, the pod, the packet filter and the files.
func (h *fusedHost) add(form string) string {
	h.t.Helper()
	result, err := json.MarshalIndent(h.must("ADD", form), "", " ")
	if err != nil {
		h.t.Fatal(err)
	}
	seen := []string{
		string(result), h.pod.Run("ip", "addr", "show", "eth0"), h.pod.Run("ip", "route"), h.pod.Run("ip", "-6", "route"),
		lines(h.ns.Run("nft", "list", "ruleset")), h.files(),
	}
	// What is another one on each host: the namespaces, the indexes of links, and the MAC addresses that the kernel chose for the host's links.
	text := strings.NewReplacer(h.pod.Path, "POD", h.data, "DATA").Replace(strings.Join(seen, "\n"))
	text = regexp.MustCompile(`(?m)"mac": "(..:){5}..",?$|eth0@if\d+|^\d+:|link-netns .*`).ReplaceAllString(text, "")
	return text
}

// lines sorts the lines and elements of a listing: the order of elements is the kernel's.
func lines(listing string) string {
	var out []string
	for _, line := range strings.FieldsFunc(listing, func(r rune) bool { return r == '\n' || r == ',' }) {
		out = append(out, strings.Trim(strings.TrimPrefix(strings.TrimSpace(line), "elements = "), "{ }"))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// files are host-local's, without the index.
func (h *fusedHost) files() string {
	h.t.Helper()
	var out []string
	err := filepath.WalkDir(h.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() == ".cnibox" {
			return filepath.SkipDir
		}
		if d.IsDir() {
			return nil
		}
		text, err := os.ReadFile(path)
		out = append(out, fmt.Sprintf("%s: %q", strings.TrimPrefix(path, h.data), text))
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.Join(out, "\n")
}

// wantClean wants nothing to be left of the attachment.
func (h *fusedHost) wantClean() {
	h.t.Helper()
	if leaks, err := h.ns.Leaks("br0"); err != nil || len(leaks) > 0 {
		h.t.Errorf("left behind: %q (%v)", leaks, err)
	}
	if strings.Contains(h.files(), "eth0") {
		h.t.Errorf("addresses are left: %s", h.files())
	}
}

// By its own name the executable is the plugin only for a runtime.
func TestDispatch(t *testing.T) {
	t.Parallel()
	executable := builtExecutable(t)
	for _, tt := range []struct{ env, args, want string }{
		{"", "", "Commands:"},
		{"", "version", "cnibox "},
		{"CNI_COMMAND=VERSION", "version", "CNI 0.1.0, "},
		{"", "cnibox", "cnibox as the CNI plugin cnibox: to be called by"},
		{"CNI_COMMAND=VERSION", "", `"supportedVersions"`},
		{"CNI_COMMAND=VERSION", "cnibox", `"supportedVersions"`},
		{"CNI_COMMAND=VERSION", "bridge", `"supportedVersions"`},
		{"CNI_COMMAND=STATUS", "", `"code":4`},
	} {
		cmd := exec.Command(executable, strings.Fields(tt.args)...)
		cmd.Env = []string{tt.env}
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), tt.want) {
			t.Errorf("%s cnibox %s: %s", tt.env, tt.args, out)
		}
	}
}

const chain = `{
	"cniVersion": "%s", "name": "net", "plugins": [
		{
			"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
			"ipam": {
				"type": "host-local", "dataDir": "DATA", "ranges": [[{"subnet": "10.10.0.0/24"}], [{"subnet": "fd10::/64"}]],
				"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
			}
		},
		{"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
	]
}`

// A list and its fused form answer the same and leave the same behind, and each checks and deletes what the other has attached.
func TestFusedIsTheList(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"0.2.0", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			h := newFusedHost(t, fmt.Sprintf(chain, version))
			other := newFusedHost(t, fmt.Sprintf(chain, version))
			list, fused := h.add("list"), other.add("fused")
			if list != fused {
				t.Errorf("the list leaves\n%s\nand its fused form\n%s", list, fused)
			}
			for _, want := range []string{"8080", "8053", "masquerade", "fd10::2", "pod\\r\\neth0"} {
				if !strings.Contains(fused, want) {
					t.Fatalf("no %s in\n%s", want, fused)
				}
			}
			if version != "0.2.0" {
				h.must("CHECK", "fused")
				other.must("CHECK", "list")
				other.ns.Run("nft", "flush", "map", "inet", "cnibox", "ports_ipv4")
				if _, err := other.call("CHECK", "fused"); err == nil || !strings.Contains(err.Error(), "plugins[1] portmap: ") {
					t.Errorf("CHECK of a pod without port mappings: %v", err)
				}
			}
			h.must("DEL", "fused")
			h.wantClean()
			other.must("DEL", "list")
			other.wantClean()
			h.must("DEL", "fused") // once more
		})
	}
}

// GC of either form removes what the other has attached, but for what is valid.
func TestFusedCollects(t *testing.T) {
	t.Parallel()
	for adds, collects := range map[string]string{"list": "fused", "fused": "list"} {
		t.Run(collects, func(t *testing.T) {
			t.Parallel()
			h := newFusedHost(t, fmt.Sprintf(chain, "1.1.0"))
			h.must("ADD", adds)
			h.must("STATUS", collects)
			h.must("GC", collects)
			h.must("CHECK", collects)
			h.must("GC of all", collects)
			h.wantClean()
		})
	}
}

// foreignPlugin is a plugin "other" that notes what it is called with in the file calls beside it, answers ADD with an address, and fails
// where a file named after the verb says so.
func foreignPlugin(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	const text = `#!/bin/sh
cd "${0%/*}"
{ env | grep ^CNI_ | sort; cat; echo; echo; } >>calls
echo "$TRACEPARENT" >parent
if [ -e "$CNI_COMMAND" ]; then
	echo '{"code": 123, "msg": "it is broken"}'
	exit 1
fi
[ "$CNI_COMMAND" != ADD ] || echo '{
	"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "'"$CNI_NETNS"'"}], "ips": [{"interface": 0, "address": "10.1.1.1/24"}]
}'
`
	syscall.ForkLock.RLock() // a child that another test starts meanwhile would keep the file from being started
	err := os.WriteFile(filepath.Join(dir, "other"), []byte(text), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// calls are what the foreign plugin has noted, and forgotten with that: of each call the variables, and the configuration in one form.
func (h *fusedHost) calls(dir string) (out []string) {
	h.t.Helper()
	path := filepath.Join(dir, "calls")
	text, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		h.t.Fatal(err)
	}
	same := strings.NewReplacer(h.pod.Path, "POD", dir, "DIR").Replace(string(text))
	for call := range strings.SplitSeq(strings.TrimSpace(same), "\n\n") {
		variables, conf, _ := strings.Cut(call, "{")
		var keys map[string]any
		if err := json.Unmarshal([]byte("{"+conf), &keys); err != nil {
			h.t.Fatalf("%v: %s", err, call)
		}
		one, err := json.MarshalIndent(keys, "", " ")
		if err != nil {
			h.t.Fatal(err)
		}
		out = append(out, variables+string(one))
	}
	return out
}

const foreignChain = `{
	"cniVersion": "1.1.0", "name": "net", "plugins": [
		{"type": "other", "capabilities": {"other": true, "portMappings": false}, "runtimeConfig": {"old": 1}, "number": 12345678901234567890},
		{"type": "portmap", "capabilities": {"portMappings": true}},
		{"type": "other", "name": "mine", "cniVersion": "0.3.0", "capabilities": {"unknown": true}, "runtimeConfig": {"old": 1}}
	]
}`

// A foreign plugin of the list is called as the runtime itself would call it, with all verbs.
func TestFusedCallsForeignPlugins(t *testing.T) {
	t.Parallel()
	lists, fuseds := foreignPlugin(t), foreignPlugin(t)
	list, fused := newFusedHost(t, foreignChain, lists), newFusedHost(t, foreignChain, fuseds)
	for _, verb := range []string{"STATUS", "ADD", "CHECK", "GC", "DEL"} {
		list.must(verb, "list")
		fused.must(verb, "fused")
		want, got := list.calls(lists), fused.calls(fuseds)
		if len(want) != 2 || !slices.Equal(want, got) {
			t.Errorf("%s: the runtime calls with\n%s\nthe fused form with\n%s", verb, strings.Join(want, "\n"), strings.Join(got, "\n"))
		}
	}
	fused.wantClean()
}

// An ADD that fails leaves nothing behind of the plugins before, and the error is that of the plugin that failed. DEL goes on after one.
func TestFusedFailure(t *testing.T) {
	t.Parallel()
	dir := foreignPlugin(t)
	const list = `{
		"cniVersion": "1.1.0", "name": "net", "plugins": [
			{"type": "bridge", "bridge": "br0", "ipam": {"type": "host-local", "dataDir": "DATA", "subnet": "10.10.0.0/24"}},
			{"type": "portmap", "capabilities": {"portMappings": true}},
			{"type": "other"}
		]
	}`
	h := newFusedHost(t, list, dir)
	flag := func(verb string) {
		if err := os.WriteFile(filepath.Join(dir, verb), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flag("ADD")
	wantBroken := func(verb string) {
		t.Helper()
		_, err := h.call(verb, "fused")
		var e *types.Error
		if !errors.As(err, &e) || e.Code != 123 || e.Msg != "plugins[2] other: it is broken" {
			t.Errorf("%s: %v", verb, err)
		}
	}
	wantBroken("ADD")
	h.wantClean()
	if calls := h.calls(dir); len(calls) != 2 || !strings.Contains(calls[1], "CNI_COMMAND=DEL") || strings.Contains(calls[1], "prevResult") {
		t.Errorf("the plugin that failed was called with\n%s", strings.Join(calls, "\n"))
	}

	if err := os.Remove(filepath.Join(dir, "ADD")); err != nil {
		t.Fatal(err)
	}
	flag("DEL")
	h.must("ADD", "fused")
	wantBroken("DEL")
	h.wantClean()
}
