package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every error code stands in docs/errors.md, under its name, and no other does.
func TestErrorCodesAreDocumented(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "netutil/errcode/errcode.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]string{} // by name
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Names) == 1 && len(spec.Values) == 1 {
			if value, ok := spec.Values[0].(*ast.BasicLit); ok {
				codes[spec.Names[0].Name] = value.Value
			}
		}
		return true
	})
	if len(codes) < 10 {
		t.Fatalf("found only %d codes in the source", len(codes))
	}

	page, err := os.ReadFile("docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| (\w+) \|`).FindAllStringSubmatch(string(page), -1) {
		number, name := row[1], row[2]
		if codes[name] != number {
			t.Errorf("the page gives %s the code %s, the source %q", name, number, codes[name])
		}
		delete(codes, name)
	}
	for name, number := range codes {
		t.Errorf("%s (%s) is not on the page", name, number)
	}
}

// Every target that the Makefile has for people stands in its help.
func TestMakeHelp(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"build", "demo", "e2e", "e2e-kubernetes", "e2e-packages", "dist", "test", "check", "lint", "vuln", "fuzz", "crash", "bench", "bench-quick", "install", "clean"} {
		if !regexp.MustCompile(`(?m)^` + target + `:.* ## \S`).Match(makefile) {
			t.Errorf("make help does not tell of %s", target)
		}
	}
}

// The README tells of every role there is.
func TestReadmeListsRoles(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range roleInfos() {
		if !strings.Contains(string(readme), "| ["+role.Name+"](") {
			t.Errorf("%s is not in the table", role.Name)
		}
	}
}

// Each fault on the page has its tests, and these exist: functions in the folder, or scripts at the path, that their link leads to.
func TestReferenceFaultsHaveTests(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/reference-faults.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| fault") || strings.HasPrefix(line, "| wish") {
			continue
		}
		rows++
		links := regexp.MustCompile(`\[([^\]]+)\]\(([^)]+)\)`).FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(links) == 0 {
			t.Errorf("no test in the row %s", line)
		}
		for _, link := range links {
			if err := findTest(link[1], filepath.Join("docs", link[2])); err != nil {
				t.Errorf("%s: %v", link[0], err)
			}
		}
	}
	if rows < 40 {
		t.Errorf("found only %d rows", rows)
	}
}

// findTest is an error unless the folder has the test function, or the path is the script of that name.
func findTest(name, path string) error {
	if strings.HasSuffix(name, ".txtar") {
		if filepath.Base(path) != name {
			return fmt.Errorf("the link leads to %s", path)
		}
		_, err := os.Stat(path)
		return err
	}
	files, err := filepath.Glob(filepath.Join(path, "*_test.go"))
	if err != nil {
		return err
	}
	for _, file := range files {
		code, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if bytes.Contains(code, []byte("\nfunc "+name+"(t *testing.T) {")) {
			return nil
		}
	}
	return fmt.Errorf("no such function in %s", path)
}

// Every link of a page to a file of the project leads to one.
func TestLinksOfPagesLeadSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)
	pages := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		pages++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, found := range link.FindAllSubmatch(text, -1) {
			to := string(found[1])
			if strings.Contains(to, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), to)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		return nil
	})
	if err != nil || pages < 30 {
		t.Errorf("walked %d pages: %v", pages, err)
	}
}
