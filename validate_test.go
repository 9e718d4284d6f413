package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/command/validate"
)

const validateDir = "testdata/validate/"

func validateOptions() validate.Options {
	return validate.Options{Table: roleTable(), Kinds: roleKinds()}
}

// Each broken configuration has its findings beside it, in the file .golden. The command in the first line is that which is run.
func TestValidateBroken(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob(validateDir + "broken/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range cases {
		if filepath.Ext(path) == ".golden" {
			if of, err := filepath.Glob(strings.TrimSuffix(path, "golden") + "*"); err != nil || len(of) < 2 && !isFolder(strings.TrimSuffix(path, ".golden")) {
				t.Errorf("%s is nobody's", path)
			}
			continue
		}
		n++
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			golden := strings.TrimSuffix(path, filepath.Ext(path)) + ".golden"
			want, err := os.ReadFile(golden)
			if err != nil && !*update {
				t.Fatal(err)
			}
			command, _, _ := strings.Cut(string(want), "\n")
			got := validated(t, path, command)
			if !strings.Contains(got, ": error: ") && !strings.Contains(got, ": warning: ") {
				t.Error("nothing was found")
			}
			if string(want) == got {
				return
			}
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s is not what was found:%s", golden, lineDiff(string(want), got))
		})
	}
	if n < 40 {
		t.Errorf("only %d broken configurations", n)
	}
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// validated is what the command says of a path, with the options of a command line, behind the command line itself.
func validated(t *testing.T, path, command string) string {
	t.Helper()
	o, words := validateOptions(), strings.Fields(command)
	shown := "$ cnibox validate"
	for i, word := range words {
		switch word {
		case "--max-pods":
			n, err := strconv.ParseUint(words[i+1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			o.MaxPods = n
		case "--plugin-dir":
			o.Dirs = append(o.Dirs, words[i+1])
		default:
			continue
		}
		shown += " " + word + " " + words[i+1]
	}
	paths, err := validate.List([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	findings, err := validate.Files(paths, o)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := validate.Write(&out, len(paths), findings); err != nil {
		t.Fatal(err)
	}
	return shown + " " + path + "\n" + strings.ReplaceAll(out.String(), filepath.Dir(path)+"/", "")
}

// What other projects' documentation shows, and what their programs write, passes without a word.
func TestValidateGood(t *testing.T) {
	t.Parallel()
	paths, err := validate.List([]string{validateDir + "good"})
	if err != nil || len(paths) < 50 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for _, path := range paths {
		wantNoFindings(t, path)
	}
}

func wantNoFindings(t *testing.T, path string) {
	t.Helper()
	findings, err := validate.Files([]string{path}, validateOptions())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if !strings.HasSuffix(f.Key, ".resolvConf") { // this machine may have none
			t.Errorf("%+v", f)
		}
	}
}

// example is a JSON block of a page.
type example struct {
	page string
	line int
	text string
	keys map[string]json.RawMessage
}

// pageExamples are the configurations in the project's pages. Those of plugins that belong behind another are put there; what is in a list already, or
// is no configuration at all, says so by its keys.
func pageExamples(t *testing.T) (out []example) {
	t.Helper()
	block := regexp.MustCompile("(?s)```json\n(.*?)```")
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "bin" || d.Name() == ".git"):
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		page, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, at := range block.FindAllSubmatchIndex(page, -1) {
			e := example{page: path, line: 1 + bytes.Count(page[:at[0]], []byte("\n")), text: string(page[at[2]:at[3]])}
			if err := json.Unmarshal([]byte(e.text), &e.keys); err != nil {
				return fmt.Errorf("%s:%d: %w", path, e.line, err)
			}
			if e.keys["plugins"] != nil || e.keys["type"] != nil {
				out = append(out, e)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 25 {
		t.Fatalf("only %d examples", len(out))
	}
	return out
}

// Every configuration in the project's own pages is without a fault.
func TestValidatePages(t *testing.T) {
	t.Parallel()
	for _, e := range pageExamples(t) {
		t.Run(fmt.Sprintf("%s:%d", e.page, e.line), func(t *testing.T) {
			t.Parallel()
			text, name := e.text, "10-net.conf"
			var kind string
			_ = json.Unmarshal(e.keys["type"], &kind)
			chained := []string{"bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf"}
			switch {
			case e.keys["type"] == nil:
				name = "10-net.conflist"
			case slices.Contains(chained, kind):
				name = "10-net.conflist"
				text = `{"cniVersion": "1.1.0", "name": "pods", "plugins": [{"type": "bridge"}, ` + text + `]}`
			}
			for _, f := range validate.Text(name, []byte(text), validateOptions()) {
				if !strings.HasSuffix(f.Message, "is not there (yet)") { // a file of the node that the page is about
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// The plugins of a farm are one program, which speaks all versions. What its plugins call in process need not be there by name.
func TestValidateFarm(t *testing.T) {
	t.Parallel()
	farm := t.TempDir()
	if err := os.WriteFile(filepath.Join(farm, ui.Program), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bridge", "portmap"} {
		if err := os.Symlink(ui.Program, filepath.Join(farm, name)); err != nil {
			t.Fatal(err)
		}
	}
	o := validateOptions()
	o.Dirs = []string{farm}
	const list = `{"cniVersion": "1.1.0", "name": "pods", "plugins": [
		{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}},
		{"type": "portmap", "capabilities": {"portMappings": true}}, {"type": "tuning"}]}`
	findings := validate.Text("10-net.conflist", []byte(list), o)
	if len(findings) != 1 || findings[0].Key != "plugins[2].type" || findings[0].Line != 3 {
		t.Errorf("%+v", findings)
	}
}

func TestValidateOutput(t *testing.T) {
	t.Parallel()
	run := func(args ...string) (exit int, stdout string) {
		var out, errs bytes.Buffer
		exit = runCommand(append([]string{"cnibox", "validate", "--plugin-dir", validateDir + "plugins"}, args...), &out, &errs)
		if errs.Len() > 0 {
			t.Errorf("%v: stderr %q", args, &errs)
		}
		return exit, out.String()
	}
	const good, bad = validateDir + "good/cilium.conflist", validateDir + "broken/json-empty.conf"
	for _, tt := range []struct {
		args []string
		exit int
	}{
		{[]string{bad}, ui.ExitFailure},
		{[]string{good, bad}, ui.ExitFailure},
		{[]string{validateDir + "broken/networks-one-bridge"}, ui.ExitFailure},
	} {
		if exit, out := run(tt.args...); exit != tt.exit {
			t.Errorf("%v: exit %d: %s", tt.args, exit, out)
		}
	}
	dir := t.TempDir()
	text := `{"cniVersion": "1.1.0", "name": "x", "type": "bridge", "colour": "blue"}`
	for _, name := range []string{"20-b.conf", "10-a.conf", "README", "99-net.conf.bak"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Replace(text, `"x"`, `"`+name+`"`, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	exit, out := run("-o", "json", dir)
	var findings []validate.Finding
	if err := json.Unmarshal([]byte(out), &findings); err != nil || exit != ui.ExitOK || len(findings) != 2 {
		t.Fatalf("exit %d, %v: %s", exit, err, out)
	}
	want := validate.Finding{File: dir + "/10-a.conf", Line: 1, Column: 64, Severity: validate.Warning, Key: "colour", Message: "unknown key of bridge"}
	if findings[0] != want || findings[1].File != dir+"/20-b.conf" {
		t.Errorf("%+v", findings)
	}
	if exit, _ := run("--strict", dir); exit != ui.ExitFailure {
		t.Errorf("--strict: exit %d", exit)
	}
}

// Whatever a file holds, it is read, and what is found stands where it says.
func FuzzValidate(f *testing.F) {
	for _, dir := range []string{"good", "broken"} {
		files, err := filepath.Glob(validateDir + dir + "/*.*")
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range files {
			if text, err := os.ReadFile(path); err == nil && filepath.Ext(path) != ".golden" {
				f.Add(string(text))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Split(text, "\n")
		for _, name := range []string{"10-net.conflist", "10-net.conf"} {
			for _, found := range validate.Text(name, []byte(text), validateOptions()) {
				switch {
				case found.Line < 1 || found.Line > len(lines), found.Column < 1 || found.Column > 1+len(lines[found.Line-1]):
					t.Errorf("no such place: %+v", found)
				case strings.Contains(found.Message, "10.255.") && !strings.Contains(text, "10.255."):
					t.Errorf("of something that is not there: %+v", found)
				}
			}
		}
	})
}

// The page shows what the command says of one of the broken configurations.
func TestValidatePageShowsFindings(t *testing.T) {
	t.Parallel()
	findings := validated(t, validateDir+"broken/page-configuration.conflist", "")
	_, findings, _ = strings.Cut(findings, "\n")
	shown := strings.ReplaceAll(findings, "page-configuration.conflist", "/etc/cni/net.d/10-net.conflist")
	if page := readPage(t, "docs/configuration.md"); !strings.Contains(page, "\n"+shown+"```") {
		t.Errorf("not on the page:\n%s", shown)
	}
}

// A file that is to be root's is looked at as the plugin would.
func TestValidateTrustsFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "peers.json")
	text := []byte(`{"cniVersion": "1.1.0", "name": "x", "type": "vxlan", "vni": 7, "peersFile": "` + path + `",
		"ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}}`)
	for _, tt := range []struct {
		mode os.FileMode
		want string
	}{{0o600, ""}, {0o666, "others than its owner may write to it"}} {
		if err := errors.Join(os.WriteFile(path, []byte("[]"), 0o600), os.Chmod(path, tt.mode)); err != nil {
			t.Fatal(err)
		}
		findings := validate.Text("10-net.conf", text, validateOptions())
		switch {
		case tt.want == "" && len(findings) == 0:
		case len(findings) != 1 || findings[0].Key != "peersFile" || findings[0].Severity != validate.Warning || !strings.Contains(findings[0].Message, tt.want):
			t.Errorf("%o: %+v", tt.mode, findings)
		}
	}
}

// Plugins of a list may be in files of their own (CNI spec 1.1, loadOnlyInlinedPlugins).
func TestValidatePluginsInAFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "pods"), 0o700); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{
		`{"cniVersion": "1.1.0", "name": "pods"}`:                                 0,
		`{"cniVersion": "1.1.0", "name": "pods", "loadOnlyInlinedPlugins": true}`: 1,
		`{"cniVersion": "1.1.0", "name": "others"}`:                               1,
	} {
		if found := validate.Text(filepath.Join(dir, "10-net.conflist"), []byte(text), validateOptions()); len(found) != want {
			t.Errorf("%s: %+v", text, found)
		}
	}
}
