package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/command/keys"
	"github.com/cnibox/cnibox/roles"
)

// This file has the keys of each role from the structs that it reads them into, so that a test of all keys is one of new keys as well.

// confKey is a key that a role reads.
type confKey struct {
	at   []string // the way to it from the top; "[]" is an element of a list, "*" any key of an object
	kind string   // what belongs there: string, bool, flag, int, uint, list, object; or raw, if that is not known
}

// String is the key as a README has it.
func (k confKey) String() string {
	return strings.ReplaceAll(strings.Join(k.at, "."), ".[]", "[]")
}

// roleKeys are the keys of the role's configuration, and those that the runner reads.
func roleKeys(t *testing.T, role string) (out []confKey) {
	t.Helper()
	kinds := map[keys.Kind]string{
		keys.Any: "raw", keys.String: "string", keys.Bool: "bool", keys.Flag: "flag", keys.Int: "int", keys.Uint: "uint", keys.List: "list", keys.Object: "object",
	}
	var add func(k *keys.Key, at []string)
	add = func(k *keys.Key, at []string) {
		if len(at) > 0 {
			out = append(out, confKey{at, kinds[k.Kind]})
		}
		for _, sub := range k.Keys {
			add(sub, extend(at, sub.Name))
		}
		if k.Elem != nil {
			add(k.Elem, extend(at, map[bool]string{true: "[]", false: "*"}[k.Kind == keys.List]))
		}
	}
	add(keys.Of(roles.Common()), nil)
	add(keys.OfRole(roleTable()[role]), nil)
	if role == "cnibox" {
		out = append(out, confKey{[]string{"plugins", "[]"}, "object"})
		for _, name := range []string{"type", "capabilities"} {
			add(keys.OfPlugin().Find(name), []string{"plugins", "[]", name})
		}
	}
	slices.SortFunc(out, func(a, b confKey) int { return strings.Compare(a.String(), b.String()) })
	return slices.CompactFunc(out, func(a, b confKey) bool { return a.String() == b.String() })
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

func extend(at []string, more string) []string { return append(slices.Clone(at), more) }

// A method UnmarshalJSON whose error ends the reading would have DEL miss what follows.
func TestNoKeyReadsItself(t *testing.T) {
	t.Parallel()
	method := regexp.MustCompile(`(?m)^func \([^)]*\) UnmarshalJSON\(`)
	for _, pattern := range []string{"roles/*.go", "roles/*/*.go", "ipam/*/*.go", "ipam/dhcp/daemon/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if method.Match(text) {
				t.Errorf("%s has a method UnmarshalJSON", file)
			}
		}
	}
}
