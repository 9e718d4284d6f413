package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

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
		t.Errorf("%+v", f)
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
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			wantNoFindings(t, path)
		})
	}
}
