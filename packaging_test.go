package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"go.yaml.in/yaml/v3"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// kubernetesObject is what of the manifest's objects is looked at here.
type kubernetesObject struct {
	Kind string
	Data map[string]string
	Spec struct {
		Template struct {
			Spec struct {
				HostNetwork bool `yaml:"hostNetwork"`
				Containers  []struct {
					Image           string
					Args            []string
					SecurityContext struct {
						Privileged   bool
						Capabilities struct{ Drop, Add []string }
					} `yaml:"securityContext"`
					VolumeMounts []struct{ Name, MountPath string } `yaml:"volumeMounts"`
				}
				Volumes []struct {
					Name      string
					ConfigMap struct{ Name string }     `yaml:"configMap"`
					HostPath  struct{ Path string }     `yaml:"hostPath"`
					Other     map[string]map[string]any `yaml:",inline"`
				}
			}
		}
	}
}

// manifest is the objects of the manifest for Kubernetes by their kind.
func manifest(t *testing.T) map[string]kubernetesObject {
	t.Helper()
	text, err := os.ReadFile("packaging/kubernetes/cnibox.yaml")
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]kubernetesObject{}
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o kubernetesObject
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		objects[o.Kind] = o
	}
}

// What the manifest's container is called with is a command line of this program, every path of it is below a volume, and it has no rights.
func TestKubernetesManifestInstalls(t *testing.T) {
	t.Parallel()
	spec := manifest(t)["DaemonSet"].Spec.Template.Spec
	if len(spec.Containers) != 1 || !spec.HostNetwork {
		t.Fatal("want one container, on the host's network")
	}
	c := spec.Containers[0]
	if s := c.SecurityContext; s.Privileged || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || len(s.Capabilities.Add) > 0 {
		t.Errorf("it has more rights than it needs: %+v", s)
	}
	root, args := t.TempDir(), append([]string{"cnibox"}, c.Args...)
	for i, arg := range args {
		if _, path, ok := strings.Cut(arg, "=/"); ok {
			if !slices.ContainsFunc(c.VolumeMounts, func(m struct{ Name, MountPath string }) bool { return strings.HasPrefix("/"+path, m.MountPath) }) {
				t.Errorf("%s is in none of the volumes", arg)
			}
			args[i] = strings.Replace(arg, "=/", "="+root+"/", 1)
		}
	}
	args = slices.DeleteFunc(args, func(arg string) bool { return arg == "--wait" })
	if err := os.Mkdir(filepath.Join(root, "conf"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := manifest(t)["ConfigMap"].Data["node-a.conflist"]
	if err := os.WriteFile(filepath.Join(root, "conf/$(NODE_NAME).conflist"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if code := runCommand(args, &out, &out); code != 0 {
		t.Fatalf("%q exits with %d: %s", args, code, out.String())
	}
	if installed, err := os.ReadFile(filepath.Join(root, "host/etc/cni/net.d/10-cnibox.conflist")); err != nil || string(installed) != conf {
		t.Errorf("installed as configuration: %q (%v)", installed, err)
	}
}

// The configurations of the manifest's two nodes connect their pods.
func TestKubernetesManifestConnects(t *testing.T) {
	t.Parallel()
	nstest.Need(t, "vxlan", "tbf", "ifb")
	data := manifest(t)["ConfigMap"].Data
	var hosts []*fusedHost
	for _, node := range []string{"node-a", "node-b"} {
		if out := findings(t, data[node+".conflist"]); out != "" {
			t.Errorf("%s: %s", node, out)
		}
		h := newFusedHost(t, data[node+".conflist"])
		h.ns.VarLib = t.TempDir()
		hosts = append(hosts, h)
	}
	a, b := hosts[0], hosts[1]
	a.ns.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b.ns.Path)
	for i, h := range hosts {
		h.ns.Run("ip", "addr", "add", []string{"192.0.2.11/24", "192.0.2.12/24"}[i], "dev", "eth0")
		h.ns.Run("ip", "link", "set", "eth0", "up")
	}
	var addrs []string
	for _, h := range hosts {
		h.must("STATUS", "list")
		result, err := types100.NewResultFromResult(h.must("ADD", "list"))
		if err != nil || len(result.IPs) != 1 {
			t.Fatalf("%v, %v", result, err)
		}
		addrs = append(addrs, result.IPs[0].Address.IP.String())
	}
	if !strings.HasPrefix(addrs[0], "10.244.1.") || !strings.HasPrefix(addrs[1], "10.244.2.") {
		t.Errorf("the pods have the addresses %q", addrs)
	}
	for i, h := range hosts {
		h.pod.Run("ping", "-c", "1", "-W", "5", addrs[1-i])
	}
	for _, h := range hosts {
		h.must("DEL", "list")
	}
}
