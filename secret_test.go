package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// secret stands where a configuration or CNI_ARGS hold what is nobody's business.
const secret = "s3cr3t-7b1f"

// withSecrets is a configuration with keys that the role does not know, in each of the places where runtimes put such.
func (n *typedNode) withSecrets(conf any) any {
	places := [][]string{{"token"}, {"args", "cni", "token"}, {"args", "labels"}, {"dns", "token"}}
	if n.role != "flannel" { // which hands these on to its delegate, and keeps them for that one's DEL
		places = append(places, []string{"ipam", "token"}, []string{"runtimeConfig", "token"})
	}
	for _, at := range places {
		if at[0] == "ipam" && n.base["ipam"] == nil {
			continue
		}
		conf = with(conf, at, `"`+secret+`"`)
	}
	return conf
}

// What a plugin has no use for is in no answer, on no stream, in no trace, and in nothing that is kept; neither when all goes well nor when it does not.
func TestSecrets(t *testing.T) {
	t.Parallel()
	eachHostile(t, func(n *typedNode) {
		file := filepath.Join(t.TempDir(), "trace")
		before := "export CNIBOX_TRACE=" + file + " CNI_ARGS='IgnoreUnknown=1;K8S_TOKEN=" + secret + "'"
		call := func(before, verb string, conf any) reply {
			text, err := json.Marshal(conf)
			if err != nil {
				t.Fatal(err)
			}
			a := n.withShell(before, verb, n.pod.Path, text)
			if strings.Contains(string(a.result), secret) {
				t.Errorf("%s answers %s", verb, a.result)
			}
			return a
		}
		conf := n.withSecrets(n.base)
		a := call(before, "ADD", conf)
		if n.attaches && a.err != nil {
			t.Errorf("ADD: %v", a.err)
		}
		if n.attaches {
			call(before, "CHECK", with(conf, []string{"prevResult"}, string(a.result)))
		}
		n.wantNoSecret(n.Host.RunDir)
		n.wantNoSecret(n.Host.VarLib)
		for _, wrong := range [][]string{{"mtu"}, {"ipam"}, {"runtimeConfig"}, {"prevResult"}, {"plugins"}} {
			call(before, "ADD", with(conf, wrong, `"`+secret+`"`))
		}
		call(before+"\nexport CNI_ARGS='K8S_TOKEN=a;"+secret+"'", "ADD", conf)
		call(before, "DEL", conf)
		call(before, "GC", keepNone(conf))
		trace, err := os.ReadFile(file)
		if err != nil || len(trace) == 0 || strings.Contains(string(trace), secret) {
			t.Errorf("the trace (%v): %s", err, trace)
		}
	})
}

// wantNoSecret looks into all files of a folder.
func (n *typedNode) wantNoSecret(dir string) {
	n.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), secret) {
			n.t.Errorf("%s holds %s", path, text)
		}
		return err
	})
	if err != nil {
		n.t.Error(err)
	}
}
