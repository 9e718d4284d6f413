package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

// This file finds the keys of each role where they are declared, so that a test of all keys is one of new keys as well.

// confKey is a key that a role reads.
type confKey struct {
	at   []string // the way to it from the top; "[]" is an element of a list, "*" any key of an object
	kind string   // what belongs there: string, bool, int, uint, list, object; or raw, if the role itself looks at the JSON
}

// String is the key as a README has it.
func (k confKey) String() string {
	return strings.ReplaceAll(strings.Join(k.at, "."), ".[]", "[]")
}

// roleKeys are the keys of the role's struct conf, and those that the runner reads.
func roleKeys(t *testing.T, role string) []confKey {
	t.Helper()
	f := &keyFinder{t: t, packages: map[string]*keyPackage{}}
	keys := f.find("roles", ast.NewIdent("common"))
	dir := roleFolder(t, role)
	if f.load(dir).types["conf"] != nil { // loopback has none
		keys = append(keys, f.find(dir, ast.NewIdent("conf"))...)
	}
	if role == "cnibox" {
		keys = append(keys, f.find(dir, ast.NewIdent("plugin"), "plugins", "[]")...)
	}
	slices.SortFunc(keys, func(a, b confKey) int { return strings.Compare(a.String(), b.String()) })
	return slices.CompactFunc(keys, func(a, b confKey) bool { return a.String() == b.String() })
}

// roleFolder is where the project's README says that the role is.
func roleFolder(t *testing.T, role string) string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\| \[` + role + `\]\((\S+)/README.md\)`).FindSubmatch(readme)
	if found == nil {
		t.Fatalf("README.md does not lead to %s", role)
	}
	return string(found[1])
}

// keyFinder reads the packages that structs of keys are in.
type keyFinder struct {
	t        *testing.T
	packages map[string]*keyPackage // by folder
}

type keyPackage struct {
	types   map[string]ast.Expr
	imports map[string]string // paths by the name in the source
}

func (f *keyFinder) load(dir string) *keyPackage {
	f.t.Helper()
	if p := f.packages[dir]; p != nil {
		return p
	}
	p := &keyPackage{types: map[string]ast.Expr{}, imports: map[string]string{}}
	f.packages[dir] = p
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), source, nil, 0)
		if err != nil {
			f.t.Fatal(err)
		}
		p.add(f.t, file)
	}
	return p
}

func (p *keyPackage) add(t *testing.T, file *ast.File) {
	t.Helper()
	for _, i := range file.Imports {
		to, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		name := path.Base(to)
		if i.Name != nil {
			name = i.Name.Name
		}
		p.imports[name] = to
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSpec:
			p.types[n.Name.Name] = n.Type
		case *ast.FuncDecl:
			if n.Name.Name == "UnmarshalJSON" { // its error ends the reading, and DEL would miss what follows
				t.Errorf("%s has a method UnmarshalJSON", file.Name)
			}
		}
		return true
	})
}

// find lists the keys of a type that is written in the folder, as the value of the key at.
func (f *keyFinder) find(dir string, e ast.Expr, at ...string) []confKey {
	f.t.Helper()
	kinds := map[string]string{
		"string": "string", "bool": "bool", "int": "int", "int64": "int", "uint32": "uint", "uint64": "uint",
	}
	switch e := e.(type) {
	case *ast.StarExpr:
		return f.find(dir, e.X, at...)
	case *ast.ArrayType:
		return append([]confKey{{at, "list"}}, f.find(dir, e.Elt, extend(at, "[]")...)...)
	case *ast.MapType:
		return append([]confKey{{at, "object"}}, f.find(dir, e.Value, extend(at, "*")...)...)
	case *ast.StructType:
		return f.fields(dir, e, at)
	case *ast.Ident:
		if kind := kinds[e.Name]; kind != "" {
			return []confKey{{at, kind}}
		}
		if named := f.load(dir).types[e.Name]; named != nil {
			return f.find(dir, named, at...)
		}
	case *ast.SelectorExpr:
		return f.imported(dir, e, at)
	}
	f.t.Fatalf("%s: the key %v has a type that this test does not know: %#v", dir, at, e)
	return nil
}

func (f *keyFinder) fields(dir string, s *ast.StructType, at []string) (keys []confKey) {
	f.t.Helper()
	if len(at) > 0 {
		keys = []confKey{{at, "object"}}
	}
	for _, field := range s.Fields.List {
		tag, read := "", false
		if field.Tag != nil {
			tag, read = reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Lookup("json")
		}
		switch {
		case read:
			name, _, _ := strings.Cut(tag, ",")
			keys = append(keys, f.find(dir, field.Type, extend(at, name)...)...)
		case field.Names == nil: // an embedded struct, whose keys are the outer one's
			for _, k := range f.find(dir, field.Type, at...) {
				if len(k.at) > len(at) {
					keys = append(keys, k)
				}
			}
		}
	}
	return keys
}

func (f *keyFinder) imported(dir string, e *ast.SelectorExpr, at []string) []confKey {
	f.t.Helper()
	name, _ := e.X.(*ast.Ident)
	from := f.load(dir).imports[name.Name]
	switch from + "." + e.Sel.Name {
	case "encoding/json.RawMessage":
		return []confKey{{at, "raw"}}
	case "github.com/containernetworking/cni/pkg/types.DNS":
		fields := reflect.VisibleFields(reflect.TypeFor[types.DNS]())
		source, err := parser.ParseExpr(reflect.StructOf(fields).String())
		if err != nil {
			f.t.Fatal(err)
		}
		return f.find(dir, unquoted(source), at...)
	}
	own, ok := strings.CutPrefix(from, "github.com/cnibox/cnibox/")
	if !ok {
		f.t.Fatalf("%s: the key %v has the type %s.%s, which this test does not know", dir, at, from, e.Sel.Name)
	}
	return f.find(own, ast.NewIdent(e.Sel.Name), at...)
}

// unquoted has the tags of a struct as source files have them: package reflect writes them as strings.
func unquoted(e ast.Expr) ast.Expr {
	ast.Inspect(e, func(n ast.Node) bool {
		if field, ok := n.(*ast.Field); ok && field.Tag != nil {
			if tag, err := strconv.Unquote(field.Tag.Value); err == nil {
				field.Tag.Value = tag
			}
		}
		return true
	})
	return e
}

func extend(at []string, more string) []string { return append(slices.Clone(at), more) }
