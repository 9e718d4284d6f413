package networks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"20-list.conflist": `{"name":"b","cniVersion":"1.0.0","disableGC":"true","plugins":[{"type":"bridge","ipam":{"type":"host-local"}},{"type":"portmap"}]}`,
		"10-one.conf":      `{"name":"a","type":"ptp","ipam":{"type":"dhcp"}}`,
		"30-fused.json":    `{"name":"c","type":"cnibox","plugins":[{"type":"bridge"},{"type":"firewall"}]}`,
		"40-broken.conf":   `{`,
		"50-empty.conf":    `{"name":"d"}`,
		"60-no-name.conf":  `{"type":"ptp"}`,
		"README":           `nothing`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, bad, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, n := range all {
		got += n.Name + ":"
		for _, p := range n.Plugins {
			got += " " + p.Type + "/" + p.IPAM
		}
		got += "\n"
	}
	if want := "a: ptp/dhcp\nb: bridge/host-local portmap/\nc: bridge/ firewall/\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(all) == 3 && (!all[1].DisableGC || all[0].DisableGC || !all[0].Plugins[0].Single || all[1].Plugins[0].Single) {
		t.Errorf("got %+v", all)
	}
	if len(bad) != 3 || !strings.Contains(bad[0].Err.Error(), "not JSON") || !strings.Contains(bad[1].Err.Error(), "plugins: missing") || !strings.Contains(bad[2].Err.Error(), "name: missing") {
		t.Errorf("bad: %+v", bad)
	}
	if all, bad, err := Load(filepath.Join(dir, "missing")); err != nil || all != nil || bad != nil {
		t.Errorf("%v, %v, %v", all, bad, err)
	}
}

// What is read has a name and plugins with types, however it is nested.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"name":"a","type":"ptp"}`, `{"name":"a","plugins":[{"type":"x"},{"type":"cnibox","plugins":[{"type":"y"}]}]}`, `{"name":"a","plugins":[7]}`,
		`{"name":"a","type":"cnibox","plugins":[{"type":"cnibox","plugins":[{}]}]}`, `[]`, `null`, `{"name":"a","disableGC":{}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := Parse(text)
		if err != nil {
			return
		}
		if n.Name == "" || len(n.Plugins) == 0 {
			t.Fatalf("%+v", n)
		}
		for _, p := range n.Plugins {
			if p.Type == "" || len(p.Conf) == 0 {
				t.Fatalf("%+v", p)
			}
		}
	})
}
