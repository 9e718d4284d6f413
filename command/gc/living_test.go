package gc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/nstest"
)

func TestRead(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ab", 32)
	for name, tt := range map[string]struct{ text, has, hasNot string }{
		"lines":      {"# who lives\n\na1\nb2 eth1 # one interface\n", "a1/eth0 b2/eth1 b2/", "b2/eth0 c3/eth0"},
		"ctr":        {long + "\n", long + "/eth0", long[:63] + "/eth0"},
		"json ids":   {`["a1","b2"]`, "a1/eth0 b2/eth9", "c/eth0"},
		"cni":        {`[{"containerID":"a1","ifname":"eth0"},{"containerID":"a1","ifname":"eth1"}]`, "a1/eth0 a1/eth1", "a1/eth2"},
		"crictl":     {`{"items":[{"id":"` + long + `","metadata":{"name":"x"},"state":"SANDBOX_NOTREADY"}]}`, long + "/eth0", "x/eth0"},
		"podman":     {`[{"Id":"` + long + `","Names":["web"],"Pid":7}]`, long + "/eth0", "web/eth0"},
		"docker":     {`{"ID":"abababababab","Names":"web"}` + "\n" + `{"ID":"cdcdcdcdcdcd"}`, long + "/eth0 cdcdcdcdcdcd99/eth0", "abababababac/eth0"},
		"no items":   {`{"items":null}`, "", "a/eth0"},
		"empty":      {"", "", "a/eth0"},
		"empty JSON": {"[]", "", "a/eth0"},
	} {
		l, err := Read("it", strings.NewReader(tt.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for list, want := range map[string]bool{tt.has: true, tt.hasNot: false} {
			for _, a := range strings.Fields(list) {
				id, ifName, _ := strings.Cut(a, "/")
				if l.Has(id, ifName) != want {
					t.Errorf("%s: has %s: %v", name, a, !want)
				}
			}
		}
	}
	for _, text := range []string{"a b c", `[7]`, `[{"name":"x"}]`, `{"items":[{}]}`, `["a"`, `{"items":"a"} x`} {
		if _, err := Read("it", strings.NewReader(text)); err == nil || !strings.HasPrefix(err.Error(), "it: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What is read never leaves somebody out who is named as a whole line.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"a\nb eth0", `[{"containerID":"a"}]`, `{"items":[{"id":"a"}]}`, `["x"] ["y"]`, "#", "[", "{}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Read("it", strings.NewReader(text))
		if err != nil {
			return
		}
		if trimmed := strings.TrimSpace(text); trimmed == "" || trimmed[0] == '{' || trimmed[0] == '[' {
			return
		}
		for line := range strings.Lines(text) {
			if w := strings.Fields(line); len(w) == 1 && !strings.Contains(line, "#") && !l.Has(w[0], "eth0") {
				t.Errorf("%q is not in it", w[0])
			}
		}
	})
}

// Each runtime's sandboxes are told by what it keeps on disk.
func TestRuntimes(t *testing.T) {
	t.Parallel()
	host := nstest.New(t, "host")
	host.VarLib = t.TempDir()
	ids := map[string]string{}
	for i, name := range []string{"task", "nerd", "cri", "storage", "rm", "crio", "docker"} {
		ids[name] = strings.Repeat(string(rune('a'+i)), 64)
	}
	put := func(root, path, text string) {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	has := func(runtime string, want ...string) {
		t.Helper()
		err := host.Do(func() error {
			l, err := FromRuntime(runtime)
			if err != nil {
				return err
			}
			for _, id := range want {
				if !l.Has(id, "eth0") {
					t.Errorf("%s does not have %s", runtime, id)
				}
			}
			if l.Has("somebody", "eth0") {
				t.Errorf("%s has everybody", runtime)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	for _, name := range RuntimeNames() {
		if err := host.Do(func() error { _, err := FromRuntime(name); return err }); err == nil || !strings.Contains(err.Error(), "has not been here") {
			t.Errorf("%s: %v", name, err)
		}
	}
	put(host.RunDir, "containerd/io.containerd.runtime.v2.task/k8s.io/"+ids["task"]+"/config.json", "")
	put(host.RunDir, "containerd/io.containerd.runtime.v2.task/default/"+ids["nerd"]+"/config.json", "")
	put(host.VarLib, "containerd/io.containerd.grpc.v1.cri/sandboxes/"+ids["cri"]+"/hosts", "")
	has("containerd", ids["task"], "default-"+ids["nerd"], ids["cri"])
	put(host.VarLib, "containers/storage/overlay-containers/containers.json", `[{"id":"`+ids["storage"]+`","names":["a"]}]`)
	put(host.VarLib, "containers/storage/overlay-containers/volatile-containers.json", `[{"id":"`+ids["rm"]+`"}]`)
	put(host.RunDir, "containers/storage/vfs-containers/"+ids["crio"]+"/userdata/x", "")
	has("podman", ids["storage"], ids["rm"], ids["crio"])
	put(host.RunDir, "crio/version", "1.30")
	has("crio", ids["storage"], ids["rm"], ids["crio"])
	put(host.VarLib, "docker/containers/"+ids["docker"]+"/config.v2.json", "")
	has("docker", ids["docker"])

	put(host.VarLib, "containers/storage/overlay-containers/containers.json", `[{"id":`)
	if err := host.Do(func() error { _, err := FromRuntime("podman"); return err }); err == nil || !strings.Contains(err.Error(), "containers.json") {
		t.Errorf("a list that cannot be read: %v", err)
	}
}
