package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
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
	for _, target := range []string{"build", "demo", "test", "check", "lint", "fuzz", "bench", "bench-quick", "install", "clean"} {
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
