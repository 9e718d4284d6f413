package install

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Plugins in whose place others stand are left out and named; the rest is installed.
func TestInstallSkipsForeign(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	foreignProgram(t, filepath.Join(dir, "ptp"))
	self, err := os.Open(newProgram(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = self.Close() }()
	var out strings.Builder
	how := installation{dir: dir, names: []string{"bridge", "cnibox", "ptp"}, skip: true}
	if err := install(&out, self, how); err != nil || !strings.Contains(out.String(), "left alone: ptp\n") {
		t.Errorf("%v, and it said %s", err, out.String())
	}
	wantListing(t, dir, "bridge -> cnibox", "cnibox: new", "ptp: foreign ptp")

	dir = t.TempDir()
	foreignProgram(t, filepath.Join(dir, "cnibox"))
	how.dir = dir
	if err := install(io.Discard, self, how); err == nil {
		t.Error("it replaced a foreign program of the executable's name, or did without it")
	}
	wantListing(t, dir, "cnibox: foreign cnibox")
}

var confTests = []struct{ name, conf, fails string }{
	{"list", `{"name": "podnet", "plugins": [{"type": "bridge"}]}`, ""},
	{"single", `{"name": "podnet", "type": "bridge"}`, ""},
	{"no JSON", `{"name": "podnet", "plugins": [`, "unexpected end"},
	{"no name", `{"plugins": [{"type": "bridge"}]}`, "name: missing"},
	{"no plugins", `{"name": "podnet", "plugins": []}`, "plugins: empty"},
	{"no type", `{"name": "podnet"}`, `type: "" is no plugin's name`},
	{"type leads out", `{"name": "podnet", "type": "../bridge"}`, "is no plugin's name"},
	{"plugin that is not there", `{"name": "podnet", "plugins": [{"type": "bridge"}, {"type": "bogus"}]}`, `plugin "bogus"`},
}

// A configuration that no runtime could use changes nothing.
func TestInstallConf(t *testing.T) {
	t.Parallel()
	for _, tt := range confTests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c := &confFile{from: filepath.Join(dir, "from"), to: filepath.Join(dir, "net.d/10-cnibox.conflist"), farm: dir}
			symlink(t, "/", filepath.Join(dir, "bridge"))
			write := func(path, text string) {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(filepath.Dir(c.to), 0o700); err != nil {
				t.Fatal(err)
			}
			write(c.from, tt.conf)
			write(c.to, "old")
			changed, err := c.install(io.Discard)
			want := tt.conf
			if tt.fails != "" {
				want = "old"
			}
			if (err == nil) != (tt.fails == "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("error %v, want %q", err, tt.fails)
			}
			if got, err := os.ReadFile(c.to); err != nil || string(got) != want || changed != (want != "old") {
				t.Errorf("the file holds %q (%v), changed: %v", got, err, changed)
			}
			if again, err := c.install(io.Discard); err == nil && again {
				t.Error("written again without need")
			}
			wantListing(t, filepath.Dir(c.to), "10-cnibox.conflist: "+want)
		})
	}
}

func FuzzConfTypes(f *testing.F) {
	for _, tt := range confTests {
		f.Add([]byte(tt.conf))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		types, err := confTypes(text)
		if err == nil && len(types) == 0 {
			t.Error("neither plugins nor an error")
		}
	})
}
